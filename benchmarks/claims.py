"""Simulate the statistics of claims: false positives, coverage and power at several seeds.

    python benchmarks/claims.py [--draws 400] [--prompts 200]

Two rows (or eight, which pool the spread of their trainings) score the same prompts at S seeds. A
difference is a true effect, one of the prompt that all trainings share, one of the training, and
noise. Spreads of trainings and effects are in units of the prompt error: the standard error over
prompts at one seed. Verdicts go through the very functions that decide claims; beside them stands
the rule of before (interval over prompts alone, every seed agrees). A figure of `draws` is known to
about 1 % at 400.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from distillbench.analysis import stats
from distillbench.analysis.levels import Levels, levels, pool

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


def drawn(rng: random.Random, study: Study, effect: float) -> list[list[list[float]]]:
    """Values by row, seed and prompt; the first row is better by `effect`, and may be noisy."""
    error = math.sqrt(2 / study.prompts)
    rows = []
    for index in range(study.rows):
        spread = study.spread * error / math.sqrt(2) * (study.noisy if index == 0 else 1.0)
        own = [rng.gauss(0, math.sqrt(SHARED)) for _ in range(study.prompts)]
        better = effect * error if index == 0 else 0.0
        rows.append([
            [better + t + p + rng.gauss(0, math.sqrt(1 - SHARED)) for p in own]
            for t in (rng.gauss(0, spread) for _ in range(study.seeds))
        ])  # fmt: skip
    return rows


def error_of(rows: Sequence[Sequence[Sequence[float]]]) -> Levels:
    """The error that a claim about the first two rows is decided by."""
    seeds, prompts = len(rows[0]), len(rows[0][0])
    differences = [a - b for x, y in zip(rows[0], rows[1]) for a, b in zip(x, y)]
    units = [str(i % prompts) for i in range(len(differences))]
    found = levels(differences, units, [i // prompts for i in range(len(differences))])
    assert found is not None
    means = [[stats.mean(values) for values in row] for row in rows]
    together = pool(means[:2], means[2:]) if seeds > 1 else None
    if together is None:
        return found
    return replace(found, by_training=together.variance, training_df=together.df)


def before(rows: Sequence[Sequence[Sequence[float]]]) -> bool:
    """Whether the old rule decided: 95 % over prompts, and every seed of one sign."""
    by_seed = [stats.mean([a - b for a, b in zip(x, y)]) for x, y in zip(rows[0], rows[1])]
    by_prompt = [
        stats.mean([x[p] - y[p] for x, y in zip(rows[0], rows[1])]) for p in range(len(rows[0][0]))
    ]
    error = stats.seeds_stderr(by_prompt) or 0.0
    agree = len({value > 0 for value in by_seed}) == 1
    return agree and abs(stats.mean(by_prompt)) > 1.96 * error


def studied(study: Study, draws: int) -> tuple[float, float, float, list[float]]:
    """Shares of `draws`: significant nulls, intervals that hold the truth, old rule, power."""
    rng = random.Random(repr(study))
    nulls = [drawn(rng, study, 0.0) for _ in range(draws)]
    wrong, inside, old = 0, 0, 0
    for rows in nulls:
        error = error_of(rows)
        low, high = error.interval()
        wrong += error.p < 0.05
        inside += low <= 0 <= high
        old += before(rows)
    power = []
    for effect in EFFECTS:
        seen = (error_of(drawn(rng, study, effect)) for _ in range(draws // 2))
        power.append(sum(e.p < 0.05 and e.mean > 0 for e in seen) / (draws // 2))
    return wrong / draws, inside / draws, old / draws, power


def studies(prompts: int) -> Iterator[Study]:
    """Every design of the table."""
    for rows in (2, 8):
        for spread in SPREADS:
            for seeds in SEEDS:
                yield Study(seeds, spread, rows, prompts)
    for seeds in SEEDS:
        yield Study(seeds, 1.0, 8, prompts, noisy=2.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=200)
    options = parser.parse_args()
    effects = " / ".join(f"{effect:g}" for effect in EFFECTS)
    heads = ("rows", "trainings' spread", "seeds", "false positives", "coverage",
             f"power for an effect of {effects}", "false positives of the old rule")  # fmt: skip
    print(f"| {' | '.join(heads)} |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for study in studies(options.prompts):
        wrong, inside, old, power = studied(study, options.draws)
        noisy = f"{study.spread:g}, one row {study.noisy:g} times" if study.noisy != 1 else ""
        print(f"| {study.rows} | {noisy or f'{study.spread:g}'} | {study.seeds} | "
              f"{100 * wrong:.1f} % | {100 * inside:.1f} % | "
              f"{' / '.join(f'{100 * p:.0f} %' for p in power)} | {100 * old:.1f} % |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
