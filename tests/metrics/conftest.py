"""Random scorers in the published file formats, small enough to run in a moment."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from distillbench.api.metric import Samples
from distillbench.world.networks import AttributeNet

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}
FEATURES = {"widths": [8, 16, 16], "dim": 8, "extra": 0}
HEAD = (16, 12, 8, 6, 4, 1)


def random_clip(seed: int = 0, **config: Any) -> open_clip.CLIP:
    torch.manual_seed(seed)
    net = open_clip.CLIP(**CLIP | config)
    # open_clip starts biases and the class token near zero; larger values make the test images
    # and prompts differ.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="session")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clip/ (JSON + safetensors), hps/ (JSON + .pt as HPSv2 ships it), head.pth, features/."""
    root = tmp_path_factory.mktemp("scorers")
    for name in ("clip", "hps", "features"):
        (root / name).mkdir()
    (root / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP}))
    save_file(random_clip(0).state_dict(), root / "clip" / "open_clip_model.safetensors")
    (root / "hps" / "tiny-vit.json").write_text(json.dumps(CLIP))
    state = {name: value.half() for name, value in random_clip(1).state_dict().items()}
    torch.save({"epoch": 7, "state_dict": state}, root / "hps" / "HPS_v2.1_compressed.pt")
    torch.save(random_head(), root / "head.pth")
    (root / "features" / "config.json").write_text(json.dumps(FEATURES))
    torch.manual_seed(2)
    net = AttributeNet(widths=(8, 16, 16), dim=8)
    save_file(net.state_dict(), root / "features" / "model.safetensors")
    return root


def random_head(seed: int = 3) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for index, (inputs, outputs) in zip((0, 2, 4, 6, 7), pairwise(HEAD)):
        state[f"layers.{index}.weight"] = torch.randn(outputs, inputs, generator=rng)
        state[f"layers.{index}.bias"] = torch.randn(outputs, generator=rng)
    return state


@pytest.fixture
def pictures() -> Samples:
    """Six smooth pictures that are wider than high."""
    rng = torch.Generator().manual_seed(5)
    coarse = torch.rand(6, 3, 6, 9, generator=rng)
    data = torch.nn.functional.interpolate(coarse, (96, 144), mode="bicubic").clamp(0, 1)
    images = (data * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    prompts = [f"a photo of number {i}" for i in range(6)]
    return Samples(images, prompts, ["photo", "anime"] * 3, seed=0)
