"""What a teacher must show before it is shipped: reconstruction, right samples, and headroom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)
from numpy.typing import NDArray
from PIL.Image import fromarray
from torch import Tensor

from distillbench.tiny_training import aes, clip, controlnet, inception, recipes, vae, video
from distillbench.tiny_training.samples import sample
from distillbench.world.clips import FRAMES, clips_of
from distillbench.world.data import renders_of
from distillbench.world.oracle import as_floats, judge, load_net
from distillbench.world.prompts import prompt_set

GUIDANCE: Final[Mapping[str, float]] = {
    "tiny-sd": 1.4,
    "tiny-sdxl": 2.0,
    "tiny-pixart": 2.0,
    "tiny-sd3": 2.0,
    "tiny-cogvideox": 3.0,
}
"""Of 1.4, 2 and 3 the scale at which 25 steps are nearest to real pictures, or little further and
follow captions better; that of clips by captions alone; USUAL for others."""
USUAL: Final = 2.0
GUIDANCES: Final = (1.0, 2.0, 3.0, 5.0, 8.0)
STEP_COUNTS: Final = (1, 4, 25)
TURNS: Final = 5  # samples a prompt for the Frechet distance: 5,120
CONTROLLED: Final = 256  # prompts with edges
CLIP_TURNS: Final = 4  # the same of clips: 1,024
RENDER_SEED: Final = 77
Images = NDArray[np.uint8]
Figures = dict[str, Any]


class Scorers:
    """The shipped scorers over pictures of one prompt list, and renders to compare with."""

    def __init__(self, root: Path, prompts: tuple[str, ...], *, turns: int = TURNS) -> None:
        self.prompts = prompts
        self.judge = load_net(root / "tiny-oracle")
        self.net = load_net(root / "tiny-inception")
        self.clip, self.hps = (recipes.load_clip(root / n) for n in ("tiny-clip", "tiny-hps"))
        self.head = load_head(root / "tiny-aes")
        self.texts = clip.tokenizer()(prompts)
        self.real = self.features(renders_of(prompts * turns, seed=RENDER_SEED + 1))

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
        """Scores of one picture a prompt; `hps_spread` is the deviation over prompts."""
        score = self.cosine(self.hps, images)
        x = clip.normalise(images)
        beauty = self.head(self.hps.encode_image(x, normalize=True))  # type: ignore[operator]
        return {
            "all_right": judge(images, self.prompts, net=self.judge).accuracies()["all"],
            "hps": float(score.mean()),
            "hps_spread": float(score.std(ddof=1)),
            "hps_stderr": float(score.std(ddof=1) / len(score) ** 0.5),
            "clip": float(self.cosine(self.clip, images).mean()),
            "aes": float(beauty.mean()),
        }

    def whole(self, images: Images) -> Figures:
        """Those of the first picture of each prompt, and the distance of all to real pictures."""
        found = self.figures(images[: len(self.prompts)])
        return found | {"fid": inception.frechet(self.features(images), self.real)}


def measure_teacher(root: Path, name: str = "tiny-sd") -> Figures:
    """Reconstruction, then samples of 1,024 held-out captions by steps and by guidance scale."""
    prompts, guidance = prompt_set("world-eval").prompts, GUIDANCE.get(name, USUAL)
    scorers = Scorers(root, prompts)
    renders = renders_of(prompts * TURNS, seed=RENDER_SEED)
    pipeline = DiffusionPipeline.from_pretrained(root / name)
    rebuilt = vae.reconstruct(pipeline.vae, renders[: len(prompts)])
    table = {
        f"steps-{n}": scorers.whole(sample(pipeline, prompts * TURNS, steps=n, guidance=guidance))
        for n in STEP_COUNTS
    }
    guided = {
        f"{scale:g}": scorers.figures(sample(pipeline, prompts, steps=25, guidance=scale))
        for scale in GUIDANCES
    }
    return {
        "n": len(prompts),
        "n_fid": len(renders),
        "guidance": guidance,
        "reconstruction_psnr_db": float(vae.psnr(renders[: len(prompts)], rebuilt).mean()),
        "reconstruction_attributes": judge(rebuilt, prompts, net=scorers.judge).accuracies(),
        "renders": scorers.whole(renders),
        "samples": table,
        "guidance_scales": guided,
        "gates": gates(table),
    }


def measure_clips(root: Path, name: str = "tiny-cogvideox") -> Figures:
    """As `measure_teacher`, of 256 held-out captions of clips.

    Scored are the middle frames, in which everything is where the caption says. `change` is the
    mean difference of neighbouring frames, in grey levels.
    """
    prompts, guidance = prompt_set("world-video-eval").prompts, GUIDANCE.get(name, USUAL)
    scorers = Scorers(root, prompts, turns=CLIP_TURNS)
    real = clips_of(prompts * CLIP_TURNS, seed=RENDER_SEED)
    pipeline = DiffusionPipeline.from_pretrained(root / name)
    rebuilt = video.reconstruct(pipeline.vae, real[: len(prompts)])

    def figures(clips: Images) -> Figures:
        steps = np.abs(np.diff(clips.astype(np.int16), axis=1))
        return scorers.whole(_middles(clips)) | {"change": float(steps.mean())}

    table = {
        f"steps-{n}": figures(sample(pipeline, prompts * CLIP_TURNS, steps=n, guidance=guidance))
        for n in STEP_COUNTS
    }
    guided = {
        f"{scale:g}": scorers.figures(_middles(sample(pipeline, prompts, steps=25, guidance=scale)))
        for scale in GUIDANCES
    }
    right = judge(_middles(rebuilt), prompts, net=scorers.judge).accuracies()
    return {
        "n": len(prompts),
        "n_fid": len(real),
        "guidance": guidance,
        "reconstruction_psnr_db": float(vae.psnr(real[: len(prompts)], rebuilt).mean()),
        "reconstruction_attributes": right,
        "renders": figures(real),
        "samples": table,
        "guidance_scales": guided,
        "gates": gates(table),
    }


def _middles(clips: Images) -> Images:
    """The middle frame of each clip (N, frames, H, W, 3)."""
    return clips[:, FRAMES // 2]


def measure_control(root: Path) -> Figures:
    """How far samples follow the edges of real pictures of their captions, and are right.

    Without the ControlNet it is chance, and what the autoencoder gives back of these pictures is
    the most there can be.
    """
    prompts = prompt_set("world-eval").prompts[:CONTROLLED]
    real, guidance = renders_of(prompts, seed=RENDER_SEED), GUIDANCE["tiny-sd"]
    asked = controlnet.edge_maps(real)
    plain = StableDiffusionPipeline.from_pretrained(root / "tiny-sd")
    net = ControlNetModel.from_pretrained(root / controlnet.NAME)
    steered = StableDiffusionControlNetPipeline(**plain.components, controlnet=net)
    shown = [fromarray(np.stack([edges] * 3, -1)) for edges in asked]
    pictures = {
        "with": sample(steered, prompts, steps=25, guidance=guidance, shown=shown),
        "without": sample(plain, prompts, steps=25, guidance=guidance),
        "rebuilt": vae.reconstruct(plain.vae, real),
    }
    judged = load_net(root / "tiny-oracle")
    return {
        "n": len(prompts),
        "guidance": guidance,
        "edges_followed": {
            name: controlnet.followed(asked, controlnet.edge_maps(images))
            for name, images in pictures.items()
        },
        "all_right": {
            name: judge(images, prompts, net=judged).accuracies()["all"]
            for name, images in pictures.items()
        },
    }


def gates(table: dict[str, Figures]) -> Figures:
    """How hard few steps are, in deviations over prompts of the score and as a ratio of FID."""
    many, few, one = (table[f"steps-{n}"] for n in (25, 4, 1))
    return {
        "hps_spreads_4_below_25": (many["hps"] - few["hps"]) / many["hps_spread"],
        "hps_spreads_1_below_25": (many["hps"] - one["hps"]) / many["hps_spread"],
        "fid_4_over_25": few["fid"] / many["fid"],
    }


def load_head(folder: Path) -> aes.Head:
    from safetensors.torch import load_file

    head = aes.Head()
    head.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return head.eval()
