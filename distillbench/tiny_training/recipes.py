"""The order of the trainings, and the folders they write: one function a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import DiffusionPipeline, ModelMixin, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import nn

from distillbench.errors import BadInput
from distillbench.tiny_training import (
    aes,
    bank,
    clip,
    cogvideox,
    controlnet,
    denoise,
    hps,
    inception,
    oracle,
    pixart,
    samples,
    sd3,
    sdxl,
    text,
    towers,
    unet,
    vae,
    video,
)
from distillbench.tiny_training.shared import need as _need
from distillbench.world.oracle import load_net


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Where and how to train; `steps` None means the recipe's own number."""

    out: Path
    steps: int | None = None
    seed: int = 0
    device: str = "cpu"

    @property
    def jobs(self) -> Path:
        """The folder of checkpoints and logs."""
        return self.out / "jobs"

    def options(self) -> dict[str, Any]:
        """The keyword arguments that all trainers share."""
        given = {} if self.steps is None else {"steps": self.steps}
        return given | {"seed": self.seed, "device": self.device}


def train(name: str, run: TrainingRun) -> None:
    """Train one model, or `all` in order. Raises BadInput for another name."""
    if name == "all":
        for each in RECIPES.values():
            each(run)
    elif name in RECIPES:
        RECIPES[name](run)
    else:
        raise BadInput(f"unknown model {name!r}; there are {', '.join(RECIPES)} and all")


def _text(run: TrainingRun) -> None:
    tower, tokenizer, _ = text.train(run.jobs, **run.options())
    tower.save_pretrained(run.out / "tiny-sd" / "text_encoder")
    tokenizer.save_pretrained(run.out / "tiny-sd" / "tokenizer")


def _oracle(run: TrainingRun) -> None:
    net = oracle.train(run.jobs, **run.options())
    save_folder(run.out / "tiny-oracle", net, oracle.CONFIG)


def _vae(run: TrainingRun) -> None:
    critic = load_net(_need(run.out / "tiny-inception", "inception"))
    vae.train(run.jobs, critic, **run.options()).save_pretrained(run.out / "tiny-sd" / "vae")


def _video_vae(run: TrainingRun) -> None:
    critic = load_net(_need(run.out / "tiny-inception", "inception"))
    video.train(run.jobs, critic, **run.options()).save_pretrained(run.out / PARTS["video-vae"])


def _unet(run: TrainingRun) -> None:
    _need(run.out / "tiny-sd" / "text_encoder", "text", "vae")
    _denoiser(unet.FAMILY, run)


def _control(run: TrainingRun) -> None:
    folder = _need(run.out / "tiny-sd" / "unet", "unet").parent
    pipe = StableDiffusionPipeline.from_pretrained(folder).to(run.device)
    steps = run.steps or controlnet.STEPS
    latents = bank.Bank.of(
        run.jobs / "latents", bank.pictures(pipe), pipe.tokenizer, steps=steps, device=run.device,
        shards=controlnet.SHARDS,
    )  # fmt: skip
    net = controlnet.train(
        run.jobs, pipe, latents, steps=steps, seed=run.seed, device=run.device
    )  # fmt: skip
    save_net(net, run.out / controlnet.NAME)


def _tower(kind: towers.Tower) -> Callable[[TrainingRun], None]:
    def recipe(run: TrainingRun) -> None:
        tower, quality = towers.train(kind, run.jobs, **run.options())
        print(kind.job, quality, flush=True)
        tower.save_pretrained(run.out / "parts" / kind.job)

    return recipe


def _with_parts(family: denoise.Family) -> Callable[[TrainingRun], None]:
    """The family's parts that are not there yet, in their own steps; then its denoiser."""

    def recipe(run: TrainingRun) -> None:
        for each in family.needs:
            if not (run.out / PARTS[each]).exists():
                RECIPES[each](replace(run, steps=None))
        _denoiser(family, run)

    return recipe


def _denoiser(family: denoise.Family, run: TrainingRun) -> None:
    steps = run.steps or family.steps
    torch.manual_seed(run.seed)
    pipeline = family.assemble(run.out, family.build()).to(run.device)
    latents = bank.Bank.of(
        run.jobs / family.bank, family.encoded(pipeline), pipeline.tokenizer, steps=steps,
        device=run.device, shards=family.shards, batch=family.batch,
    )  # fmt: skip
    denoise.train(
        family, run.jobs, pipeline, latents, steps=steps, seed=run.seed, device=run.device
    )
    save_pipeline(pipeline, run.out / family.name)


def _clip(run: TrainingRun) -> None:
    save_clip(run.out / "tiny-clip", clip.train(run.jobs, **run.options()))


def _hps(run: TrainingRun) -> None:
    base = load_clip(_need(run.out / "tiny-clip", "clip"))
    folder = _need(run.out / "tiny-sd" / "unet", "unet").parent
    teacher = StableDiffusionPipeline.from_pretrained(folder).to(run.device)
    count = samples.COUNT if run.steps is None else min(samples.COUNT, run.steps * hps.BATCH)
    bank = samples.make(
        run.jobs,
        lambda captions, steps, scale, seed: samples.sample(
            teacher, captions, steps=steps, guidance=scale, seed=seed
        ),
        count=count,
    )
    save_clip(run.out / "tiny-hps", hps.train(run.jobs, base, bank, **run.options()))


def _aes(run: TrainingRun) -> None:
    base = load_clip(_need(run.out / "tiny-hps", "hps"))
    head = aes.train(run.jobs, base, **run.options())
    save_folder(run.out / "tiny-aes", head, {"widths": list(aes.WIDTHS)})


def _inception(run: TrainingRun) -> None:
    save_folder(
        run.out / "tiny-inception", inception.train(run.jobs, **run.options()), inception.CONFIG
    )


FAMILIES: Final = (unet.FAMILY, sd3.FAMILY, sdxl.FAMILY, pixart.FAMILY, cogvideox.FAMILY)
RECIPES: Final[Mapping[str, Callable[[TrainingRun], None]]] = {
    "text": _text,
    "oracle": _oracle,
    "inception": _inception,
    "vae": _vae,
    "unet": _unet,
    "clip": _clip,
    "hps": _hps,
    "aes": _aes,
    "text-2": _tower(towers.CLIP_2),
    "text-t5": _tower(towers.T5),
    "video-vae": _video_vae,
    **{family.name: _with_parts(family) for family in FAMILIES[1:]},
    controlnet.NAME: _control,
}
PARTS: Final[Mapping[str, str]] = {
    "text": "tiny-sd/text_encoder",
    "inception": "tiny-inception",
    "vae": "tiny-sd/vae",
    "text-2": "parts/text-2",
    "text-t5": "parts/text-t5",
    "video-vae": "tiny-cogvideox/vae",
}
"""Recipes of the parts that families share, and the folders they leave."""


def save_folder(folder: Path, net: nn.Module, config: Mapping[str, Any]) -> None:
    """`config.json` and `model.safetensors` in half precision."""
    _save(folder, net, "model.safetensors", "config.json", config)


def save_clip(folder: Path, net: nn.Module) -> None:
    """The folder form that open_clip loads as `local-dir:`; half precision."""
    preprocess = {"mean": list(clip.MEAN), "std": list(clip.STD), "resize_mode": "longest"}
    config = {"model_cfg": clip.CONFIG, "preprocess_cfg": preprocess}
    _save(folder, net, "open_clip_model.safetensors", "open_clip_config.json", config)


def load_clip(folder: Path) -> nn.Module:
    """tiny-clip or tiny-hps in full precision."""
    net = clip.build()
    state = load_file(folder / "open_clip_model.safetensors")
    net.load_state_dict({k: v.float() for k, v in state.items()})
    return net.eval()


def save_pipeline(pipeline: DiffusionPipeline, folder: Path) -> None:
    """`save_pretrained` in half precision, of parts that load in full precision."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.half()
    pipeline.to("cpu").save_pretrained(folder, safe_serialization=True)
    for config in (folder / "model_index.json", *folder.glob("*/config.json")):
        _tidy(config)
    # The tokenizer's class has this name in every release of transformers that we accept.
    for config in (folder / "model_index.json", *folder.glob("tokenizer*/tokenizer_config.json")):
        text = config.read_text(encoding="utf-8")
        renamed = text.replace("TokenizersBackend", "PreTrainedTokenizerFast")
        config.write_text(renamed, encoding="utf-8")


def save_net(net: ModelMixin, folder: Path) -> None:
    """`save_pretrained` of one diffusers network in half precision."""
    net.half().to("cpu").save_pretrained(folder, safe_serialization=True)
    _tidy(folder / "config.json")


def _tidy(config: Path) -> None:
    """Settings without the local path that a part came from, which diffusers notes."""
    facts = json.loads(config.read_text(encoding="utf-8"))
    facts.pop("_name_or_path", None)
    if "dtype" in facts:  # transformers loads in it, whatever the weights are stored in
        facts["dtype"] = "float32"
    config.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _save(folder: Path, net: nn.Module, weights: str, name: str, config: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().half().contiguous() for k, v in net.state_dict().items()}
    save_file(state, str(folder / weights))
    (folder / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


__all__ = ["RECIPES", "TrainingRun", "load_clip", "load_net", "save_clip", "save_folder", "train"]
