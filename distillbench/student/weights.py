"""A student's weights as files: an adapter in the forms of other tools, or the whole network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from distillbench.api.nets import NetHandle
from distillbench.api.sampler import Sampler
from distillbench.backbones._conditions import DIM
from distillbench.backbones._network import base_weights
from distillbench.backbones._pipeline import PipelineBackbone
from distillbench.errors import NotSupported
from distillbench.student.kohya import as_kohya

__all__ = ["LoraForm", "WrittenWeights", "write_weights"]

LORA_FILE = "pytorch_lora_weights.safetensors"
LoraForm = Literal["diffusers", "kohya", "peft"]


@dataclass(frozen=True)
class WrittenWeights:
    """How the student's weights were written.

    Attributes:
        left_out: tensors that no pipeline uses.
        loader: what reads the adapter; "" where it is a whole network.
        embeds: the network takes the guidance scale from its pipeline.
        network: the whole network, where that was written.
        fixed: scalar inputs that are part of the network now, at the recipe's values.
    """

    left_out: Mapping[str, Tensor]
    loader: str = ""
    embeds: bool = False
    network: Any = None
    fixed: Mapping[str, float] = field(default_factory=dict)


def _split(net: NetHandle) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network's own tensors, and those of its scalar conditions."""
    inside: dict[str, Tensor] = {}
    conditions: dict[str, Tensor] = {}
    for name, tensor in net.tensors().items():
        (conditions if name.startswith("conditions.") else inside)[name] = tensor
    return inside, conditions


def _write_adapter(
    out: Path, backbone: PipelineBackbone, net: NetHandle, form: LoraForm
) -> WrittenWeights:
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
        return WrittenWeights(conditions, loader="PeftModel")
    if form == "kohya":
        save_file(as_kohya(tensors, config), out / LORA_FILE, {"format": "pt"})
    else:
        settings = {f"{part}.{k}": _plain(v) for k, v in config.to_dict().items()}
        metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(settings, sort_keys=True)}
        save_file({f"{part}.{n}": v for n, v in tensors.items()}, out / LORA_FILE, metadata)
    return WrittenWeights(conditions, loader="load_lora_weights")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


def _fixed(net: NetHandle, sampler: Sampler) -> dict[str, float]:
    """The recipe's values of the network's scalar inputs, where each has one for all steps."""
    known = {"guidance": sampler.embed_scale, "steps_k": sampler.steps_k}
    values = {name: known.get(name) for name in net.conditions}
    return {n: float(v) for n, v in values.items() if v is not None} if all(values.values()) else {}


def write_weights(
    out: Path, backbone: PipelineBackbone, net: NetHandle, kind: str, sampler: Sampler, *,
    whole: bool, form: LoraForm,
) -> WrittenWeights:  # fmt: skip
    """An adapter where one can carry the student, else, or where asked for, the whole network.

    Nobody else has the base of an adapter on a trained teacher; and an adapter has no place for
    scalar inputs.
    """
    fixed = _fixed(net, sampler)
    if kind == "lora" and not whole and not fixed:
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
    made = type(module).from_config(config)
    made.load_state_dict(weights)
    if fixed:
        _fold(made.get_submodule(backbone.time_mlp), net, fixed, embeds)
        conditions = {}
    made.save_pretrained(out / backbone.network)
    rest = {name: value for name, value in fixed.items() if name != "guidance" or not embeds}
    return WrittenWeights(conditions, embeds=embeds, network=made, fixed=rest)


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
