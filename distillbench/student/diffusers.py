"""A trained student as files that diffusers (or, where it loads no adapters, peft) reads.

An adapter becomes `pytorch_lora_weights.safetensors` with its rank and alpha in the metadata: left
out, alpha defaults to another value and the student is silently an eighth of itself. A full copy
becomes a network folder, and so does an adapter with scalar inputs. Beside them lie the scheduler
that takes the student's very steps, `recipe.json` with every argument of the pipeline's call, and a
README with the code to run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from safetensors.torch import save_file
from torch import Tensor

from distillbench.api.fields import split
from distillbench.api.nets import NetHandle
from distillbench.api.sampler import Sampler
from distillbench.api.samplers import from_recipe
from distillbench.backbones._conditions import DIM
from distillbench.backbones._network import base_weights
from distillbench.backbones._pipeline import PipelineBackbone
from distillbench.errors import NotSupported
from distillbench.files.io import require_folder, storage_guard
from distillbench.specs.trained import ExportBase, ExportRecipe, NetRecord, TrainingRecipe
from distillbench.student.card import write_card
from distillbench.student.files import load_student
from distillbench.student.kohya import as_kohya
from distillbench.student.schedulers import Followed, follow
from distillbench.student.trial import TrialTeacher

__all__ = ["LoraForm", "export_student"]

LORA_FILE = "pytorch_lora_weights.safetensors"
LoraForm = Literal["diffusers", "kohya", "peft"]


@dataclass(frozen=True)
class _Written:
    """How the student's weights were written.

    Attributes:
        left_out: tensors that no pipeline uses.
        loader: what reads the adapter; "" where it is a whole network.
        embeds: the network takes the guidance scale from its pipeline.
        fixed: scalar inputs that are part of the network now, at the recipe's values.
    """

    left_out: Mapping[str, Tensor]
    loader: str = ""
    embeds: bool = False
    fixed: Mapping[str, float] = field(default_factory=dict)


def export_student(
    train_dir: Path,
    out: Path,
    *,
    nfe: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    lora: LoraForm = "diffusers",
    device: str = "cpu",
) -> list[Path]:
    """Write the student of a finished training into the empty folder `out`; returns its files.

    Nothing of a failed export stays.

    Args:
        nfe: network evaluations of the recipe written along; None is the training's default.
        recipe: a recipe of another row of the training, in place of both.
        lora: how an adapter's tensors are named: as diffusers, kohya (and ComfyUI) or peft do.

    Raises:
        NotSupported: nothing was trained, the backbone is no diffusers pipeline, or the method is
            not sampled with `nfe` evaluations.
        BadInput: `out` is a file, or holds files already.
    """
    require_folder(out, empty=True)
    student = load_student(train_dir, device)
    backbone, net = student.method.backbone, student.net
    if net is None:
        raise NotSupported(f"{student.method.name} has no student's weights, so none to export")
    if not isinstance(backbone, PipelineBackbone):
        raise NotSupported(f"students of backbone {backbone.name} have no diffusers form")
    trained = TrainingRecipe.read(train_dir)
    given = recipe or (trained.default if nfe is None else None)
    sampler = from_recipe(given) if given else student.method.sampler(nfe or 1)
    # What only decides sampling is the sampler's to say: it may be another row's.
    decisive = {"params": dict(split(student.method.config).decisive)}
    trained = trained.model_copy(update={"method": trained.method.model_copy(update=decisive)})
    existed = out.is_dir()
    try:
        with storage_guard(out / ExportRecipe.file):
            out.mkdir(parents=True, exist_ok=True)
            _write(train_dir, out, backbone, net, trained, sampler, lora)
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
    trained: TrainingRecipe,
    sampler: Sampler,
    form: LoraForm,
) -> None:
    kind, on_run = NetRecord.read(train_dir).kind, trained.teacher is not None
    written = _write_weights(out, backbone, net, kind, sampler, on_run=on_run, form=form)
    if written.left_out:
        save_file(dict(written.left_out), out / "conditions.safetensors")
    followed = follow(sampler, _teacher(backbone, net))
    followed.scheduler.save_pretrained(out / "scheduler")
    run = train_dir.resolve().name
    recipe = _recipe(backbone, trained, run, sampler, followed, written)
    recipe.write(out)
    write_card(out, backbone, recipe)


def _teacher(backbone: PipelineBackbone, net: NetHandle) -> TrialTeacher:
    process, prediction = backbone.process_of(net), backbone.prediction_of(net)
    return TrialTeacher(process, prediction, dict(backbone.pipe.scheduler.config))


def _split(net: NetHandle) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network's own tensors, and those of its scalar conditions."""
    inside: dict[str, Tensor] = {}
    conditions: dict[str, Tensor] = {}
    for name, tensor in net.tensors().items():
        (conditions if name.startswith("conditions.") else inside)[name] = tensor
    return inside, conditions


def _write_adapter(
    out: Path, backbone: PipelineBackbone, net: NetHandle, form: LoraForm
) -> _Written:
    tensors, conditions = _split(net)
    module: Any = net.module
    config, part = module.peft_config[net.name], backbone.network
    loads = hasattr(backbone.pipe, "load_lora_weights")
    if form == "peft" or not loads:
        if form == "kohya":
            raise NotSupported(f"no tool reads a LoRA of {backbone.name} in kohya's format")
        config.save_pretrained(out)
        peft = {f"base_model.model.{n}": v for n, v in tensors.items()}
        save_file(peft, out / "adapter_model.safetensors", {"format": "pt"})
        return _Written(conditions, loader="PeftModel")
    if form == "kohya":
        save_file(as_kohya(tensors, config), out / LORA_FILE, {"format": "pt"})
    else:
        settings = {f"{part}.{k}": _plain(v) for k, v in config.to_dict().items()}
        metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(settings, sort_keys=True)}
        save_file({f"{part}.{n}": v for n, v in tensors.items()}, out / LORA_FILE, metadata)
    return _Written(conditions, loader="load_lora_weights")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


def _fixed(net: NetHandle, sampler: Sampler) -> dict[str, float]:
    """The recipe's values of the network's scalar inputs, where each has one for all steps."""
    known = {"guidance": sampler.embed_scale, "steps_k": sampler.steps_k}
    values = {name: known.get(name) for name in net.conditions}
    return {n: float(v) for n, v in values.items() if v is not None} if all(values.values()) else {}


def _write_weights(
    out: Path, backbone: PipelineBackbone, net: NetHandle, kind: str, sampler: Sampler, *,
    on_run: bool, form: LoraForm,
) -> _Written:  # fmt: skip
    """An adapter where one can carry the student, else the whole network.

    Nobody else has the base of an adapter `on_run`, a trained teacher; and an adapter has no place
    for scalar inputs.
    """
    fixed = _fixed(net, sampler)
    if kind == "lora" and not on_run and not fixed:
        return _write_adapter(out, backbone, net, form)
    if form != "diffusers":
        raise NotSupported(f"this student is a whole network, which has no form {form!r}")
    tensors, conditions = _split(net)
    module: Any = net.module
    if kind == "lora":
        backbone.replace_teacher(net)
    weights = {**base_weights(module), **(tensors if kind == "copy" else {})}
    config = dict(module.config)
    embeds = backbone.network == "unet" and "conditions.guidance.weight" in conditions
    if embeds:  # an embedded guidance scale goes where LCM pipelines look for it
        config["time_cond_proj_dim"] = DIM
        weights["time_embedding.cond_proj.weight"] = conditions.pop("conditions.guidance.weight")
    whole = type(module).from_config(config)
    whole.load_state_dict(weights)
    if fixed:
        _fold(whole.get_submodule(backbone.time_mlp), net, fixed, embeds)
        conditions = {}
    whole.save_pretrained(out / backbone.network)
    rest = {name: value for name, value in fixed.items() if name != "guidance" or not embeds}
    return _Written(conditions, embeds=embeds, fixed=rest)


@torch.no_grad()
def _fold(time_mlp: Any, net: NetHandle, values: Mapping[str, float], embeds: bool) -> None:
    """Make scalar inputs that never change a part of the time MLP: they only shift its biases."""
    extras: Any = net.extras
    first = next(extras.parameters())
    given = {name: first.new_tensor([value]) for name, value in values.items()}
    before, after = extras.signals(net.name, given)
    if isinstance(before, Tensor) and not embeds:
        time_mlp.linear_1.bias += time_mlp.linear_1.weight @ before[0].cpu()
    if isinstance(after, Tensor):
        time_mlp.linear_2.bias += after[0].cpu()


def _recipe(
    backbone: PipelineBackbone,
    trained: TrainingRecipe,
    run: str,
    sampler: Sampler,
    followed: Followed,
    written: _Written,
) -> ExportRecipe:
    """How to rebuild and sample the student outside this package."""
    params = backbone.config.model_dump(mode="json")
    base = {"backbone": backbone.name, "params": params, "revision": backbone.revision()}
    whole = f"from_pretrained, subfolder {backbone.network}"
    limits = _limits(sampler, followed, written)
    call = _call(backbone, sampler, followed, written)
    others: dict[str, Any] = {}
    if followed.sigmas is not None:  # what its pipelines take in the place of times
        others["sigmas"] = followed.sigmas
    if "eta" in call:
        others["eta"] = call["eta"]
    return ExportRecipe(
        pipeline=backbone.pipeline,
        base=ExportBase(**base),
        load_with=written.loader or whole,
        precision=trained.precision,
        method=trained.method,
        scheduler=type(followed.scheduler).__name__,
        sampler=sampler.model_dump(mode="json"),
        call=call,
        guidance_scale=call["guidance_scale"],
        num_inference_steps=len(sampler.timesteps),
        timesteps=list(sampler.timesteps),
        fixed=dict(written.fixed),
        diffusers_ignores=list(limits),
        limits=limits,
        training=run,
        **others,
    )


def _call(
    backbone: PipelineBackbone, sampler: Sampler, followed: Followed, written: _Written
) -> dict[str, Any]:
    """Every argument of the pipeline's call but prompt and generator."""
    scale = sampler.embed_scale if written.embeds else sampler.guidance_scale
    known = signature(getattr(diffusers, backbone.pipeline).__call__).parameters
    eta = {"eta": float(getattr(sampler, "gamma", 0.0))} if "eta" in known else {}
    return {**followed.times, "guidance_scale": scale, **eta, **backbone.call_arguments()}


def _limits(sampler: Sampler, followed: Followed, written: _Written) -> dict[str, str]:
    """What of the recipe a diffusers pipeline cannot follow, and why: other samples than ours."""
    limits = dict(followed.limits)
    if written.left_out:
        names = (name.split(".") for name in written.left_out)
        named = sorted({parts[1 if parts[1] == "guidance" else 2] for parts in names})
        why = f"the network also takes {' and '.join(named)}, which its pipeline does not feed"
        limits = {"conditions.safetensors": why, **limits}
    scale = sampler.guidance_scale
    if scale < 1 or (scale != 1 and written.embeds):
        why = "the pipeline guides only above scale 1, and no network that embeds its scale"
        limits["sampler.guidance_scale"] = why
    return limits
