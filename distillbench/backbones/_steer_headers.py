"""Whether ControlNets and IP-Adapters fit a UNet, by the headers of their files; no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from distillbench.api.published import Published
from distillbench.api.steering import Steer
from distillbench.backbones._headers import file_of, header, shown
from distillbench.errors import BadInput
from distillbench.files.weight_files import Tensors

__all__ = ["unfit_steer"]

_TEXT = "attn2.to_k.weight"


def unfit_steer(steer: Steer, network: Tensors) -> Iterator[str]:
    """Why one does not fit a network, one line each.

    Args:
        network: names and shapes of the UNet's own weights, empty where they are not known.
    """
    path = steer.weights.path
    if path is None:
        return
    try:
        name, tensors = file_of(path).name, header(file_of(path))
        found = list(
            _control(path, tensors, network)
            if steer.kind == "control"
            else _image_prompt(tensors, steer.encoder, network)
        )
    except (BadInput, ValueError) as error:
        found, name = [error.line if isinstance(error, BadInput) else str(error)], path.name
    yield from (f"{name}: {line}" for line in found)


def _settings(folder: Path) -> dict[str, object]:
    """Raises ValueError where the folder has none."""
    try:
        read = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        raise ValueError(f"{folder}: no config.json that can be read") from None
    return read if isinstance(read, dict) else {}


# ---- ControlNets --------------------------------------------------------------------------


def _control(path: Path, tensors: Tensors, network: Tensors) -> Iterator[str]:
    config = _settings(path if path.is_dir() else path.parent)
    if path.is_file():
        yield "name the ControlNet's folder, which has its config.json"
    kind = config.get("_class_name")
    if kind != "ControlNetModel":
        yield f"config.json: _class_name: {kind!r} is no ControlNetModel"
        return
    if config.get("global_pool_conditions"):
        yield "config.json: global_pool_conditions (guess mode) is not applied"
    if config.get("conditioning_channels", 3) != 3:
        yield f"config.json: conditioning_channels: {config['conditioning_channels']}; RGB has 3"
    mine = [shape[0] for name, shape in sorted(tensors.items(), key=_number)
            if re.fullmatch(r"controlnet_down_blocks\.\d+\.weight", name)]  # fmt: skip
    if not network:
        return
    theirs = list(_residuals(network))
    if mine != theirs:
        yield f"adds to layers of widths {_list(mine)}, the network has {_list(theirs)}: " + _OTHER
        return
    for ending in (_TEXT, "add_embedding.linear_1.weight", "conv_in.weight"):
        one, other = (_widths(named, ending) for named in (tensors, network))
        if one != other:
            yield f"{ending} takes {_list(one)}, the network's {_list(other)}: {_OTHER}"
            return


_OTHER = "of another base"


def _number(item: tuple[str, tuple[int, ...]]) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", item[0])]


def _list(values: list[int]) -> str:
    return ", ".join(map(str, values)) or "none"


def _widths(tensors: Tensors, ending: str) -> list[int]:
    exact = "." not in ending.removesuffix(".weight")
    names = [n for n in tensors if (n == ending if exact else n.endswith(ending))]
    return sorted({tensors[name][1] for name in names})


def _residuals(network: Tensors) -> Iterator[int]:
    """Widths of the outputs of a UNet's way down, that of its first convolution included."""
    yield network["conv_in.weight"][0]
    blocks = {int(m[1]) for n in network if (m := re.match(r"down_blocks\.(\d+)\.", n))}
    for block in sorted(blocks):
        stem = f"down_blocks.{block}"
        count = len({m[1] for n in network if (m := re.match(rf"{stem}\.resnets\.(\d+)\.", n))})
        widths = [network[f"{stem}.resnets.{i}.conv1.weight"][0] for i in range(count)]
        yield from widths
        if any(name.startswith(f"{stem}.downsamplers.") for name in network):
            yield widths[-1]


# ---- IP-Adapters --------------------------------------------------------------------------


def _image_prompt(tensors: Tensors, encoder: Published | None, network: Tensors) -> Iterator[str]:
    strange = sorted(n for n in tensors if not n.startswith(("image_proj.", "ip_adapter.")))
    keys = [name for name in tensors if name.endswith("to_k_ip.weight")]
    if strange or not keys:
        yield f"no IP-Adapter in .safetensors: {shown(strange) or 'it has no to_k_ip.weight'}"
        return
    if faces := sorted(n for n in tensors if "lora" in n):
        yield f"{len(faces)} keys are of a FaceID adapter, which is not applied: {shown(faces)}"
        return
    layers = [n for n in network if n.endswith(_TEXT)]
    if network and sorted(tensors[n] for n in keys) != sorted(network[n] for n in layers):
        mine, theirs = (_list(sorted({shapes[n][1] for n in names}))
                        for shapes, names in ((tensors, keys), (network, layers)))  # fmt: skip
        yield (
            f"{len(keys)} layers that take text of width {mine}; the network has "
            f"{len(layers)} of {theirs}: {_OTHER}"
        )
        return
    yield from _encoder(tensors, encoder)


def _encoder(tensors: Tensors, encoder: Published | None) -> Iterator[str]:
    """Whether the adapter reads what its image encoder puts out."""
    folder = encoder.path if encoder is not None else None
    if folder is None:
        return
    config = _settings(folder)
    projected = "image_proj.proj.weight" in tensors
    first = "proj.weight" if projected else "proj_in.weight"
    first = first if f"image_proj.{first}" in tensors else "proj.0.weight"
    shape = tensors.get(f"image_proj.{first}", (0, 0))
    size = config.get("projection_dim" if projected else "hidden_size")
    if size != shape[1]:
        yield f"reads {shape[1]} numbers of a picture, the encoder in {folder} gives {size}"
