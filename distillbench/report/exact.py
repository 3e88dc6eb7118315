"""Exact draws of a world that can make them, to hold samples against; needs torch."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from distillbench.api.backbone import Backbone

__all__ = ["exact_points"]


@cache
def exact_points(backbone: str, params: str, prompt: str, n: int) -> np.ndarray | None:
    """(n, d) exact draws of `prompt` in a backbone's world; None where it cannot make any.

    `params` is the backbone's settings as JSON text, so that a world is loaded once a process.
    """
    from distillbench.core.noise import generator

    world = _world(backbone, params)
    latents = world.training_latents([prompt] * n, generator("report", prompt))
    return None if latents is None else world.decode(latents).numpy()


@cache
def _world(name: str, params: str) -> Backbone:
    from distillbench.api.registry import build_backbone

    backbone = build_backbone(name, json.loads(params))
    backbone.load("cpu")
    return backbone
