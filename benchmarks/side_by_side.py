"""Two ways of one thing, timed in turns by the CPU seconds of the processes that compute."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import util
from statistics import median

import torch
from PIL import Image

from distillbench.api.metric import Samples

__all__ = ["HEAD", "Pair", "Pass", "beside", "installed", "loop", "pictures", "timed"]

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
        ours, theirs: both ways; None where there is nothing beside ours.
        library: whose theirs is.
        warm: first passes that are left out, as they read and compile what later ones find.
        frames: pictures of one sample.
    """

    name: str
    network: str
    ours: Way
    theirs: Way | None = None
    library: str = "--"
    warm: int = 1
    frames: int = 1


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


def installed(what: str, command: str, *modules: str) -> bool:
    """Whether all modules are there; says in one line what is not timed where one is not."""
    lacking = [module for module in modules if not util.find_spec(module)]
    if lacking:
        print(f"not timed: {what}, as there is no {lacking[0]}; {command}", flush=True)
    return not lacking


def beside(pair: Pair, samples: Samples, repeats: int) -> None:
    """Print one row: pictures per CPU second, the median of `repeats` passes in turns.

    Columns of the other side are `--` where there is none.
    """
    fresh = dataclasses.replace(samples, key="")  # features of a key are kept
    ways = [pair.ours, pair.theirs] if pair.theirs else [pair.ours]
    passes = [[way(fresh) for way in ways] for _ in range(pair.warm + repeats)]
    count = len(samples) * pair.frames
    rates = [
        count / median(one.seconds for one in each)
        for each in zip(*passes[pair.warm :], strict=True)
    ]
    ours, *theirs = rates
    shown = [f"{rate:.4g}" for rate in rates] + [f"{ours / rate:.2f}" for rate in theirs]
    values = [one.values for one in passes[-1]]
    apart = f"{_apart(*values):.1e}" if theirs and values[0] else "--"
    cells = [*shown, "--", "--"][:3]
    print(f"| {pair.name} | {pair.network} | {count} | {' | '.join(cells)} | {apart} | "
          f"{pair.library} |", flush=True)  # fmt: skip


def _apart(one: Sequence[float], two: Sequence[float]) -> float:
    """The largest difference, as a share of the largest value where that is not 0."""
    return max(abs(a - b) for a, b in zip(one, two, strict=True)) / (max(map(abs, two)) or 1.0)
