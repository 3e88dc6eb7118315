"""ControlNets and IP-Adapters on a UNet, as diffusers' pipelines use them; imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ControlNetModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
from diffusers.utils import logging
from safetensors import safe_open
from torch import nn

from distillbench.api.backbone import Cond
from distillbench.api.steering import Steer
from distillbench.backbones._headers import file_of
from distillbench.errors import BadInput
from distillbench.files.weight_files import weight_files

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Steering"]

Tensors = Mapping[str, torch.Tensor]


class Steering:
    """What of them is loaded, the conditions they take, and what they add to a call.

    Args:
        steers: in the order of their pictures.
        pipe: the loaded pipeline of the network.
        module: the network that is sampled; an IP-Adapter becomes a part of it.
        size: (height, width) of the samples.

    Attributes:
        controls: the ControlNets.
    """

    def __init__(
        self, steers: Sequence[Steer], pipe: Any, module: nn.Module, size: tuple[int, int]
    ) -> None:
        self._pipe, self._size = pipe, size
        self._device = next(module.parameters()).device
        self._places = {
            kind: [i for i, steer in enumerate(steers) if steer.kind == kind]
            for kind in ("control", "image_prompts")
        }
        controls = [steers[i] for i in self._places["control"]]
        self._scales = [steer.scale for steer in controls]
        nets = [_control(steer, self._device) for steer in controls]
        self.controls = MultiControlNetModel(nets).eval().requires_grad_(False)
        nn.Module.to(self.controls, self._device, pipe.unet.dtype)  # own one warns of an outline
        if prompts := [steers[i] for i in self._places["image_prompts"]]:
            _put_in(prompts, pipe, module)

    def conditions(
        self, cond: Cond, uncond: Cond | None, pictures: Sequence[Sequence[Image]]
    ) -> tuple[Cond, Cond | None]:
        """Both branches with what the pictures say; the second of the first's batch.

        Args:
            pictures: for each steer one a sample.
        """
        on: dict[str, torch.Tensor] = {}
        off: dict[str, torch.Tensor] = {}
        height, width = self._size
        images = VaeImageProcessor(self._pipe.vae_scale_factor, do_normalize=False,
                                   do_convert_rgb=True)  # fmt: skip
        for number, place in enumerate(self._places["control"]):
            read = images.preprocess(list(pictures[place]), height=height, width=width)
            on[f"control {number}"] = off[f"control {number}"] = read.float().to(self._device)
        for number, place in enumerate(self._places["image_prompts"]):
            layer = self._layers[number]
            whole = type(layer).__name__ != "ImageProjection"
            with torch.no_grad():
                seen, blank = self._pipe.encode_image(list(pictures[place]), self._device, 1, whole)
            on[f"image {number}"], off[f"image {number}"] = seen.float(), blank.float()
        joined = Cond({**cond.tensors, **on})
        if uncond is None:
            return joined, None
        return joined, Cond({**uncond.expand(len(cond)).tensors, **off})

    @property
    def _layers(self) -> Any:
        return self._pipe.unet.encoder_hid_proj.image_projection_layers

    def arguments(
        self, x: torch.Tensor, t: torch.Tensor, cond: Tensors, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The arguments of a call of the network, with what is added to it."""
        made, added = dict(given), dict(given.get("added_cond_kwargs") or {})
        if self._scales:
            pictures = [cond[f"control {i}"] for i in range(len(self._scales))]
            down, middle = self.controls(
                x, t, made["encoder_hidden_states"], pictures, self._scales, return_dict=False,
                added_cond_kwargs=added or None,
            )  # fmt: skip
            made["down_block_additional_residuals"] = down
            made["mid_block_additional_residual"] = middle
        if self._places["image_prompts"]:
            many = range(len(self._places["image_prompts"]))
            added["image_embeds"] = [cond[f"image {i}"][:, None] for i in many]
        return {**made, "added_cond_kwargs": added} if added else made


def _control(steer: Steer, device: torch.device) -> Any:
    """The ControlNet of a folder; on the device "meta" its outline."""
    path = steer.weights.path
    assert path is not None
    if device.type == "meta":
        with device:
            return ControlNetModel.from_config(ControlNetModel.load_config(path))
    there = weight_files(path).found
    variant = None if "" in there else next(iter(there), None)
    return ControlNetModel.from_pretrained(path, local_files_only=True, variant=variant)


def _put_in(steers: Sequence[Steer], pipe: Any, module: nn.Module) -> None:
    """Make IP-Adapters part of the network through the pipeline's own loader."""
    encoders = {steer.encoder.path for steer in steers if steer.encoder is not None}
    if len(encoders) != 1:
        raise BadInput("IP-Adapters of a row share one image encoder; name the same for all")
    device = pipe.unet.device
    encoder = _image_encoder(encoders.pop(), device, pipe.unet.dtype)
    pipe.register_modules(unet=module, image_encoder=encoder, feature_extractor=None)
    unnamed = [""] * len(steers)
    with _quiet(device):
        pipe.load_ip_adapter([_tensors(steer, device) for steer in steers], subfolder=unnamed,
                             weight_name=unnamed, image_encoder_folder=None)  # fmt: skip
    pipe.set_ip_adapter_scale([steer.scale for steer in steers])
    module.requires_grad_(False)


def _image_encoder(folder: Path | None, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The image encoder of a folder; on the device "meta" its outline."""
    from transformers import CLIPVisionModelWithProjection

    kind: Any = CLIPVisionModelWithProjection
    made: nn.Module
    if device.type == "meta":
        with device:
            made = kind(kind.config_class.from_pretrained(folder))
        nn.Module.to(made, dtype)
    else:
        made = kind.from_pretrained(folder, local_files_only=True, dtype=dtype).to(device)
    return made.eval()


@contextmanager
def _quiet(device: torch.device) -> Iterator[None]:
    """Without diffusers' warning that an outline is cast."""
    level = logging.get_verbosity()
    if device.type == "meta":
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _tensors(steer: Steer, device: torch.device) -> dict[str, dict[str, torch.Tensor]]:
    """An IP-Adapter's tensors in the two parts that diffusers' loader takes.

    For the device "meta" they are outlines.
    """
    assert steer.weights.path is not None
    file = file_of(steer.weights.path)
    parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    with safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            part, _, rest = name.partition(".")
            if device.type == "meta":
                shape = opened.get_slice(name).get_shape()
                parts[part][rest] = torch.empty(shape, device=device)
            else:
                parts[part][rest] = opened.get_tensor(name)
    return parts
