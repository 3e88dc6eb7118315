"""Whether weights of others fit a network, by the names and shapes in their headers; no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillbench.api.published import Published
from distillbench.errors import BadInput
from distillbench.files.pickles import tensors_of_pickle
from distillbench.files.weight_files import Tensors, tensors_of, weight_files

__all__ = ["DORA", "GUIDANCE", "LDM_PREFIX", "file_of", "shown", "unfit"]

LDM_PREFIX = "model.diffusion_model."
GUIDANCE = "time_embedding.cond_proj.weight"
_DOWN = ("lora_down.weight", "lora_A.weight", "lora.down.weight", "lora_A.default.weight")
_UP = ("lora_up.weight", "lora_B.weight", "lora.up.weight", "lora_B.default.weight")
DORA = ("dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.weight")
_TEXT = re.compile(
    r"(base_model\.model\.)?"
    r"(lora_te\d?_|text_encoder|cond_stage_model|conditioner|te\d?[._]text_model|clip_[lg]\.|t5xxl\.)"
)
_PREFIX = re.compile(
    r"(base_model\.model\.)?(lora_unet_|lora_transformer_|unet\.|transformer\.|diffusion_model\.)?"
)
_LDM = re.compile(r"(input_blocks|middle_block|output_blocks)[._]")
_OLD = re.compile(r"\.processor\.(to_\w+?)_lora\.(down|up)\.weight$")
_ADAPTERS = ("pytorch_lora_weights", "adapter_model")


def shown(names: Sequence[str]) -> str:
    """Three of them, and how many there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def file_of(path: Path) -> Path:
    """The file of weights that a path means: itself, or the one of a folder.

    Raises:
        BadInput: a folder has none, or several that nothing tells apart.
    """
    if path.is_file():
        return path
    found = weight_files(path)
    for variant in ("", *found.found):
        if variant in found.found and (len(found.found) == 1 or not variant):
            return found.found[variant]
    for name in _ADAPTERS:
        for ending in (".safetensors", ".bin"):
            if (path / f"{name}{ending}").is_file():
                return path / f"{name}{ending}"
    files = sorted(p.name for p in path.iterdir() if p.suffix in (".safetensors", ".bin"))
    if len(files) == 1:
        return path / files[0]
    what = f"several files of weights ({shown(files)}); name one" if files else "no weights"
    raise BadInput(f"{path}: {what}")


def header(file: Path) -> Tensors:
    """Names and shapes of a file's tensors. Raises ValueError where it cannot be read."""
    if file.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        return tensors_of_pickle(file)
    if file.suffix not in (".safetensors", ".json"):
        raise ValueError(f"{file.name} is no file of weights (.safetensors, .bin, .pt)")
    return tensors_of(file)


def unfit(published: Published, network: Tensors) -> Iterator[str]:
    """Why weights are not for a network, one line each.

    Args:
        network: names and shapes of the network's own weights, empty where they are not known.
    """
    if published.path is None or published.kind == "pipeline":
        return
    try:
        file = file_of(published.path)
        tensors = header(file)
    except BadInput as error:
        yield error.line
        return
    except ValueError as error:
        yield str(error)
        return
    checked = _adapter if published.kind == "lora" else _whole
    yield from (f"{file.name}: {line}" for line in checked(tensors, network))


# ---- whole networks -----------------------------------------------------------------------


def _whole(tensors: Tensors, network: Tensors) -> Iterator[str]:
    if any(name.startswith(LDM_PREFIX) or _LDM.match(name) for name in tensors):
        other = sorted(n for n in tensors if not n.startswith(LDM_PREFIX) and not _LDM.match(n)
                       and not n.startswith(("time_embed.", "label_emb.", "out.")))  # fmt: skip
        if other:
            yield (
                f"{len(other)} keys would not be used: {shown(other)}; a whole checkpoint is "
                "of kind: pipeline once converted to diffusers' folder"
            )
        return
    adapters = [name for name in tensors if _split(name)[1]]
    if adapters:
        yield f"holds an adapter ({adapters[0]}); it is of kind: lora"
        return
    if not network:
        return
    missing = sorted(network.keys() - tensors.keys())
    extra = sorted(tensors.keys() - network.keys() - {GUIDANCE})
    if missing or extra:
        yield (
            f"keys are not the network's: {len(missing)} missing ({shown(missing) or 'none'}), "
            f"{len(extra)} not known ({shown(extra) or 'none'})"
        )
        return
    for name, shape in tensors.items():
        if name in network and network[name] != shape:
            yield f"{name} is {list(shape)}, the network's is {list(network[name])}"
            return


# ---- adapters -----------------------------------------------------------------------------


@dataclass
class _Layer:
    """One adapted layer of a file: shapes of its two factors."""

    name: str
    down: tuple[int, ...] = ()
    up: tuple[int, ...] = ()


def _split(key: str) -> tuple[str, str]:
    """A key's layer without prefix, and its part of it: down | up | alpha | dora | ""."""
    key = _OLD.sub(r".\1.lora.\2.weight", key)
    plain = _PREFIX.sub("", key, count=1)
    for part, endings in (("down", _DOWN), ("up", _UP), ("dora", DORA), ("alpha", ("alpha",))):
        for ending in endings:
            if plain.endswith(f".{ending}"):
                return plain[: -len(ending) - 1], part
    return plain, ""


def _adapter(tensors: Tensors, network: Tensors) -> Iterator[str]:
    text = sorted(key for key in tensors if _TEXT.match(key))
    if text:
        yield (
            f"{len(text)} keys are of a text encoder ({shown(text)}), which a student does not "
            "carry; merge it into a pipeline, or take those keys out"
        )
    parts = {key: _split(key) for key in tensors if key not in set(text)}
    for part, why in (("dora", "are of DoRA, which is not applied"), ("", "are of no LoRA")):
        if found := sorted(key for key, (_, its) in parts.items() if its == part):
            yield f"{len(found)} keys {why}: {shown(found)}"
            return
    layers: dict[str, _Layer] = {}
    for key, (name, part) in parts.items():
        layer = layers.setdefault(name, _Layer(name))
        if part in ("down", "up"):
            setattr(layer, part, tensors[key])
    yield from _halves(layers) or _places(layers, network)


def _halves(layers: Mapping[str, _Layer]) -> list[str]:
    """Layers whose factors do not belong together."""
    lone = sorted(name for name, layer in layers.items() if not layer.down or not layer.up)
    if lone:
        return [f"{len(lone)} layers have one factor of two: {shown(lone)}"]
    for name, layer in layers.items():
        if layer.down[0] != layer.up[1]:
            return [f"{name}: rank {layer.down[0]} on one side, {layer.up[1]} on the other"]
    return [] if layers else ["holds no LoRA"]


def _places(layers: Mapping[str, _Layer], network: Tensors) -> list[str]:
    """Layers that the network does not have, or has in another size."""
    own = {n.removesuffix(".weight"): shape for n, shape in network.items() if len(shape) > 1}
    if not own:
        return []
    flat = {name.replace(".", "_"): name for name in own}
    placed = {name: flat.get(name.replace(".", "_")) for name in layers}
    if any(_LDM.match(name) for name in layers):
        return _widths(layers, own)  # such names are led to their layers when they are read
    lost = sorted(name for name, place in placed.items() if place is None)
    if lost:
        others = sorted(own.keys() - set(placed.values()))
        return [
            f"{len(lost)} of {len(layers)} layers are none of the network's: {shown(lost)}; it has "
            f"{shown(others)}: a LoRA of another architecture"
        ]
    for name, place in placed.items():
        shape, layer = own[str(place)], layers[name]
        given = (layer.up[0], layer.down[1], *layer.down[2:])
        if given[:2] != shape[:2] or (len(given) == len(shape) and given != shape):
            return [f"{place} is {list(shape)} here, {list(given)} in the file: of another base"]
    return []


def _widths(layers: Mapping[str, _Layer], own: Tensors) -> list[str]:
    """Text widths of an LDM-named adapter against the network's."""
    text = ("attn2.to_k", "attn2_to_k")
    mine = {shape[1] for name, shape in own.items() if name.endswith(text)}
    theirs = {layer.down[1] for name, layer in layers.items() if name.endswith(text)}
    if mine and theirs - mine:
        return [f"text of width {min(theirs)}, the network's is {min(mine)}: of another base"]
    return []
