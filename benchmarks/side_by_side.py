"""Two ways of one thing, timed in turns by the CPU seconds of the processes that compute."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from PIL import Image

from distillbench.api.metric import Samples

__all__ = ["HEAD", "Pair", "Pass", "beside", "loop", "pictures", "timed"]

HEAD = (
    "| what | network | pictures | ours, pictures per CPU s | theirs | ours / theirs | "
    "relative difference of values | beside |\n|---|---|---:|---:|---:|---:|---:|---|"
)


@dataclass(frozen=True)
class Pass:
    """All pictures once: CPU seconds, and a value a picture where both sides give the same one."""

    seconds: float
    values: Sequence[float] = ()


Way = Callable[[Samples], Pass]


@dataclass(frozen=True)
class Pair:
    """A metric of ours beside another's way with the same pictures and weights.

    Attributes:
        name, network: what is timed.
        ours, theirs: both ways.
        library: whose theirs is.
        warm: first passes that are left out, as they read and compile what later ones find.
    """

    name: str
    network: str
    ours: Way
    theirs: Way
    library: str
    warm: int = 1


def timed(what: Callable[[Samples], Sequence[float] | None]) -> Way:
    """A way that computes in this process."""

    def once(samples: Samples) -> Pass:
        began = time.process_time()
        found = what(samples)
        return Pass(time.process_time() - began, found or ())

    return once


def loop(one: Callable[[Image.Image, str], object]) -> Way:
    """A picture and its prompt at a time, as the packages have it."""

    def every(samples: Samples) -> None:
        with torch.no_grad():
            for picture, prompt in zip(samples.data.numpy(), samples.prompts, strict=True):
                one(Image.fromarray(picture), prompt)

    return timed(every)


def pictures(count: int, side: int = 512) -> Samples:
    """Noise, and a prompt for each."""
    rng = torch.Generator().manual_seed(1)
    data = torch.randint(0, 256, (count, side, side, 3), generator=rng, dtype=torch.uint8)
    return Samples(data, [f"a photo of number {i}" for i in range(count)], [""] * count, 0)


def beside(pair: Pair, samples: Samples, repeats: int) -> None:
    """Print one row: pictures per CPU second, the median of `repeats` passes in turns."""
    fresh = dataclasses.replace(samples, key="")  # features of a key are kept
    both = [(pair.ours(fresh), pair.theirs(fresh)) for _ in range(pair.warm + repeats)]
    ours, theirs = (
        len(samples) / median(passes[side].seconds for passes in both[pair.warm :])
        for side in (0, 1)
    )
    one, two = (passes.values for passes in both[-1])
    apart = f"{_apart(one, two):.1e}" if one else "--"
    print(f"| {pair.name} | {pair.network} | {len(samples)} | {ours:.4g} | {theirs:.4g} | "
          f"{ours / theirs:.2f} | {apart} | {pair.library} |", flush=True)  # fmt: skip


def _apart(one: Sequence[float], two: Sequence[float]) -> float:
    """The largest difference, as a share of the largest value where that is not 0."""
    return max(abs(a - b) for a, b in zip(one, two, strict=True)) / (max(map(abs, two)) or 1.0)
