"""Values of the pictures of one prompt together: how different they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from distillbench.api.metric import Samples, Scores
from distillbench.errors import BadInput
from distillbench.files.places import Need
from distillbench.score.jackknife import whole_set
from distillbench.score.progress import tick

__all__ = ["by_prompt", "groups_need", "mean_of_groups"]

BLOCKS = 10


def groups_need(name: str, n: int, prompts: Sequence[str]) -> Need:
    """Samples enough that some prompt has two pictures."""
    distinct = len(set(prompts))
    few = bool(prompts) and min(n, len(prompts)) == len(set(prompts[:n])) and n <= len(prompts)
    problem = f"each of {min(n, distinct)} prompts has one sample; it takes two" if few else ""
    fix = f"raise sample.n to {2 * len(prompts)}, or name a shorter prompt set" if few else ""
    return Need("samples", f"of {name}", problem, fix)


def by_prompt(samples: Samples) -> list[list[int]]:
    """Numbers of the samples of each prompt that has two or more. Raises BadInput without one."""
    found: dict[str, list[int]] = {}
    for index, prompt in enumerate(samples.prompts):
        found.setdefault(prompt, []).append(index)
    groups = [members for members in found.values() if len(members) > 1]
    if not groups:
        raise BadInput("no prompt has two samples", hint="raise sample.n above the prompts")
    return groups


def mean_of_groups(
    groups: Sequence[Sequence[int]], value: Callable[[Sequence[int]], float],
    protocol: dict[str, Any],
) -> Scores:  # fmt: skip
    """The mean over prompts, with its value without each tenth of the prompts."""
    values = []
    for number, group in enumerate(groups):
        values.append(value(group))
        tick(number + 1, len(groups))
    left_out = []
    if len(values) >= 2 * BLOCKS:
        kept = [[v for i, v in enumerate(values) if i % BLOCKS != b] for b in range(BLOCKS)]
        left_out = [math.fsum(k) / len(k) for k in kept]
    told = {**protocol, "groups": len(groups), "group_size": min(map(len, groups))}
    return Scores({"": math.fsum(values) / len(values)}, **whole_set(left_out), protocol=told)
