"""Simulate the statistics of claims: false positives, coverage and power at several seeds.

    python benchmarks/claims.py [--draws 20000] [--prompts 200]

Two rows (or eight, which pool the spread of their trainings) score the same prompts at S seeds. A
difference is a true effect, one of the prompt that all trainings share, one of the training, and
noise. Spreads of trainings and effects are in units of the prompt error: the standard error over
prompts at one seed. Normal values reach a verdict through means and mean squares alone, which are
drawn as such (Cochran's theorem); `Levels` and `pool` then decide as they decide claims. An
interval holds the truth where its p-value is 0.05 or more, so that coverage is what false positives
leave of 100 %. Beside it stands the rule of before (interval over prompts alone, every seed
agrees). A figure of 20,000 draws is known to 0.15 %.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from distillbench.analysis.levels import Levels, pool

SHARED = 0.5  # of the variance over prompts, what all trainings share
SEEDS = (2, 3, 5)
SPREADS = (0.0, 0.5, 1.0)
EFFECTS = (2.0, 4.0)


@dataclass(frozen=True)
class Study:
    """One design."""

    seeds: int
    spread: float
    rows: int
    prompts: int
    noisy: float = 1.0


@dataclass(frozen=True)
class Draws:
    """Means (draw, row, seed); of the first two rows' differences what prompts add to them.

    Attributes:
        means: of each row and seed.
        by_prompt: variance of the mean difference by prompts, the noise included.
        noise: the same of what neither prompt nor training explains.
    """

    means: np.ndarray
    by_prompt: np.ndarray
    noise: np.ndarray


def drawn(rng: np.random.Generator, study: Study, effect: float, draws: int) -> Draws:
    """Studies whose first row is better by `effect` prompt errors, and may be noisy."""
    p, s = study.prompts, study.seeds
    error = math.sqrt(2 / p)
    spreads = np.full(study.rows, study.spread * error / math.sqrt(2))
    spreads[0] *= study.noisy
    means = rng.normal(0, 1, (draws, study.rows, s)) * spreads[:, None]
    means += rng.normal(0, math.sqrt((1 - SHARED) / p), means.shape)
    means += rng.normal(0, math.sqrt(SHARED / p), (draws, study.rows, 1))
    means[:, 0] += effect * error
    noise, whole = 2 * (1 - SHARED) / (s * p), 2 * SHARED / p + 2 * (1 - SHARED) / (s * p)
    free = (s - 1) * (p - 1)
    return Draws(
        means, whole * rng.chisquare(p - 1, draws) / (p - 1),
        noise * rng.chisquare(free, draws) / free,
    )  # fmt: skip


def errors_of(study: Study, found: Draws) -> Iterator[Levels]:
    """The error that each draw's claim about the first two rows is decided by."""
    differences = found.means[:, 0] - found.means[:, 1]
    by_training = differences.var(axis=1, ddof=1) / study.seeds
    for index, rows in enumerate(found.means.tolist()):
        noise = float(found.noise[index])
        error = Levels(
            float(differences[index].mean()), study.seeds, study.prompts,
            float(by_training[index]), max(float(found.by_prompt[index]) - noise, 0.0), noise,
            study.seeds - 1, study.prompts - 1,
        )  # fmt: skip
        together = pool(rows[:2], rows[2:])
        if together:
            error = replace(error, by_training=together.variance, training_df=together.df)
        yield error


def before(found: Draws) -> np.ndarray:
    """Whether the old rule decides: 95 % over prompts, and every seed of one sign."""
    differences = found.means[:, 0] - found.means[:, 1]
    agree = np.abs(np.sign(differences).sum(axis=1)) == differences.shape[1]
    return agree & (np.abs(differences.mean(axis=1)) > 1.96 * np.sqrt(found.by_prompt))


def studied(study: Study, draws: int) -> tuple[float, float, list[float]]:
    """Shares of `draws`: significant nulls by this rule and the old one; power by effect."""
    rng = np.random.default_rng(list(repr(study).encode()))
    nulls = drawn(rng, study, 0.0, draws)
    wrong = sum(error.p < 0.05 for error in errors_of(study, nulls)) / draws
    power = []
    for effect in EFFECTS:
        some = drawn(rng, study, effect, draws // 10)
        seen = [error.p < 0.05 and error.mean > 0 for error in errors_of(study, some)]
        power.append(sum(seen) / len(seen))
    return wrong, float(before(nulls).mean()), power


def studies(prompts: int) -> Iterator[Study]:
    """Every design of the table."""
    for rows in (2, 8):
        for spread in SPREADS:
            for seeds in SEEDS:
                yield Study(seeds, spread, rows, prompts)
    for seeds in SEEDS:
        yield Study(seeds, 1.0, 8, prompts, noisy=2.0)
    for spread in (2.0, 4.0):
        for seeds in SEEDS:
            yield Study(seeds, spread, 2, prompts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--prompts", type=int, default=200)
    options = parser.parse_args()
    effects = " / ".join(f"{effect:g}" for effect in EFFECTS)
    heads = ("rows", "trainings' spread", "seeds", "false positives", "coverage",
             f"power for an effect of {effects}", "false positives of the old rule")  # fmt: skip
    print(f"| {' | '.join(heads)} |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for study in studies(options.prompts):
        wrong, old, power = studied(study, options.draws)
        noisy = f"{study.spread:g}, one row {study.noisy:g} times" if study.noisy != 1 else ""
        print(f"| {study.rows} | {noisy or f'{study.spread:g}'} | {study.seeds} | "
              f"{100 * wrong:.1f} % | {100 - 100 * wrong:.1f} % | "
              f"{' / '.join(f'{100 * p:.0f} %' for p in power)} | {100 * old:.1f} % |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
