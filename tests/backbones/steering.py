"""ControlNets and IP-Adapters made small, in the files that they are published as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

__all__ = ["control_net", "encoder", "image_prompt", "pictures"]


def control_net(unet: Any, folder: Path, *, times: int, seed: int = 0) -> Path:
    """A random ControlNet of a UNet's shape; `times` is what an encoder shrinks a picture by."""
    torch.manual_seed(seed)
    widths = tuple(8 * 2**i for i in range(times.bit_length()))
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.04 * torch.randn_like(parameter))
    net.save_pretrained(folder)
    return folder


def encoder(folder: Path, projection: int = 12) -> Path:
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=16, projection_dim=projection,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def image_prompt(unet: UNet2DConditionModel, path: Path, projection: int = 12) -> Path:
    """An IP-Adapter of the first kind: four tokens of a picture's projected embedding."""
    rng = torch.Generator().manual_seed(2)
    names = [n for n, _ in unet.named_modules() if n.endswith("attn2.to_k")]
    order = [n for n in unet.attn_processors if n.endswith("attn2.processor")]
    width = unet.get_submodule(names[0]).weight.shape[1]

    def drawn(*shape: int) -> torch.Tensor:
        return 0.5 * torch.randn(*shape, generator=rng)

    tensors = {
        "image_proj.proj.weight": drawn(4 * width, projection),
        "image_proj.proj.bias": drawn(4 * width),
        "image_proj.norm.weight": 1 + drawn(width), "image_proj.norm.bias": drawn(width),
    }  # fmt: skip
    for number, name in enumerate(order):
        shape = unet.get_submodule(name.replace("processor", "to_k")).weight.shape
        for part in ("k", "v"):
            tensors[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = drawn(*shape)
    save_file(tensors, path)
    return path


def pictures(folder: Path, number: int, side: int = 40) -> list[Path]:
    """Bright boxes on dark, one further to the right each."""
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(number)]
    for i, path in enumerate(paths):
        drawn = np.full((side, side, 3), 20, np.uint8)
        drawn[8:24, 4 + 6 * i : 20 + 6 * i] = (230, 200 - 60 * i, 90)
        Image.fromarray(drawn).save(path)
    return paths
