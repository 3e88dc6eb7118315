"""What is odd about a plan without being wrong, in a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from distillbench.plan.identity import canonical_json
from distillbench.plan.stage import Cell, Stage
from distillbench.specs.stages import SampleSpec, ScoreSpec

__all__ = ["odd"]


def odd(cells: Sequence[Cell], stages: Mapping[str, Stage]) -> list[str]:
    """Notes on all rows of a plan."""
    return [
        *_snapshot_only_rows(cells),
        *_ambiguous_labels(cells),
        *_several_references(cells, stages),
        *_other_teachers(cells, stages),
    ]


def _other_teachers(cells: Sequence[Cell], stages: Mapping[str, Stage]) -> Iterator[str]:
    """A note for each backbone whose reference is not the teacher its rows show."""
    for alias, keys in _references(cells, stages).items():
        recipe = stages[keys[-1]].read(SampleSpec).sampler
        teachers = [stages[c.sample].read(SampleSpec).sampler for c in cells
                    if c.backbone == alias and not c.ranked]  # fmt: skip
        alike = [t for t in teachers if len(t.timesteps) == len(recipe.timesteps)]
        if alike and recipe not in alike:
            scale = f"guidance_scale {recipe.guidance_scale:g}"
            yield (f"{alias}: the reference ({scale}) is no teacher among the rows; "
                   "distances to it are not to theirs")  # fmt: skip


def _snapshot_only_rows(cells: Sequence[Cell]) -> list[str]:
    """A note for rows that no table shows unless it names updates."""
    ends = {(c.label, c.title, c.backbone) for c in cells if c.final}
    names = [c.name for c in cells if (c.label, c.title, c.backbone) not in ends]
    return [f"{name} has snapshots alone and no final checkpoint; tables, curves and claims show "
            "them where they name updates" for name in dict.fromkeys(names)]  # fmt: skip


def _references(cells: Sequence[Cell], stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    """Backbone -> keys of the samples that its rows are compared with, in their order."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        for score in cell.scores.values():
            if reference := stages[score].read(ScoreSpec).reference:
                found.setdefault(cell.backbone, []).append(reference)
    return found


def _several_references(cells: Sequence[Cell], stages: Mapping[str, Stage]) -> Iterator[str]:
    """A note for each backbone whose rows are compared with different samples of the teacher."""
    for alias, keys in _references(cells, stages).items():
        samples = (stages[key].read(SampleSpec) for key in dict.fromkeys(keys))
        chance = {"seed": 0, "adapters": [], "control": [], "image_prompts": []}
        if len({canonical_json({**sample.plain(), **chance}) for sample in samples}) > 1:
            yield (
                f"{alias}: rows are compared with different samples of the reference, as they "
                "differ in sample.n, sample.batch_size, sample.prompts or train.precision"
            )


def _ambiguous_labels(cells: Sequence[Cell]) -> list[str]:
    """A note for different runs that nothing in a table or a claim tells apart."""
    runs: dict[tuple[str, str], set[str]] = {}
    for c in cells:
        shown = [c.group, c.backbone, c.guidance_scale, c.updates, c.seed, dict(c.tags),
                 dict(c.varied)]  # fmt: skip
        named = f"{c.name} (nfe {c.nfe})", canonical_json(shown)
        runs.setdefault(named, set()).add(c.sample)
    alike = dict.fromkeys(name for (name, _), samples in runs.items() if len(samples) > 1)
    return [f"several different runs are called {name}; give each row a label" for name in alike]
