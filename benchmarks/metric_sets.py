"""Metrics of whole sets beside torch-fidelity's own loop; a part of benchmarks/metrics.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import random_scorers
import torch
import torch_fidelity
from side_by_side import Pair, beside, pictures, timed
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.utils import get_featuresdict_from_dataset

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score.features import feature_net
from distillbench.score.preprocess import centre_patch
from distillbench.score.weights import INCEPTION_SIDE

MANY = 512  # pictures of the tiny network's size in each of two sets
SETS: Mapping[str, tuple[str, float, Mapping[str, Any]]] = {
    "fid": ("frechet_inception_distance", 1.0, {"fid": True}),
    "kid": ("kernel_inception_distance_mean", 1000.0,
            {"kid": True, "kid_subsets": 1, "kid_subset_size": MANY}),
    "precision_recall": ("precision", 1.0, {"prc": True}),
}  # fmt: skip
"""Metric -> torch-fidelity's name of it, our unit, what it is asked for."""


def set_rows(large: int, repeats: int) -> None:
    """Inception's features of `large` pictures of 512 pixels; whole metrics on tiny ones."""
    with TemporaryDirectory() as folder:
        net, file = random_scorers.inception(Path(folder))
        for rule in ("resize", "patch"):
            beside(_features(net, file, rule), pictures(large), repeats)
    for pair in _metrics():
        beside(pair, pictures(MANY, 32), repeats)


class Pictures(torch.utils.data.Dataset[torch.Tensor]):
    """Samples as torch-fidelity reads them: uint8 (3, H, W)."""

    def __init__(self, samples: Samples) -> None:
        self.data = samples.data.permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.data[index]


def _features(net: Any, file: Path, rule: str) -> Pair:
    """The same network after each side's own resizing, bicubic by PIL and bilinear by torch.

    Patches are cut for both sides and resized by neither, so that their features are compared too.
    """
    own, patch = feature_net(file, rule=rule), rule == "patch"

    def seen(samples: Samples) -> Sequence[float]:
        found = own.features(samples)
        return found.flatten().tolist() if patch else []

    def theirs(samples: Samples) -> Sequence[float]:
        shown = centre_patch(samples.data, INCEPTION_SIDE).to(torch.uint8) if patch else None
        given = Pictures(samples if shown is None else replace(samples, data=shown.movedim(1, -1)))
        found = get_featuresdict_from_dataset(given, net, 64, False, True, False)
        return found["2048"].flatten().tolist() if patch else []

    name = "`patch_fid`: features" if patch else "`fid`, `kid`, `precision_recall`: features"
    # A TorchScript program is compiled in its first two passes.
    return Pair(name, "Inception", timed(seen), timed(theirs), "torch-fidelity", warm=2)


def _metrics() -> Iterator[Pair]:
    shown = pictures(MANY, 32)
    other = replace(shown, data=shown.data.flip(1))
    for name in SETS:
        yield _metric(name, other)


def _metric(name: str, other: Samples) -> Pair:
    metric: Any = build_metric(name, {})
    metric.load()
    key, scale, asked = SETS[name]
    torch_fidelity.register_feature_extractor(name, _extractor(metric._net.net))
    layers = {f"feature_layer_{word}": "own" for word in ("fid", "kid", "prc")}

    def ours(samples: Samples) -> Sequence[float]:
        return [metric.score(samples, other).aggregate[""]]

    def theirs(samples: Samples) -> Sequence[float]:
        found = torch_fidelity.calculate_metrics(
            input1=Pictures(samples), input2=Pictures(other), feature_extractor=name, cuda=False,
            verbose=False, cache=False, save_cpu_ram=True, **layers, **asked,
        )  # fmt: skip
        return [scale * found[key]]

    what = f"`{name}`, two sets to number"
    return Pair(what, "tiny", timed(ours), timed(theirs), "torch-fidelity")


def _extractor(net: Any) -> type:
    """The tiny network as torch-fidelity takes one."""

    class Extractor(FeatureExtractorBase):  # type: ignore[misc, unused-ignore]
        def __init__(self, name: str, features_list: Sequence[str], **more: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("own",)

        def forward(self, shown: torch.Tensor) -> tuple[torch.Tensor]:
            return (net.embed(shown.float().div(127.5).sub(1)),)

    return Extractor
