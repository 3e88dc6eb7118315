"""A trained student as files that diffusers (or, where it loads no adapters, peft) reads.

An adapter becomes `pytorch_lora_weights.safetensors` with its rank and alpha in the metadata: left
out, alpha defaults to another value and the student is silently an eighth of itself. A full copy
becomes a network folder. Beside them lie a scheduler and `recipe.json`, which says how to sample.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
from safetensors.torch import save_file
from torch import Tensor

from distillbench.backbones._network import base_weights
from distillbench.backbones._pipeline import PipelineBackbone
from distillbench.errors import BadInput, NotSupported
from distillbench.train.conditions import DIM
from distillbench.train.export import load_student
from distillbench.train.nets import NetHandle
from distillbench.train.state import write_json

__all__ = ["export_student"]

LORA_FILE = "pytorch_lora_weights.safetensors"
SCHEDULERS = {
    "renoise": "LCMScheduler",
    "gamma": "TCDScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpmsolver++": "DPMSolverMultistepScheduler",
    "dpmsolver++2s": "DPMSolverSinglestepScheduler",
}
# Families with a schedule of their own have schedulers of their own, each for some samplers.
FOLLOWED = {
    "CogVideoXDDIMScheduler": ("ddim", "euler"),
    "FlowMatchEulerDiscreteScheduler": ("ddim", "euler"),
    "FlowMatchLCMScheduler": ("renoise",),
}


def export_student(train_dir: Path, out: Path, *, device: str = "cpu") -> list[Path]:
    """Write the student of a finished training into the empty folder `out`; returns its files.

    Raises:
        NotSupported: nothing was trained, or the backbone is no diffusers pipeline.
        BadInput: `out` holds files already.
    """
    if out.exists() and any(out.iterdir()):
        raise BadInput(f"{out}: is not empty", hint="name another folder to export into")
    student = load_student(train_dir, device)
    backbone, net = student.method.backbone, student.net
    if net is None:
        raise NotSupported(f"{student.method.name} trains no student, so there is none to export")
    if not isinstance(backbone, PipelineBackbone):
        raise NotSupported(f"students of backbone {backbone.name} have no diffusers form")
    out.mkdir(parents=True, exist_ok=True)
    record = json.loads((train_dir / "recipe.json").read_text(encoding="utf-8"))
    kind = json.loads((train_dir / "net.json").read_text(encoding="utf-8"))["kind"]
    # Nobody else has the base of an adapter on a trained teacher: it goes along, merged.
    merged = kind == "lora" and bool(record.get("teacher"))
    adapter = kind == "lora" and not merged
    write = _write_merged if merged else _write_adapter if adapter else _write_copy
    left_out = write(out, backbone, net)
    if left_out:
        save_file(left_out, out / "conditions.safetensors")
    scheduler = _write_scheduler(out, backbone, record["default"])
    write_json(out / "recipe.json", _recipe(backbone, record, scheduler, adapter, bool(left_out)))
    return sorted(path for path in out.rglob("*") if path.is_file())


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


def _write_scheduler(out: Path, backbone: PipelineBackbone, sampler: Mapping[str, Any]) -> Any:
    """The scheduler of the recipe; a family with a schedule of its own keeps its scheduler."""
    scheduler, kind = backbone.pipe.scheduler, _solver(sampler)
    if backbone.process_kind == "flow":
        if kind == "renoise":
            scheduler = diffusers.FlowMatchLCMScheduler.from_config(scheduler.config)
    else:
        own = "snr_shift_scale" in scheduler.config
        made = type(scheduler) if own else getattr(diffusers, SCHEDULERS[kind])
        clean = {"set_alpha_to_one": True} if sampler.get("end") == "clean" else {}
        scheduler = made.from_config(scheduler.config, timestep_spacing="trailing", **clean)
    scheduler.save_pretrained(out / "scheduler")
    return scheduler


def _solver(sampler: Mapping[str, Any]) -> str:
    return str(sampler.get("solver", "") if sampler["kind"] == "ode" else sampler["kind"])


def _recipe(
    backbone: PipelineBackbone,
    record: Mapping[str, Any],
    scheduler: Any,
    adapter: bool,
    left_out: bool,
) -> dict[str, Any]:
    """How to rebuild and sample the student outside this package."""
    sampler, base = record["default"], backbone.config.model_dump(mode="json")
    loader = "load_lora_weights" if hasattr(backbone.pipe, "load_lora_weights") else "PeftModel"
    embeds = sampler.get("embed_scale")
    recipe = {
        "pipeline": backbone.pipeline,
        "base": {"backbone": backbone.name, "params": base, "revision": backbone.revision()},
        "load_with": loader if adapter else f"from_pretrained, subfolder {backbone.network}",
        "method": record["method"],
        "scheduler": type(scheduler).__name__,
        "sampler": sampler,
        "guidance_scale": sampler["guidance_scale"] if embeds is None else embeds,
        "num_inference_steps": len(sampler["timesteps"]),
        "timesteps": sampler["timesteps"],
        "diffusers_ignores": _ignored(sampler, scheduler, left_out),
    }
    if backbone.process_kind == "flow":  # its pipelines take sigmas, to which they apply the shift
        recipe["sigmas"] = [_unshifted(t / backbone.num_timesteps, base["shift"])
                            for t in sampler["timesteps"]]  # fmt: skip
    return recipe


def _unshifted(sigma: float, shift: float) -> float:
    return sigma / (shift - (shift - 1) * sigma)


def _ignored(sampler: Mapping[str, Any], scheduler: Any, left_out: bool) -> list[str]:
    """What of the recipe a diffusers pipeline cannot follow: it gives other samples than ours."""
    kind, name = _solver(sampler), type(scheduler).__name__
    parts = {
        "conditions.safetensors": left_out,
        "sampler.order": sampler.get("order", 1) != 1,
        "sampler.solver": kind not in FOLLOWED.get(name, (kind,)),
        "sampler.timesteps": not _takes(scheduler, sampler["timesteps"]),
    }
    return [part for part, ignored in parts.items() if ignored]


def _takes(scheduler: Any, times: Sequence[int]) -> bool:
    """Whether a pipeline can be given these times, or takes them by itself for their number."""
    if "timesteps" in signature(scheduler.set_timesteps).parameters:
        return True
    scheduler.set_timesteps(len(times))
    return [int(t) for t in scheduler.timesteps] == list(times)
