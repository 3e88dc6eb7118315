"""Measured quality of the tiny world's models on held-out data: the gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor

from distillbench.tiny_training import aes, clip, degrade, hps, inception, recipes, vae
from distillbench.world.data import draws, renders_of
from distillbench.world.oracle import Judgement, as_floats, judge, load_net
from distillbench.world.prompts import prompt_set

GUIDANCE: Final = 3.0
STEP_COUNTS: Final = (1, 2, 4, 8, 25)
RENDER_SEED: Final = 77
Images = NDArray[np.uint8]
Figures = dict[str, Any]


def sample(
    pipeline: StableDiffusionPipeline,
    prompts: tuple[str, ...],
    *,
    steps: int,
    guidance: float = GUIDANCE,
    seed: int = 0,
    batch: int = 64,
) -> Images:
    """DDIM samples (N, 32, 32, 3), each from its own noise: (seed, position) alone decide it."""
    pipeline.set_progress_bar_config(disable=True)
    shape = (pipeline.unet.config.in_channels, 8, 8)
    parts = []
    for first in range(0, len(prompts), batch):
        some = list(prompts[first : first + batch])
        seeds = [seed * 1_000_003 + first + i for i in range(len(some))]
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        out = pipeline(
            prompt=some,
            latents=torch.stack(noise),
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="np",
        ).images
        parts.append((out * 255).round().astype(np.uint8))
    return np.concatenate(parts)


class Scorers:
    """The shipped scorers over pictures of one prompt list, and renders to compare with."""

    def __init__(self, root: Path, prompts: tuple[str, ...]) -> None:
        self.prompts = prompts
        self.judge = load_net(root / "tiny-oracle")
        self.net = load_net(root / "tiny-inception")
        self.clip, self.hps = (recipes.load_clip(root / n) for n in ("tiny-clip", "tiny-hps"))
        self.head = _head(root / "tiny-aes")
        self.texts = clip.tokenizer()(prompts)
        self.real = self.features(renders_of(prompts * 4, seed=RENDER_SEED + 1))

    @torch.no_grad()
    def features(self, images: Images) -> Tensor:
        """(N, 96) features of the tiny Frechet distance."""
        return torch.cat([self.net.embed(x) for x in torch.split(as_floats(images), 256)])

    @torch.no_grad()
    def cosine(self, model: torch.nn.Module, images: Images) -> NDArray[np.float64]:
        """(N,) 100 x cosine of picture and prompt."""
        parts = []
        for x, ids in zip(
            torch.split(clip.normalise(images), 256), torch.split(self.texts, 256), strict=True
        ):
            image = model.encode_image(x, normalize=True)  # type: ignore[operator]
            text = model.encode_text(ids, normalize=True)  # type: ignore[operator]
            parts.append(100 * (image * text).sum(1))
        return torch.cat(parts).double().numpy()

    @torch.no_grad()
    def figures(self, images: Images) -> Figures:
        """All scores of the pictures, with the standard error of the preference score."""
        score = self.cosine(self.hps, images)
        x = clip.normalise(images)
        beauty = self.head(self.clip.encode_image(x, normalize=True))  # type: ignore[operator]
        return {
            "all_right": judge(images, self.prompts, net=self.judge).accuracies()["all"],
            "hps": float(score.mean()),
            "hps_stderr": float(score.std(ddof=1) / len(score) ** 0.5),
            "clip": float(self.cosine(self.clip, images).mean()),
            "aes": float(beauty.mean()),
            "fid": inception.frechet(self.features(images), self.real),
        }


def measure_sd(root: Path) -> Figures:
    """Reconstruction, then samples of 1,024 held-out one-object captions at each step count."""
    prompts = prompt_set("world-eval").prompts
    scorers = Scorers(root, prompts)
    renders = renders_of(prompts, seed=RENDER_SEED)
    autoencoder = AutoencoderKL.from_pretrained(root / "tiny-sd" / "vae").eval()
    rebuilt = vae.reconstruct(autoencoder, renders)
    pipeline = StableDiffusionPipeline.from_pretrained(root / "tiny-sd")
    table = {f"ddim-{n}": scorers.figures(sample(pipeline, prompts, steps=n)) for n in STEP_COUNTS}
    few, many = table["ddim-4"], table["ddim-25"]
    spread = (few["hps_stderr"] ** 2 + many["hps_stderr"] ** 2) ** 0.5
    return {
        "n": len(prompts),
        "guidance": GUIDANCE,
        "reconstruction_psnr_db": float(vae.psnr(renders, rebuilt).mean()),
        "reconstruction_attributes": judge(rebuilt, prompts, net=scorers.judge).accuracies(),
        "renders": scorers.figures(renders),
        "samples": table,
        "headroom_stderrs_4_to_25": (many["hps"] - few["hps"]) / spread,
    }


def measure_oracle(root: Path) -> Figures:
    """Accuracy on fresh renders of held-out captions."""
    prompts = prompt_set("world-eval").prompts
    judgement: Judgement = judge(
        renders_of(prompts, seed=RENDER_SEED), prompts, net=load_net(root / "tiny-oracle")
    )
    return {"n": len(prompts), "accuracy": judgement.accuracies()}


def measure_clip(root: Path) -> Figures:
    """Held-out retrieval."""
    model = recipes.load_clip(root / "tiny-clip")
    return {"n": 1280, "retrieval_top1_of_64": clip.retrieval(model)}


def measure_hps(root: Path) -> Figures:
    """Held-out preference pairs."""
    model = recipes.load_clip(root / "tiny-hps")
    return {"n": 40 * hps.BATCH, "pair_accuracy": hps.pair_accuracy(model)}


def measure_aes(root: Path) -> Figures:
    """Rank correlation with the true grade."""
    model = recipes.load_clip(root / "tiny-clip")
    return {"n": 2000, "spearman": aes.rank_correlation(_head(root / "tiny-aes"), model)}


def measure_inception(root: Path, *, count: int = 2000) -> Figures:
    """The Frechet distance of ever more degraded renders to fresh ones."""
    net, index = load_net(root / "tiny-inception"), np.arange(count)
    drawn = draws(90, index, heldout=True)
    clean, more = degrade.renders(drawn, 91, index)
    fresh = _embed(net, degrade.renders(drawn, 92, index, extra=1)[0])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    table: Figures = {}
    for code, kind in enumerate(degrade.KINDS):
        codes = torch.full((count,), code)
        levels = (0.0, 0.1, 0.25, 0.5, 1.0)
        harmed = (
            degrade.degrade(clean, more, codes, torch.full((count,), level), noise)
            for level in levels
        )
        table[kind] = {
            str(level): inception.frechet(_embed(net, x), fresh)
            for level, x in zip(levels, harmed, strict=True)
        }
    return {"n": count, "fid_by_level": table | {"wrong": _wrong(net, fresh, count)}}


MEASURES: Final[Mapping[str, Callable[[Path], Figures]]] = {
    "tiny-oracle": measure_oracle,
    "tiny-clip": measure_clip,
    "tiny-hps": measure_hps,
    "tiny-aes": measure_aes,
    "tiny-inception": measure_inception,
    "tiny-sd": measure_sd,
}


def _wrong(net: torch.nn.Module, fresh: Tensor, count: int) -> Figures:
    """Renders of which a share shows another scene than the caption asks: one style only."""
    index = np.arange(count)
    drawn = draws(90, index, heldout=True)
    out: Figures = {}
    for share in (0.0, 0.1, 0.25, 0.5, 1.0):
        scenes = drawn.scenes()
        swap = np.array([s.style == "painting" for s in scenes])
        keep = np.flatnonzero(~swap | (index % 100 >= 100 * share))
        rows = np.resize(keep, count)
        x, _ = degrade.renders(draws(90, rows, heldout=True), 93, index, extra=1)
        out[str(share)] = inception.frechet(_embed(net, x), fresh)
    return out


@torch.no_grad()
def _embed(net: torch.nn.Module, x: Tensor) -> Tensor:
    return torch.cat([net.embed(part) for part in torch.split(x, 256)])  # type: ignore[operator]


def _head(folder: Path) -> aes.Head:
    from safetensors.torch import load_file

    head = aes.Head()
    head.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return head.eval()
