"""Stages and their specs, made from points; see `plan.build` for what a spec holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from distillbench.api.fields import split
from distillbench.errors import DistillbenchError
from distillbench.experiment.expand import GridPoint
from distillbench.experiment.schema import Experiment
from distillbench.files.leaves import leaves
from distillbench.files.marks import Problems
from distillbench.plan.datasets import Datasets, Prompts
from distillbench.plan.identity import IDENTITY_VERSION, canonical_json
from distillbench.plan.links import label_of
from distillbench.plan.real import metric_mark
from distillbench.plan.resolve import Resolved, Resolver
from distillbench.plan.stage import Cell, Stage
from distillbench.plan.stages import Stages
from distillbench.plan.trainings import Trainings
from distillbench.specs.stages import MetricSpec, PromptsSpec, SampleSpec, ScoreSpec

if TYPE_CHECKING:
    from distillbench.api.metric import Metric

__all__ = ["Planner"]

GUIDED_COST = 2.0


@dataclass
class Planner:
    """Makes stages and cells; the same key is made once.

    Attributes:
        made: the stages.
        points: row index -> the point it was made from.
        metrics: metric id -> built metric.
    """

    experiment: Experiment
    problems: Problems
    notes: list[str]
    points: dict[int, GridPoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._resolver = Resolver(self.experiment, self.problems)
        self.metrics: dict[str, Metric] = self._resolver.metrics()
        self._metric_specs = {
            name: self._metric_spec(name, metric) for name, metric in self.metrics.items()
        }
        runtime = {"threads": self.experiment.threads, "experiment": self.experiment.folder}
        self.made = Stages(runtime)
        self.data = Datasets(self.problems, self.notes)
        self.trainings = Trainings(self.made, self.data, self.problems)

    def resolve(self, point: GridPoint) -> Resolved | None:
        """The plug-ins of a point, its prompt sets checked; None when something does not fit."""
        resolved = self._resolver.resolve(point)
        if resolved is None:
            return None
        self.data.training(point, resolved)
        self.trainings.add(point, resolved)
        self.prompts(point, resolved, "sample")
        return resolved

    # ---- cells --------------------------------------------------------------------------

    def cells(self, rows: Sequence[tuple[GridPoint, Resolved]]) -> list[Cell]:
        """One cell per row and seed; rows that repeat another are dropped with a note."""
        seen: dict[str, tuple[int, str]] = {}
        runs: dict[str, str] = {}
        cells: list[Cell] = []
        for point, resolved in rows:
            label = label_of(point, resolved)
            samples = [self._sample(point, resolved, seed, label) for seed in point.seeds]
            config = point.config
            name = [config.label, config.group, dict(config.tags), resolved.shown.alias]
            twin = canonical_json([*name, resolved.recipe.nfe, [s.key for s in samples]])
            if twin in seen:
                row, other = seen[twin]
                self.notes.append(f"{point.tree.mark.prefix}{label} is {other} again; dropped")
                # A value that is swept is still found by its name where it is the base's own.
                cells = [replace(c, varied={**point.varied, **c.varied}) if c.row == row else c
                         for c in cells]  # fmt: skip
                continue
            seen[twin] = len(self.points), label
            same = runs.setdefault(samples[0].key, label)
            if same != label:
                self.notes.append(f"{label} and {same} are the same run; it is done once")
            row = len(self.points)
            self.points[row] = point
            settings = _settings(point, resolved)
            cells += [self._cell(row, point, resolved, sample, settings) for sample in samples]
        self.notes += [
            *_snapshot_only_rows(cells),
            *_ambiguous_labels(cells),
            *self._other_teachers(cells),
        ]
        return cells

    def _other_teachers(self, cells: Sequence[Cell]) -> list[str]:
        """A note for each backbone whose reference is not the teacher its rows show."""
        stages = self.made.stages
        notes = [*_several_references(cells, stages)]
        for alias, keys in _references(cells, stages).items():
            recipe = stages[keys[-1]].read(SampleSpec).sampler
            teachers = [stages[c.sample].read(SampleSpec).sampler for c in cells
                        if c.backbone == alias and not c.ranked]  # fmt: skip
            alike = [t for t in teachers if len(t.timesteps) == len(recipe.timesteps)]
            if alike and recipe not in alike:
                scale = f"guidance_scale {recipe.guidance_scale:g}"
                notes.append(f"{alias}: the reference ({scale}) is no teacher among the rows; "
                             "distances to it are not to theirs")  # fmt: skip
        return notes

    def _cell(
        self,
        row: int,
        point: GridPoint,
        resolved: Resolved,
        sample: Stage,
        settings: Mapping[str, Any],
    ) -> Cell:
        config = point.config
        return Cell(
            row=row,
            label=label_of(point, resolved) if config.label or point.suffix else "",
            group=config.group,
            method=resolved.method.name,
            title=resolved.method.title or resolved.method.name,
            backbone=resolved.shown.alias,
            nfe=point.nfe,
            seed=sample.read(SampleSpec).seed,
            guidance_scale=resolved.guidance_scale,
            updates=(point.updates or config.train.updates) if resolved.trains else 0,
            final=point.updates is None,
            ranked=resolved.method.has_student and not resolved.method.denoises,
            train=sample.needs[0],
            sample=sample.key,
            scores={name: self._score(name, point, resolved, sample).key for name in self.metrics},
            tags=config.tags,
            varied=point.varied,
            settings=settings,
        )

    # ---- stages -------------------------------------------------------------------------

    def _sample(self, point: GridPoint, resolved: Resolved, seed: int, label: str) -> Stage:
        train = self.trainings.stage(point, resolved, seed, label)
        prompts, n = self.prompts(point, resolved, "sample"), point.config.sample.n
        spec = SampleSpec(
            identity=IDENTITY_VERSION,
            train=train.key,
            backbone=resolved.used.spec,
            method=resolved.method_spec,
            sampler=resolved.recipe,
            prompts=PromptsSpec(sha256=prompts.sha256, n=n),
            seed=seed,
            batch_size=point.config.sample.batch_size,
        )
        if resolved.on is not None:
            spec = spec.model_copy(update={"sample_on": resolved.on.spec})
        guided = GUIDED_COST if resolved.recipe.guidance_scale != 1 else 1.0
        cost = n * resolved.recipe.nfe * guided
        snapshot = f" after {point.updates}" if point.updates else ""
        text = f"{label} {resolved.shown.alias} nfe {resolved.recipe.nfe}{snapshot} seed {seed}"
        needs = (train.key, *self.trainings.teachers(train))
        settings = dict(resolved.settings)
        if resolved.on is not None:
            settings["sample_on"] = resolved.on.settings
        runtime = {**self.made.runtime, **prompts.runtime, "settings": settings}
        return self.made.stage(spec, text, needs=needs, cost=cost, runtime=runtime)

    def _score(self, name: str, point: GridPoint, resolved: Resolved, sample: Stage) -> Stage:
        metric = self.metrics[name]
        reference = (
            self._reference(point, resolved, sample) if metric.info.needs_reference else None
        )
        spec = ScoreSpec(
            identity=IDENTITY_VERSION,
            sample=sample.key,
            reference=reference.key if reference else None,
            metric=self._metric_specs[name],
        )
        needs = (sample.key, reference.key) if reference else (sample.key,)
        cost = float(sample.read(SampleSpec).prompts.n)
        settings = {"metric": split(metric.config).marked}
        return self.made.stage(
            spec, f"{name} of {sample.label}", needs=needs, cost=cost,
            runtime={**self.made.runtime, "settings": settings},
        )  # fmt: skip

    def _metric_spec(self, name: str, metric: Metric) -> MetricSpec:
        mark, revision = metric_mark(self.experiment, name), ""
        try:
            wrong = metric.problems()
            for what in wrong:
                self.problems.add(mark, what)
            revision = "" if wrong else metric.revision()
        except DistillbenchError as error:
            self.problems.add(mark, error.line)
        params = dict(split(metric.config).decisive)
        return MetricSpec(
            name=metric.name, version=metric.version, params=params, revision=revision
        )

    def _reference(self, point: GridPoint, resolved: Resolved, sample: Stage) -> Stage | None:
        """The teacher's samples a metric compares with, of the row's own noise where that is asked.

        Samples that would be compared with themselves get another seed.
        """
        config = self.experiment.reference
        teacher = self._resolver.reference(resolved.shown)
        if config is None or teacher is None:
            return None
        seed = sample.read(SampleSpec).seed
        point = point.unlinked()  # the backbone's own teacher, whatever the row was trained from
        if config.noise == "same":
            stage = self._sample(point, teacher, seed, "reference")
            if stage.key != sample.key:
                return stage
        return self._sample(point, teacher, seed + config.floor_seed, "reference floor")

    def prompts(self, point: GridPoint, resolved: Resolved, part: str) -> Prompts:
        """The prompt set a point trains on ("data") or is sampled for ("sample")."""
        return self.data.prompts(point, resolved, part)


def _settings(point: GridPoint, resolved: Resolved) -> dict[str, Any]:
    """Dotted path -> value of all that a row was given or takes by default."""
    parts = {
        **point.config.model_dump(mode="json"),
        "params": resolved.method.config.model_dump(mode="json"),
        "sampler": resolved.recipe.model_dump(mode="json"),
    }
    return dict(leaves(parts))


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
        if len({canonical_json({**sample.plain(), "seed": 0}) for sample in samples}) > 1:
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
