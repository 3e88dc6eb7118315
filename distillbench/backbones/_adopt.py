"""Weights that others trained, read through diffusers and peft into a role's own tensors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_unet_state_dict_to_peft
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from torch import Tensor, nn

from distillbench.api.published import Published
from distillbench.backbones._conditions import DIM
from distillbench.backbones._headers import DORA, GUIDANCE, LDM_PREFIX, file_of, shown
from distillbench.errors import BadInput

__all__ = ["Adopted", "read_adapter", "read_network"]

_PEFT = "base_model.model."
_COMFY = "diffusion_model."
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Adopted:
    """Tensors of a role, with the kind and the options that `make_net` takes for it."""

    kind: str
    tensors: Tensors
    opts: dict[str, Any] = field(default_factory=dict)


def read_adapter(published: Published, pipe: Any, part: str) -> Adopted:
    """A LoRA in the formats of PEFT, diffusers, kohya and ComfyUI.

    Names are led to the network's layers by the pipeline's own reader. What that leaves out is an
    error, and a factor alpha / rank is taken from the file alone: kohya's is 1 where a layer states
    no alpha, PEFT's is in its configuration.

    Raises:
        BadInput: keys would not be used, or the scale is not stated.
    """
    assert published.path is not None
    file = file_of(published.path)
    raw, metadata = _read(file)
    if found := sorted(name for name in raw if name.endswith(DORA)):
        # Some readers pass over them, and then it is another adapter.
        raise BadInput(
            f"{file}: {len(found)} keys are of DoRA, which is not applied: {shown(found)}"
        )
    state, alphas, config = _named(raw, metadata, file, pipe, part)
    lost = sorted(name for name in state if not name.endswith(("lora_A.weight", "lora_B.weight")))
    if lost or not state:
        raise BadInput(f"{file}: {len(lost)} keys would not be used: {shown(lost) or 'no LoRA'}")
    layers: dict[str, tuple[int, float]] = {}
    for name in sorted({key.rpartition(".lora_")[0] for key in state}):
        rank = int(state[f"{name}.lora_A.weight"].shape[0])
        scaling = _scaling(name, rank, alphas, config)
        layers[name] = (rank, scaling * rank * published.scale)
    opts = {"layers": {name: list(values) for name, values in layers.items()}}
    return Adopted("lora", {n: v.float() for n, v in state.items()}, opts)


def _scaling(
    layer: str, rank: int, alphas: Mapping[str, float], config: LoraConfig | None
) -> float:
    if config is None:
        return alphas.get(layer, float(rank)) / rank
    pattern = config.alpha_pattern or {}
    alpha = pattern.get(get_pattern_key(list(pattern), layer), config.lora_alpha)
    return float(alpha) / (rank**0.5 if config.use_rslora else rank)


def _named(
    raw: Tensors, metadata: Mapping[str, str], file: Path, pipe: Any, part: str
) -> tuple[Tensors, dict[str, float], LoraConfig | None]:
    """Tensors as "<layer>.lora_A.weight", kohya's alphas by layer, PEFT's settings."""
    config = _settings(metadata, file, part)
    if all(key.startswith(_PEFT) for key in raw):
        if config is None:
            raise BadInput(
                f"{file}: a PEFT adapter without adapter_config.json, which states its alpha",
                hint="put that file beside it",
            )
        plain = {key.removeprefix(_PEFT).removeprefix(f"{part}."): v for key, v in raw.items()}
        return plain, {}, config
    if all(key.startswith(_COMFY) for key in raw):
        raw = {_as_kohya(key): v for key, v in raw.items()}
    reader = getattr(pipe, "lora_state_dict", None)
    found: Any = (raw, None)
    if reader is not None:
        config_of = {"unet_config": pipe.unet.config} if part == "unet" else {}
        try:
            found = reader(dict(raw), **config_of)
        except (ValueError, KeyError, AttributeError, IndexError) as error:
            text = " ".join(str(error).split())[:200]
            raise BadInput(f"{file}: keys would not be used ({text})") from None
    state, alphas = found if isinstance(found, tuple) else (found, None)
    mine = _as_peft({k.removeprefix(f"{part}."): v for k, v in state.items()})
    named = {}
    for key, alpha in (alphas or {}).items():
        stem = key.removeprefix(f"{part}.").removesuffix(".alpha")
        layer = next(iter(_as_peft({stem: None}))).rpartition(".lora_")[0]  # of attention
        named[layer or stem] = float(alpha)
    if lost := sorted(named.keys() - {key.rpartition(".lora_")[0] for key in mine}):
        raise BadInput(f"{file}: {len(lost)} alphas are of no layer: {shown(lost)}")
    return mine, named, config


def _as_peft(named: Mapping[str, Any]) -> dict[str, Any]:
    """Values under peft's names of their tensors."""
    if all(".lora_A." in key or ".lora_B." in key for key in named):
        return dict(named)
    return dict(convert_unet_state_dict_to_peft(named))


def _as_kohya(key: str) -> str:
    """ComfyUI writes a layer's path with dots where kohya writes low lines."""
    for ending in (".lora_down.weight", ".lora_up.weight", ".alpha"):
        if key.endswith(ending):
            layer = key.removeprefix(_COMFY).removesuffix(ending)
            return f"lora_unet_{layer.replace('.', '_')}{ending}"
    return key.removeprefix(_COMFY)


def _settings(metadata: Mapping[str, str], file: Path, part: str) -> LoraConfig | None:
    """peft's settings of an adapter, from the file's own metadata or from beside it."""
    given: dict[str, Any] = {}
    beside = file.parent / "adapter_config.json"
    if "lora_adapter_metadata" in metadata:
        read = json.loads(metadata["lora_adapter_metadata"])
        given = {k.removeprefix(f"{part}."): v for k, v in read.items() if k.startswith(f"{part}.")}
    elif beside.is_file() and file.name.startswith("adapter_model"):
        given = json.loads(beside.read_text(encoding="utf-8"))
    if not given:
        return None
    known = {k: v for k, v in given.items() if k in LoraConfig.__dataclass_fields__}
    config = LoraConfig(**known)
    if config.use_dora or config.bias != "none" or config.modules_to_save:
        raise BadInput(f"{file}: DoRA, trained biases and whole saved layers are not applied")
    return config


# ---- whole networks -----------------------------------------------------------------------


def read_network(published: Published, module: nn.Module) -> Adopted:
    """A whole denoiser, or one minus the weights of `module`, which are added.

    Raises:
        BadInput: names or shapes are not the network's.
    """
    assert published.path is not None
    file = file_of(published.path)
    tensors = _read(file)[0] if file.suffix != ".json" else _shards(file)
    if any(name.startswith(LDM_PREFIX) for name in tensors):
        tensors = _from_ldm(file, module)
    opts: dict[str, Any] = {}
    guidance = tensors.pop(GUIDANCE, None)
    own = {k: v for k, v in module.state_dict().items() if ".lora_" not in k}
    _same_keys(file, own, tensors)
    tensors = {name: value.float() for name, value in tensors.items()}
    if published.kind == "delta":
        tensors = {name: own[name].float().cpu() + published.scale * value
                   for name, value in tensors.items()}  # fmt: skip
    if guidance is not None:
        if guidance.shape[1] != DIM:
            raise BadInput(f"{file}: {GUIDANCE} takes {guidance.shape[1]} numbers, not {DIM}")
        tensors["conditions.guidance.weight"] = guidance.float()
        opts["conditions"] = ["guidance"]
    return Adopted("copy", tensors, opts)


def _same_keys(file: Path, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or extra:
        raise BadInput(
            f"{file}: keys are not the network's: {len(missing)} missing "
            f"({shown(missing) or 'none'}), {len(extra)} not known ({shown(extra) or 'none'})"
        )
    for name, value in given.items():
        if value.shape != own[name].shape:
            here, there = list(own[name].shape), list(value.shape)
            raise BadInput(f"{file}: {name} is {there}, the network's is {here}")


def _from_ldm(file: Path, module: Any) -> Tensors:
    """A single-file checkpoint's denoiser, under diffusers' names."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    plain = {k.removeprefix(LDM_PREFIX): v for k, v in _read(file)[0].items()}
    whole = {f"{LDM_PREFIX}{k}": v for k, v in plain.items()}
    found: Tensors = convert_ldm_unet_checkpoint(whole, dict(module.config))
    return found


# ---- files --------------------------------------------------------------------------------


def _read(file: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors and text of a safetensors file or of a pickle of plain tensors."""
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            return {k: opened.get_tensor(k) for k in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            text = " ".join(str(error).split())[:120]
            raise BadInput(f"{file}: no pickle of plain tensors ({text})") from None
    inner = read.get("state_dict", read)
    return {str(k): v for k, v in inner.items()}, {}


def _shards(index: Path) -> Tensors:
    names: Iterable[str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    found: Tensors = {}
    for name in sorted(set(names)):
        found |= _read(index.parent / name)[0]
    return found
