"""A trained student as files that diffusers (or, where it loads no adapters, peft) reads.

An adapter becomes `pytorch_lora_weights.safetensors` with its rank and alpha in the metadata: left
out, alpha defaults to another value and the student is silently an eighth of itself. A full copy
becomes a network folder. Beside them lie the scheduler that takes the student's very steps,
`recipe.json` with every argument of the pipeline's call, and a README with the code to run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
from safetensors.torch import save_file
from torch import Tensor

from distillbench.backbones._network import base_weights
from distillbench.backbones._pipeline import PipelineBackbone
from distillbench.errors import NotSupported
from distillbench.sample.sampler import Sampler
from distillbench.sample.solvers import from_recipe
from distillbench.store.io import require_folder, storage_guard
from distillbench.train.card import write_card
from distillbench.train.conditions import DIM
from distillbench.train.export import load_student
from distillbench.train.nets import NetHandle
from distillbench.train.schedulers import Followed, follow
from distillbench.train.state import write_json
from distillbench.train.trial import Teacher

__all__ = ["export_student"]

LORA_FILE = "pytorch_lora_weights.safetensors"


def export_student(
    train_dir: Path, out: Path, *, nfe: int | None = None, device: str = "cpu"
) -> list[Path]:
    """Write the student of a finished training into the empty folder `out`; returns its files.

    Nothing of a failed export stays.

    Args:
        nfe: network evaluations of the recipe written along; None is the training's default.

    Raises:
        NotSupported: nothing was trained, the backbone is no diffusers pipeline, or the method is
            not sampled with `nfe` evaluations.
        BadInput: `out` is a file, or holds files already.
    """
    require_folder(out, empty=True)
    student = load_student(train_dir, device)
    backbone, net = student.method.backbone, student.net
    if net is None:
        raise NotSupported(f"{student.method.name} trains no student, so there is none to export")
    if not isinstance(backbone, PipelineBackbone):
        raise NotSupported(f"students of backbone {backbone.name} have no diffusers form")
    record = json.loads((train_dir / "recipe.json").read_text(encoding="utf-8"))
    recipe = from_recipe(record["default"]) if nfe is None else student.method.sampler(nfe)
    existed = out.is_dir()
    try:
        with storage_guard(out / "recipe.json"):
            out.mkdir(parents=True, exist_ok=True)
            _write(train_dir, out, backbone, net, {**record, "sampler": recipe})
    except BaseException:
        for path in out.iterdir() if out.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if out.is_dir() and not existed:
            out.rmdir()
        raise
    return sorted(path for path in out.rglob("*") if path.is_file())


def _write(
    train_dir: Path,
    out: Path,
    backbone: PipelineBackbone,
    net: NetHandle,
    record: Mapping[str, Any],
) -> None:
    kind = json.loads((train_dir / "net.json").read_text(encoding="utf-8"))["kind"]
    # Nobody else has the base of an adapter on a trained teacher: it goes along, merged.
    merged = kind == "lora" and bool(record.get("teacher"))
    adapter = kind == "lora" and not merged
    write = _write_merged if merged else _write_adapter if adapter else _write_copy
    left_out = write(out, backbone, net)
    if left_out:
        save_file(left_out, out / "conditions.safetensors")
    sampler: Sampler = record["sampler"]
    followed = follow(sampler, _teacher(backbone))
    followed.scheduler.save_pretrained(out / "scheduler")
    recipe = _recipe(backbone, record, sampler, followed, adapter, sorted(left_out))
    recipe["training"] = train_dir.resolve().name
    write_json(out / "recipe.json", recipe)
    write_card(out, backbone, recipe)


def _teacher(backbone: PipelineBackbone) -> Teacher:
    return Teacher(backbone.process, backbone.prediction_type, dict(backbone.pipe.scheduler.config))


def _split(net: NetHandle) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network's own tensors, and those of its scalar conditions."""
    inside: dict[str, Tensor] = {}
    conditions: dict[str, Tensor] = {}
    for name, tensor in net.tensors().items():
        (conditions if name.startswith("conditions.") else inside)[name] = tensor
    return inside, conditions


def _write_adapter(out: Path, backbone: PipelineBackbone, net: NetHandle) -> dict[str, Tensor]:
    tensors, conditions = _split(net)
    module: Any = net.module
    config = module.peft_config[net.name]
    if not hasattr(backbone.pipe, "load_lora_weights"):
        config.save_pretrained(out)
        peft = {f"base_model.model.{n}": v for n, v in tensors.items()}
        save_file(peft, out / "adapter_model.safetensors", {"format": "pt"})
        return conditions
    part = backbone.network
    settings = {f"{part}.{k}": _plain(v) for k, v in config.to_dict().items()}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(settings, sort_keys=True)}
    save_file({f"{part}.{n}": v for n, v in tensors.items()}, out / LORA_FILE, metadata)
    return conditions


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


def _write_copy(out: Path, backbone: PipelineBackbone, net: NetHandle) -> dict[str, Tensor]:
    """The network; an embedded guidance scale goes where LCM pipelines look for it."""
    tensors, conditions = _split(net)
    module: Any = net.module
    config = dict(module.config)
    if backbone.network == "unet" and "conditions.guidance.weight" in conditions:
        config["time_cond_proj_dim"] = DIM
        weight = conditions.pop("conditions.guidance.weight")
        tensors["time_embedding.cond_proj.weight"] = weight
    whole = type(module).from_config(config)
    whole.load_state_dict({**module.state_dict(), **tensors})
    whole.save_pretrained(out / backbone.network)
    return conditions


def _write_merged(out: Path, backbone: PipelineBackbone, net: NetHandle) -> dict[str, Tensor]:
    """The frozen network with the adapter added to it."""
    _, conditions = _split(net)
    module: Any = net.module
    backbone.adopt(net)
    whole = type(module).from_config(module.config)
    whole.load_state_dict(base_weights(module))
    whole.save_pretrained(out / backbone.network)
    return conditions


def _recipe(
    backbone: PipelineBackbone,
    record: Mapping[str, Any],
    sampler: Sampler,
    followed: Followed,
    adapter: bool,
    left_out: list[str],
) -> dict[str, Any]:
    """How to rebuild and sample the student outside this package."""
    base = backbone.config.model_dump(mode="json")
    loader = "load_lora_weights" if hasattr(backbone.pipe, "load_lora_weights") else "PeftModel"
    limits = _limits(sampler, followed, left_out)
    call = _call(backbone, sampler, followed, left_out)
    recipe = {
        "pipeline": backbone.pipeline,
        "base": {"backbone": backbone.name, "params": base, "revision": backbone.revision()},
        "load_with": loader if adapter else f"from_pretrained, subfolder {backbone.network}",
        "precision": record["precision"],
        "method": record["method"],
        "scheduler": type(followed.scheduler).__name__,
        "sampler": sampler.model_dump(mode="json"),
        "call": call,
        "guidance_scale": call["guidance_scale"],
        "num_inference_steps": len(sampler.timesteps),
        "timesteps": list(sampler.timesteps),
        "diffusers_ignores": list(limits),
        "limits": limits,
    }
    if followed.sigmas is not None:  # what its pipelines take in the place of times
        recipe["sigmas"] = followed.sigmas
    return recipe | ({"eta": call["eta"]} if "eta" in call else {})


def _call(
    backbone: PipelineBackbone, sampler: Sampler, followed: Followed, left_out: list[str]
) -> dict[str, Any]:
    """Every argument of the pipeline's call but prompt and generator."""
    embeds = sampler.embed_scale is not None and "conditions.guidance.weight" not in left_out
    scale = sampler.embed_scale if embeds else sampler.guidance_scale
    known = signature(getattr(diffusers, backbone.pipeline).__call__).parameters
    eta = {"eta": float(getattr(sampler, "gamma", 0.0))} if "eta" in known else {}
    return {**followed.times, "guidance_scale": scale, **eta, **backbone.call_arguments()}


def _limits(sampler: Sampler, followed: Followed, left_out: list[str]) -> dict[str, str]:
    """What of the recipe a diffusers pipeline cannot follow, and why: other samples than ours."""
    limits = dict(followed.limits)
    if left_out:
        named = sorted({name.split(".")[1 if "guidance" in name else 2] for name in left_out})
        why = f"the network also takes {' and '.join(named)}, which its pipeline does not feed"
        limits = {"conditions.safetensors": why, **limits}
    scale = sampler.guidance_scale
    if scale < 1 or (scale != 1 and sampler.embed_scale is not None):
        why = "the pipeline guides only above scale 1, and no network that embeds its scale"
        limits["sampler.guidance_scale"] = why
    return limits
