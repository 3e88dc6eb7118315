"""Metrics of sets of pictures beside packages of PyPI; a part of benchmarks/metrics.py.

vendi beside vendi-score, cmmd beside clip-mmd (not by CMMD's authors, whose code is no package) and
diversity beside a loop over lpips. What is not installed is said in one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from itertools import combinations
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import random_scorers
import torch
from PIL import Image
from side_by_side import Pair, beside, installed, pictures, timed
from torch import Tensor
from torch.nn.functional import normalize

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score.groups import by_prompt
from distillbench.score.preprocess import standardise

OF_A_PROMPT = 4  # pictures of one prompt
VENDI = (
    "pip install --no-deps vendi-score scipy scikit-learn joblib threadpoolctl cloudpickle narwhals"
)
MMD = "pip install --no-deps clip-mmd tqdm"


def group_rows(count: int, large: int, repeats: int) -> None:
    """All rows, of `count` pictures of 512 pixels, `large` through VGG16."""
    if installed("`vendi`", VENDI, "vendi_score", "sklearn", "narwhals"):
        beside(_vendi(), _several(pictures(count)), repeats)
    if installed("`cmmd`", MMD, "clip_mmd", "tqdm"):
        shown = pictures(count)
        beside(_cmmd(replace(shown, data=shown.data // 2)), shown, repeats)
    if installed("`diversity`", random_scorers.LPIPS, "lpips", "scipy"):
        with TemporaryDirectory() as folder:
            beside(_diversity(Path(folder)), _several(pictures(large, 256)), repeats)


def _several(samples: Samples) -> Samples:
    """The same with one prompt for so many pictures."""
    names = [f"a photo of number {i // OF_A_PROMPT}" for i in range(len(samples))]
    return replace(samples, prompts=names)


def _vendi() -> Pair:
    """Its own batches of a prompt's pictures through open_clip's transform and our network."""
    metric: Any = build_metric("vendi", {})
    metric.load()
    package = import_module("vendi_score.image_utils")
    seen = open_clip.image_transform(32, is_train=False, resize_mode="shortest")

    def theirs(samples: Samples) -> Sequence[float]:
        groups = [[Image.fromarray(samples.data[i].numpy()) for i in g] for g in by_prompt(samples)]
        net = metric._clip.net.encode_image
        return [fmean(float(package.embedding_vendi_score(each, model=net, transform=seen))
                      for each in groups)]  # fmt: skip

    def ours(samples: Samples) -> Sequence[float]:
        return [metric.score(samples).aggregate[""]]

    name = f"`vendi`, {OF_A_PROMPT} pictures a prompt"
    return Pair(name, "tiny", timed(ours), timed(theirs), "vendi-score")


def _cmmd(other: Samples) -> Pair:
    """Its own data set, loader and statistic, which is in float32, around our network."""
    metric: Any = build_metric("cmmd", {})
    metric.load()
    package: Any = import_module("clip_mmd.logic")
    package.tqdm = lambda batches, **_: batches
    clip = metric._net.clip
    loop = package.CMMD(infer=False, device="cpu", img_size=(clip.size,) * 2, num_workers=0)

    @torch.no_grad()
    def features(pixels: Tensor) -> Tensor:
        return normalize(clip.net.encode_image(standardise(pixels)), dim=-1)

    loop.extractor = features

    def theirs(samples: Samples) -> Sequence[float]:
        return [float(loop.execute(samples.data, other.data))]

    def ours(samples: Samples) -> Sequence[float]:
        return [metric.score(samples, other).aggregate[""]]

    return Pair("`cmmd`, two sets to number", "tiny", timed(ours), timed(theirs), "clip-mmd")


def _diversity(folder: Path) -> Pair:
    """Pair by pair through the package, as its users do."""
    distance, file = random_scorers.lpips(folder)
    metric = build_metric("diversity", {"weights": str(file)})
    metric.load()

    def theirs(samples: Samples) -> Sequence[float]:
        groups = [combinations(samples.data[torch.tensor(g)], 2) for g in by_prompt(samples)]
        return [fmean(fmean(distance(*pair) for pair in group) for group in groups)]

    def ours(samples: Samples) -> Sequence[float]:
        return [metric.score(samples).aggregate[""]]

    name = f"`diversity`, {OF_A_PROMPT} pictures of 256 pixels a prompt"
    return Pair(name, "VGG16", timed(ours), timed(theirs), "lpips")
