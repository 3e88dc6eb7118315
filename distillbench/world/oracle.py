"""The judge of samples: does a picture show what its prompt asks, attribute by attribute?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from distillbench.errors import BadInput
from distillbench.world import weights
from distillbench.world.data import said_of
from distillbench.world.networks import AttributeNet, attribute_logits
from distillbench.world.scene import COLUMNS, SINGLE


@dataclass(frozen=True)
class Judgement:
    """Per-picture judgements.

    Attributes:
        right: (N, 6) whether the picture shows what its prompt says, True where it says nothing.
        said: (N, 6) whether the prompt says anything of that attribute.
    """

    right: NDArray[np.bool_]
    said: NDArray[np.bool_]

    @property
    def all_right(self) -> NDArray[np.bool_]:
        """(N,) whether every attribute that is said is right."""
        return np.asarray(self.right.all(axis=1))

    def accuracies(self) -> dict[str, float]:
        """The share that is right among the pictures whose prompts say it, and of all together."""
        each = {
            name: float(self.right[self.said[:, i], i].mean())
            for i, name in enumerate(SINGLE)
            if self.said[:, i].any()
        }
        return each | {"all": float(self.all_right.mean())}


def load_net(folder: Path) -> AttributeNet:
    """An AttributeNet from its folder: `config.json` and `model.safetensors` (fp16 inside)."""
    config = json.loads((folder / "config.json").read_text())
    net = AttributeNet(
        widths=tuple(config["widths"]), dim=int(config["dim"]), extra=int(config["extra"])
    )
    net.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return net.eval().requires_grad_(False)


@cache
def shipped() -> AttributeNet:
    """The shipped judge. Raises MissingWeights when its folder is absent."""
    return load_net(weights.folder("tiny-oracle"))


def judge(
    images: NDArray[np.uint8] | Tensor,
    prompts: Sequence[str],
    *,
    net: AttributeNet | None = None,
    batch: int = 256,
) -> Judgement:
    """Judge pictures against prompts of one thing.

    Args:
        images: uint8 (N, 32, 32, 3), or floats (N, 3, 32, 32) in [-1, 1].
        prompts: N captions of the tiny world.
        net: another judge than the shipped one.
        batch: pictures a forward pass.

    Raises BadInput when a prompt is no caption of one thing or the counts differ.
    """
    if len(images) != len(prompts):
        raise BadInput(f"{len(images)} images but {len(prompts)} prompts")
    wanted = _codes(prompts)
    x = as_floats(images)
    judge_net = net or shipped()
    with torch.no_grad():
        named = [_named(judge_net, x[i : i + batch]) for i in range(0, len(x), batch)]
    shown = torch.cat(named).numpy()
    return Judgement((shown == wanted) | (wanted < 0), wanted >= 0)


def all_right(
    images: NDArray[np.uint8] | Tensor,
    prompts: Sequence[str],
    *,
    net: AttributeNet | None = None,
) -> NDArray[np.bool_]:
    """(N,) whether each picture shows all that its prompt says."""
    return judge(images, prompts, net=net).all_right


def as_floats(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """Pictures in either form as floats (N, 3, 32, 32) in [-1, 1] on the CPU."""
    if isinstance(images, Tensor):
        return images.detach().float().cpu()
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _named(net: AttributeNet, x: Tensor) -> Tensor:
    return torch.stack([p.argmax(1) for p in attribute_logits(net(x))], dim=1)


def _codes(prompts: Sequence[str]) -> NDArray[np.int64]:
    said = said_of(prompts)
    for prompt, pair in zip(prompts, said[:, COLUMNS.index("thing2")] >= 0, strict=True):
        if pair:
            raise BadInput(f"the judge reads captions of one thing only, not {prompt!r}")
    return said[:, : len(SINGLE)]
