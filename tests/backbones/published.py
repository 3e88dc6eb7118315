"""Weights of others in their own formats, made small: the same names, shapes of a tiny network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from distillbench.api import registry
from distillbench.specs.context import StageContext
from distillbench.specs.stages import TrainSpec
from distillbench.student.files import Student, load_student
from distillbench.testing.specs import train_spec
from distillbench.train.loop import train_stage

Layers = Mapping[str, tuple[Tensor, Tensor, float]]
"""Path of a layer -> down, up, alpha."""


def layers_of(
    module: nn.Module, *, most: int = 1000, every_linear: bool = False, seed: int = 0
) -> Layers:
    """Random factors for a network's layers, ranks 2 to 5 and alphas of 1 to 6."""
    rng = torch.Generator().manual_seed(seed)
    found: dict[str, tuple[Tensor, Tensor, float]] = {}
    for name, layer in module.named_modules():
        linear, conv = isinstance(layer, nn.Linear), isinstance(layer, nn.Conv2d)
        inside = "blocks" in name or "mid_block" in name
        if not (linear or conv) or not inside or (every_linear and not linear):
            continue
        rank, (wide, narrow) = 2 + len(found) % 4, layer.weight.shape[:2]
        size = layer.weight.shape[2:]
        down = 0.3 * torch.randn(rank, narrow, *size, generator=rng)
        up = 0.3 * torch.randn(wide, rank, *[1] * len(size), generator=rng)
        found[name] = (down, up, float(1 + len(found) % 6))
        if len(found) == most:
            break
    return found


def kohya(layers: Layers) -> dict[str, Tensor]:
    out = {}
    for name, (down, up, alpha) in layers.items():
        flat = f"lora_unet_{name.replace('.', '_')}"
        out |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up,
                f"{flat}.alpha": torch.tensor(alpha)}  # fmt: skip
    return out


def comfy(layers: Layers) -> dict[str, Tensor]:
    out = {}
    for name, (down, up, alpha) in layers.items():
        plain = f"diffusion_model.{name}"
        out |= {f"{plain}.lora_down.weight": down, f"{plain}.lora_up.weight": up,
                f"{plain}.alpha": torch.tensor(alpha)}  # fmt: skip
    return out


def diffusers(layers: Layers, part: str = "unet") -> dict[str, Tensor]:
    """Without metadata alpha is the rank, so it is part of the factors here."""
    out = {}
    for name, (down, up, alpha) in layers.items():
        out |= {f"{part}.{name}.lora_A.weight": down,
                f"{part}.{name}.lora_B.weight": up * alpha / len(down)}  # fmt: skip
    return out


def peft(layers: Layers, folder: Path) -> Path:
    """A folder as peft saves it, with a rank and an alpha of its own for each layer."""
    folder.mkdir()
    out = {}
    for name, (down, up, _) in layers.items():
        plain = f"base_model.model.{name}"
        out |= {f"{plain}.lora_A.weight": down, f"{plain}.lora_B.weight": up}
    save_file(out, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": list(layers),
        "rank_pattern": {n: len(down) for n, (down, _, _) in layers.items()},
        "alpha_pattern": {n: alpha for n, (_, _, alpha) in layers.items()},
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged(module: nn.Module, layers: Layers, scale: float = 1.0) -> dict[str, Tensor]:
    """The weights with the factors multiplied out by hand."""
    weights = {k: v.clone() for k, v in module.state_dict().items()}
    for name, (down, up, alpha) in layers.items():
        product = (up.flatten(1) @ down.flatten(1)).reshape(weights[f"{name}.weight"].shape)
        weights[f"{name}.weight"] += scale * alpha / len(down) * product
    return weights


def adopted(
    out: Path, backbone: str, settings: Mapping[str, Any], params: Mapping[str, Any]
) -> Student:
    """The student that the stages of a `pretrained` row make of weights."""
    built = registry.build_backbone(backbone, settings)
    method = registry.build_method("pretrained", params, built)
    published = method.published()
    assert published is not None
    spec = train_spec("pretrained", params, backbone=backbone, backbone_params=settings,
                      prompts="gmm-train")  # fmt: skip
    spec |= {"train": {}, "data": {}}
    spec["method"]["weights"] = published.identity()
    out.mkdir(parents=True)
    typed = TrainSpec.read(spec, of="it")
    train_stage(typed, StageContext(), out=out, checkpoints=out / "none")
    return load_student(out)
