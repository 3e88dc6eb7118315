"""Metrics beside the loops of their own packages; a part of benchmarks/metrics.py.

hps and image_reward beside hpsv2 and image-reward in the environments of `distillbench env create`,
lpips beside the package lpips where it is installed. What is not there is said in one line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import random_scorers
from PIL import Image
from side_by_side import Pair, Pass, beside, installed, pictures, timed

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.errors import BadInput
from distillbench.score.envs import environment_python
from distillbench.score.reward import package_sizes

HERE = Path(__file__).resolve().parent
Ours = Callable[[Samples], Sequence[float]]


def package_rows(small: int, large: int, repeats: int) -> None:
    """All rows, of `small` pictures of 512 pixels, `large` where a network has published sizes."""
    few = pictures(large)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for package, rows in {"hpsv2": preference, "image-reward": reward}.items():
            try:
                environment_python(package)
            except BadInput as error:
                print(f"not timed: {error}; {error.hint}", flush=True)
            else:
                rows(folder, pictures(small), few, repeats)
        perceptual(folder, replace(few, data=few.data[:, :256, :256].contiguous()), repeats)


# ---- packages in environments of their own ---------------------------------------------------


class PackageLoop:
    """A package's loop in its environment, over samples it is given at the start."""

    def __init__(self, job: Mapping[str, Any], samples: Samples, folder: Path) -> None:
        python = environment_python(job["package"])
        folder.mkdir()
        items = []
        for number, picture in enumerate(samples.data.numpy()):
            path = folder / f"{number:06d}.png"
            Image.fromarray(picture).save(path)
            items.append({"picture": str(path), "prompt": samples.prompts[number]})
        self.said = (folder / "said.txt").open("w+")
        self.process = subprocess.Popen(
            [str(python), str(HERE / "package_loop.py")], text=True, stderr=self.said,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._say(f"{json.dumps({'device': 'cpu', **job})}\n{json.dumps(items)}\n")

    def __call__(self, samples: Samples) -> Pass:
        """Its pictures once. Exits with the package's last lines where it died."""
        self._say("\n")
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            self.said.seek(0)
            sys.exit("".join(self.said.readlines()[-8:]))
        return Pass(**json.loads(line))

    def _say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self) -> None:
        """Let it go."""
        self.process.communicate()
        self.said.close()


def preference(folder: Path, many: Samples, few: Samples, repeats: int) -> None:
    """hps beside hpsv2, without the weights that it reads anew for every prompt."""
    sizes = {"small": random_scorers.SMALL, "ViT-H-14": open_clip.get_model_config("ViT-H-14")}
    for (network, config), samples in zip(sizes.items(), (many, few), strict=True):
        place = random_scorers.hps(folder / network, config)
        metric: Any = build_metric("hps", {"weights": str(place)})
        metric.load()

        def ours(samples: Samples, metric: Any = metric) -> Sequence[float]:
            metric._clip._texts.clear()
            return [value / 100 for value in metric.score(samples).per_sample[""]]

        job = {"package": "hpsv2", "arch": config, "checkpoint": str(place / "HPS.pt")}
        _packaged("`hps`", network, ours, job, samples, repeats)
        import_module("distillbench.score.features").clip_extractor.cache_clear()


def reward(folder: Path, many: Samples, few: Samples, repeats: int) -> None:
    """image_reward beside image-reward, whose vision network has one size alone."""
    place = random_scorers.reward(folder / "reward")
    metric = build_metric("image_reward", {"weights": str(place)})
    metric.load()
    file = place / "ImageReward.pt"
    job = {"package": "image-reward", "checkpoint": str(file), "text": package_sizes(file),
           "vocabulary": str(place / "vocab.txt")}  # fmt: skip
    _packaged("`image_reward`", "published sizes", lambda s: list(metric.score(s).per_sample[""]),
              job, few, repeats)  # fmt: skip
    import_module("distillbench.score.reward").reward_net.cache_clear()


def _packaged(
    name: str, network: str, ours: Ours, job: Mapping[str, Any], samples: Samples, repeats: int
) -> None:
    with TemporaryDirectory() as folder:
        theirs = PackageLoop(job, samples, Path(folder) / "pictures")
        try:
            beside(Pair(name, network, timed(ours), theirs, job["package"]), samples, repeats)
        finally:
            theirs.end()


# ---- packages of this environment ------------------------------------------------------------


def perceptual(folder: Path, samples: Samples, repeats: int) -> None:
    """lpips beside the package, its trunk with random weights, of 256 pixels; not torchmetrics."""
    if not installed("`lpips`", random_scorers.LPIPS, "lpips", "scipy"):
        return
    distance, file = random_scorers.lpips(folder)
    metric = build_metric("lpips", {"weights": str(file)})
    metric.load()
    other = replace(samples, data=samples.data.flip(0))

    def theirs(samples: Samples) -> Sequence[float]:
        return [distance(*pair) for pair in zip(samples.data, other.data, strict=True)]

    def ours(samples: Samples) -> Sequence[float]:
        return list(metric.score(samples, other).per_sample[""])

    pair = Pair("`lpips`, pairs of 256 pixels", "VGG16", timed(ours), timed(theirs), "lpips")
    beside(pair, samples, repeats)
