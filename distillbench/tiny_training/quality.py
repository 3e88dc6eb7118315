"""Measured quality of the tiny world's models on held-out data: the gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from distillbench.tiny_training import aes, clip, degrade, hps, inception, recipes
from distillbench.tiny_training.gates import (
    RENDER_SEED,
    load_head,
    measure_clips,
    measure_control,
    measure_teacher,
)
from distillbench.world.data import draws, renders_of
from distillbench.world.oracle import Judgement, judge, load_net
from distillbench.world.prompts import prompt_set
from distillbench.world.scene import LEVELS

Figures = dict[str, Any]


def measure_oracle(root: Path) -> Figures:
    """Accuracy on fresh renders of held-out captions."""
    prompts = prompt_set("world-eval").prompts
    judgement: Judgement = judge(
        renders_of(prompts, seed=RENDER_SEED), prompts, net=load_net(root / "tiny-oracle")
    )
    return {"n": len(prompts), "accuracy": judgement.accuracies()}


def measure_clip(root: Path) -> Figures:
    """Held-out retrieval."""
    model = recipes.load_clip(root / "tiny-clip")
    return {"n": 1280, "retrieval_top1_of_64": clip.retrieval(model)}


def measure_hps(root: Path) -> Figures:
    """Held-out preference pairs."""
    model = recipes.load_clip(root / "tiny-hps")
    return {"n": 40 * hps.BATCH, "pair_accuracy": hps.pair_accuracy(model)}


def measure_aes(root: Path) -> Figures:
    """Rank correlation with the true grade."""
    model = recipes.load_clip(root / "tiny-hps")
    return {"n": 2000, "spearman": aes.rank_correlation(load_head(root / "tiny-aes"), model)}


def measure_inception(root: Path, *, count: int = 2000) -> Figures:
    """The Frechet distance of ever more degraded renders to fresh ones."""
    net, index = load_net(root / "tiny-inception"), np.arange(count)
    drawn = draws(90, index, held=True)
    clean, more = degrade.renders(drawn, 91, index)
    fresh = _embed(net, degrade.renders(drawn, 92, index, extra=1)[0])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    table: Figures = {}
    for code, kind in enumerate(degrade.KINDS):
        codes = torch.full((count,), code)
        levels = (0.0, 0.1, 0.25, 0.5, 1.0)
        harmed = (
            degrade.degrade(clean, more, codes, torch.full((count,), level), noise)
            for level in levels
        )
        table[kind] = {
            str(level): inception.frechet(_embed(net, x), fresh)
            for level, x in zip(levels, harmed, strict=True)
        }
    return {"n": count, "fid_by_level": table | {"wrong": _wrong(net, fresh, count)}}


MEASURES: Final[Mapping[str, Callable[[Path], Figures]]] = {
    "tiny-oracle": measure_oracle,
    "tiny-clip": measure_clip,
    "tiny-hps": measure_hps,
    "tiny-aes": measure_aes,
    "tiny-inception": measure_inception,
    "tiny-sd": measure_teacher,
    **{n: partial(measure_teacher, name=n) for n in ("tiny-sdxl", "tiny-pixart", "tiny-sd3")},
    "tiny-cogvideox": measure_clips,
    "tiny-controlnet": measure_control,
}


def _wrong(net: torch.nn.Module, fresh: Tensor, count: int) -> Figures:
    """Renders of which a share shows another scene than the caption asks: one style only."""
    index = np.arange(count)
    drawn = draws(90, index, held=True)
    out: Figures = {}
    for share in (0.0, 0.1, 0.25, 0.5, 1.0):
        swap = drawn.codes[:, 0] == LEVELS["style"].index("painting")
        keep = np.flatnonzero(~swap | (index % 100 >= 100 * share))
        rows = np.resize(keep, count)
        x, _ = degrade.renders(draws(90, rows, held=True), 93, index, extra=1)
        out[str(share)] = inception.frechet(_embed(net, x), fresh)
    return out


@torch.no_grad()
def _embed(net: torch.nn.Module, x: Tensor) -> Tensor:
    return torch.cat([net.embed(part) for part in torch.split(x, 256)])  # type: ignore[operator]
