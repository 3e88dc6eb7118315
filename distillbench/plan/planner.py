"""Stages and their specs, made from points; see `plan.build` for what a spec holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from distillbench.api.fields import split
from distillbench.errors import DistillbenchError
from distillbench.experiment.expand import GridPoint
from distillbench.experiment.schema import Experiment
from distillbench.files.leaves import leaves
from distillbench.files.marks import Problems
from distillbench.plan.datasets import Datasets, Prompts
from distillbench.plan.given import Given, GivenRows, given_fields
from distillbench.plan.identity import IDENTITY_VERSION, canonical_json
from distillbench.plan.links import label_of
from distillbench.plan.notes import odd
from distillbench.plan.places import Places, name_of
from distillbench.plan.real import metric_mark
from distillbench.plan.resolve import Resolved, Resolver
from distillbench.plan.stage import Cell, Stage
from distillbench.plan.stages import Stages
from distillbench.plan.steering import Steered, steered
from distillbench.plan.trainings import Trainings
from distillbench.plan.weights import adapters_of
from distillbench.specs.stages import (
    MetricSpec,
    PromptsSpec,
    SampledSpec,
    SampleSpec,
    ScoreSpec,
)

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
        self._given = GivenRows(self._resolver, self.data, self.made, self.problems, self.notes)

    def resolve(self, point: GridPoint) -> Resolved | Given | None:
        """The plug-ins of a point, its prompt sets checked; None when something does not fit."""
        if point.config.samples:
            return self._given.resolve(point)
        resolved = self._resolver.resolve(point)
        if resolved is None:
            return None
        self.data.training(point, resolved)
        self.trainings.add(point, resolved)
        self.prompts(point, resolved, "sample")
        adapters_of(point.config, resolved.sampled, point.tree, self.problems)
        self._steered(point, resolved)
        return resolved

    def place(self, rows: Sequence[tuple[GridPoint, Resolved | Given]]) -> None:
        """Take note of what rows are sampled on, and check what they are compared with."""
        self._places = Places(rows, self._resolver)
        self._places.check(self.problems)

    # ---- cells --------------------------------------------------------------------------

    def cells(self, rows: Sequence[tuple[GridPoint, Resolved | Given]]) -> list[Cell]:
        """One cell per row and seed; rows that repeat another are dropped with a note."""
        seen: dict[str, tuple[int, str]] = {}
        runs: dict[str, str] = {}
        cells: list[Cell] = []
        again: dict[int, dict[str, Any]] = {}
        for point, resolved in rows:
            label, config = name_of(point, resolved), point.config
            samples = self._samples(point, resolved, label)
            name = [config.label, config.group, dict(config.tags), self._places.of(point, resolved)]
            twin = canonical_json([*name, point.nfe, [s.key for s in samples]])
            if twin in seen:
                row, other = seen[twin]
                self.notes.append(f"{point.tree.mark.prefix}{label} is {other} again; dropped")
                again[row] = {**point.varied, **again.get(row, {})}
                continue
            seen[twin] = len(self.points), label
            same = runs.setdefault(samples[0].key, label)
            if same != label:
                self.notes.append(f"{label} and {same} are the same run; it is done once")
            row = len(self.points)
            self.points[row] = point
            settings = _settings(point, resolved)
            cells += [self._cell(row, point, resolved, sample, settings) for sample in samples]
        # A value that is swept is still found by its name where it is the base's own.
        cells = [replace(c, varied={**again[c.row], **c.varied}) if c.row in again else c
                 for c in cells]  # fmt: skip
        self.notes += odd(cells, self.made.stages)
        return cells

    def _cell(
        self,
        row: int,
        point: GridPoint,
        resolved: Resolved | Given,
        sample: Stage,
        settings: Mapping[str, Any],
    ) -> Cell:
        more = (
            given_fields(point)
            if isinstance(resolved, Given)
            else _fields(point, resolved, sample)
        )  # fmt: skip
        return Cell(
            row=row,
            group=point.config.group,
            backbone=self._places.of(point, resolved),
            nfe=point.nfe,
            seed=sample.read(SampledSpec).seed,
            sample=sample.key,
            scores={name: self._score(name, point, resolved, sample).key for name in self.metrics},
            tags=point.config.tags,
            varied=point.varied,
            settings=settings,
            **more,
        )

    # ---- stages -------------------------------------------------------------------------

    def _samples(self, point: GridPoint, resolved: Resolved | Given, label: str) -> list[Stage]:
        """One for each seed."""
        if isinstance(resolved, Given):
            return [self._given.stage(point, resolved, seed, label) for seed in resolved.content]
        return [self._sample(point, resolved, seed, label) for seed in point.seeds]

    def _sample(
        self,
        point: GridPoint,
        resolved: Resolved,
        seed: int,
        label: str,
        *,
        noise: int | None = None,
    ) -> Stage:
        """Samples of a run; `noise` is their seed where that is not the run's."""
        train = self.trainings.stage(point, resolved, seed, label)
        prompts, n = self.prompts(point, resolved, "sample"), point.config.sample.n
        spec = SampleSpec(
            identity=IDENTITY_VERSION,
            train=train.key,
            backbone=resolved.used.spec,
            method=resolved.method_spec,
            sampler=resolved.recipe,
            prompts=PromptsSpec(sha256=prompts.sha256, n=n),
            seed=seed if noise is None else noise,
            batch_size=point.config.sample.batch_size,
        )
        if resolved.on is not None:
            spec = spec.model_copy(update={"sample_on": resolved.on.spec})
        if point.config.sample.trajectory:
            spec = spec.model_copy(update={"trajectory": point.config.sample.trajectory})
        guided = GUIDED_COST if resolved.recipe.guidance_scale != 1 else 1.0
        cost = n * resolved.recipe.nfe * guided
        snapshot = f" after {point.updates}" if point.updates else ""
        text = f"{label} {resolved.shown.alias} nfe {resolved.recipe.nfe}{snapshot} seed {seed}"
        needs = [train.key, *self.trainings.teachers(train)]
        if on_top := adapters_of(point.config, resolved.sampled, point.tree, self.problems):
            spec = spec.model_copy(update={"adapters": on_top})
        if resolved.onto:
            there = self.trainings.run(point, resolved, "sample_on", seed)
            spec = spec.model_copy(update={"onto": there.key})
            needs += [there.key, *self.trainings.teachers(there)]
        settings = dict(resolved.settings)
        if resolved.on is not None:
            settings["sample_on"] = resolved.on.settings
        runtime = {**self.made.runtime, **prompts.runtime, "settings": settings}
        if on_top:
            runtime["adapters"] = [given.weights for given in point.config.adapters]
        steering = self._steered(point, resolved)
        if steering.spec:
            spec = spec.model_copy(update=steering.spec)
            runtime["places"] = steering.places
        needs = list(dict.fromkeys(needs))
        return self.made.stage(spec, text, needs=tuple(needs), cost=cost, runtime=runtime)

    def _steered(self, point: GridPoint, resolved: Resolved) -> Steered:
        """The ControlNets and IP-Adapters of a row; what does not fit is noted."""
        if not (point.config.control or point.config.image_prompts):
            return Steered({}, {})
        chosen = self.data.content(self.prompts(point, resolved, "sample"))
        n = point.config.sample.n
        return steered(point.config, resolved.sampled, chosen, n, point.tree, self.problems)

    def _score(
        self, name: str, point: GridPoint, resolved: Resolved | Given, sample: Stage
    ) -> Stage:
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
        cost = float(sample.read(SampledSpec).prompts.n)
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

    def _reference(
        self, point: GridPoint, resolved: Resolved | Given, sample: Stage
    ) -> Stage | None:
        """The teacher's samples a metric compares with, of the row's own noise where that is asked.

        Samples that would be compared with themselves get another seed.
        """
        config, found = self.experiment.reference, self._places.teacher(point, resolved)
        if config is None or found is None:
            return None
        point, teacher = found
        seed = sample.read(SampledSpec).seed
        if config.noise == "same":
            stage = self._sample(point, teacher, seed, "reference")
            if stage.key != sample.key:
                return stage
        other = seed + config.floor_seed
        return self._sample(point, teacher, seed, "reference floor", noise=other)

    def prompts(self, point: GridPoint, resolved: Resolved, part: str) -> Prompts:
        """The prompt set a point trains on ("data") or is sampled for ("sample")."""
        return self.data.prompts(point, resolved, part)


def _fields(point: GridPoint, resolved: Resolved, sample: Stage) -> dict[str, Any]:
    """What a cell says of samples that are made here."""
    method = resolved.method
    return {
        "label": label_of(point, resolved) if point.config.label or point.suffix else "",
        "method": method.name,
        "title": method.title or method.name,
        "guidance_scale": resolved.guidance_scale,
        "updates": (point.updates or point.config.train.updates) if resolved.trains else 0,
        "final": point.updates is None,
        "ranked": method.has_student and not method.denoises,
        "train": sample.needs[0],
    }


def _settings(point: GridPoint, resolved: Resolved | Given) -> dict[str, Any]:
    """Dotted path -> value of all that a row was given or takes by default."""
    config = point.config.model_dump(mode="json")
    if isinstance(resolved, Given):
        return dict(leaves(config))
    parts = {
        **config,
        "params": resolved.method.config.model_dump(mode="json"),
        "sampler": resolved.recipe.model_dump(mode="json"),
    }
    return dict(leaves(parts))
