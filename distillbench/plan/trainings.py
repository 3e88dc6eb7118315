"""The train stages of a plan: what decides them, the runs they start from, the snapshots.

A row may take another row's trained net as its `teacher`, or start its student from another row's
(`init`). Both are named by label, must lie on the same backbone (or another size of it), and are
trained with the same seed. A row that takes its student after some of the `updates` gets a stage of
its own, which ends there; the stages of one training share its checkpoints and follow each other,
so that no update is made twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from distillbench.errors import BadInput
from distillbench.experiment.expand import GridPoint
from distillbench.files.marks import Problems, locate
from distillbench.files.places import images_folder
from distillbench.plan import train_options
from distillbench.plan.datasets import Datasets
from distillbench.plan.identity import IDENTITY_VERSION, content_key
from distillbench.plan.links import LINKS, Link, Links, label_of
from distillbench.plan.resolve import Resolved
from distillbench.plan.stage import Stage
from distillbench.plan.stages import Stages
from distillbench.specs.stages import (
    DataSpec,
    FitSpec,
    TrainSettings,
    TrainSpec,
)

__all__ = ["Trainings"]

TRAIN_COST = 3.0
"""A training update of one sample against one network evaluation: forward and backward."""


@dataclass
class Trainings:
    """Makes train stages."""

    made: Stages
    datasets: Datasets
    problems: Problems
    links: Links = field(default_factory=Links)
    _snapshots: dict[str, set[int]] | None = None
    _images: dict[tuple[str, bool], str] = field(default_factory=dict)
    _known: dict[tuple[Hashable, ...], tuple[Any, Any, tuple[TrainSpec, str]]] = field(
        default_factory=dict
    )

    def add(self, point: GridPoint, resolved: Resolved) -> None:
        """Make a row known, and check what it says of its own training."""
        self.links.add(point, resolved)
        snapshots, updates = point.config.snapshots, point.config.train.updates
        if snapshots and not resolved.trains:
            self._problem(point, "snapshots", f"{resolved.method.name} trains nothing")
        elif snapshots and snapshots[0] > updates:
            what = f"there is no update {snapshots[0]} in a training of train.updates {updates}"
            self._problem(point, "snapshots", what)
        if resolved.trains:
            for key, what in train_options.problems(point.config.train, resolved.method):
                self._problem(point, f"train.{key}", what)

    def check(self) -> None:
        """Report every link that names no fitting run."""
        links = list(self.links)
        for checked in (self.links.problem, self._run_problem):
            found = [(point, link, checked(point, its, link)) for point, its, link in links]
            problems = [(point, link, what) for point, link, what in found if what]
            for point, link, what in problems:
                self._problem(point, link, what)
            if problems:
                return  # what runs are is only known where every link leads somewhere

    def _run_problem(self, point: GridPoint, resolved: Resolved, link: Link) -> str:
        found, label, seed = self.links.named(point, resolved, link), getattr(point.config, link), 0
        if len({self._key(p.whole(), r, seed) for p, r in found}) > 1:
            return f"label {label!r} means several trainings; give the one that is meant its own"
        own, theirs = (self._spec(p, r, seed) for p, r in ((point, resolved), found[0]))
        student = resolved.method.nets().get(resolved.method.student)
        adapter = link == "init" and student is not None and student.kind == "lora"
        if adapter and own.teacher != theirs.teacher:
            return (
                f"the adapter of {label!r} fits the teacher it was trained on alone, which is "
                "another here; give both rows one teacher, or set nets: copy in both"
            )
        return ""

    def _problem(self, point: GridPoint, key: str, what: str) -> None:
        self.problems.add(locate(point.tree, tuple(key.split(".")))[0], what)

    # ---- stages ---------------------------------------------------------------------------

    def stage(self, point: GridPoint, resolved: Resolved, seed: int, label: str) -> Stage:
        """The training of a row, up to the update of its snapshot."""
        (spec, key), trains = self._made(point, resolved, seed), resolved.trains
        for link in LINKS:
            if getattr(point.config, link):
                other, its = self._run(point, resolved, link)
                if self._key(other, its, seed) not in self.made.stages:
                    self.stage(other, its, seed, label_of(other, its))
        runtime: dict[str, Any] = {
            **self.made.runtime,
            "save_every": point.config.train.save_every,
        }
        runtime["settings"] = resolved.settings
        if trains and point.config.data.images:
            runtime["images"] = str(images_folder(point.config.data.images))
        elif trains:
            runtime |= self.datasets.prompts(point, resolved, "data").runtime
        theirs = resolved.method.published() is not None
        own = trains or bool(point.config.teacher)  # else one stage of many rows and seeds
        title = label if own or theirs else resolved.method.title or resolved.method.name
        name = f"{title} {resolved.used.alias}" + (f" seed {seed}" if own else "")
        starts = self._starts_from(spec)
        cost = _cost(point, resolved)
        needs, done = starts, 0.0
        for stop in sorted(self._stops.get(key, ())):
            train = spec.train.model_copy(update={"stop": stop})
            cut = spec.model_copy(update={"train": train})
            share = stop / point.config.train.updates
            stage = self.made.stage(
                cut, f"{name} to update {stop}", needs=needs, cost=cost * (share - done),
                runtime={**runtime, "lineage": key},
            )  # fmt: skip
            if stop == point.updates:
                return stage
            needs, done = (*starts, stage.key), share
        return self.made.stage(spec, name, needs=needs, cost=cost * (1 - done), runtime=runtime)

    def run(self, point: GridPoint, resolved: Resolved, link: Link, seed: int) -> Stage:
        """The training that a link of a row leads to."""
        other, its = self._run(point, resolved, link)
        return self.stage(other, its, seed, label_of(other, its))

    def teachers(self, train: Stage) -> tuple[str, ...]:
        """Keys of the run whose net is a training's teacher, of that run's teacher, and so on."""
        return tuple(self._chain(train.read(TrainSpec)))

    def _chain(self, spec: TrainSpec) -> Iterator[str]:
        while spec.teacher:
            yield spec.teacher
            spec = self.made.stages[spec.teacher].read(TrainSpec)

    def _starts_from(self, spec: TrainSpec) -> tuple[str, ...]:
        first = (spec.init,) if spec.init else ()
        return tuple(dict.fromkeys((*self._chain(spec), *first)))

    @property
    def _stops(self) -> dict[str, set[int]]:
        """Key of a whole training -> the updates where rows take its student."""
        if self._snapshots is None:
            self._snapshots = {}
            for point, resolved in self.links.rows:
                if point.updates is None:
                    continue
                for seed in point.seeds:
                    key = self._key(point, resolved, seed)
                    self._snapshots.setdefault(key, set()).add(point.updates)
        return self._snapshots

    # ---- specs ----------------------------------------------------------------------------

    def _key(self, point: GridPoint, resolved: Resolved, seed: int) -> str:
        return self._made(point, resolved, seed)[1]

    def _spec(self, point: GridPoint, resolved: Resolved, seed: int) -> TrainSpec:
        return self._made(point, resolved, seed)[0]

    def _made(self, point: GridPoint, resolved: Resolved, seed: int) -> tuple[TrainSpec, str]:
        """What decides a training, from its first update to its last, and its key.

        A row is asked for by all that start from it: it is remembered, with what it was made of,
        so that no other object can have its identity.
        """
        links = any(getattr(point.config, link) for link in LINKS)
        asked = id(point.tree), id(resolved.method), resolved.used.alias, links, seed
        if asked not in self._known:
            spec = self._whole(point, resolved, seed)
            self._known[asked] = point.tree, resolved.method, (spec, content_key(spec.plain()))
        return self._known[asked][2]

    def _whole(self, point: GridPoint, resolved: Resolved, seed: int) -> TrainSpec:
        config, trains = point.config, resolved.trains
        precision = _precision(config.train.precision)
        settings = train_options.stated(config.train, resolved.method) | precision
        runs: dict[str, str] = {link: self._key(*self._run(point, resolved, link), seed)
                for link in LINKS if getattr(config, link)}  # fmt: skip
        return TrainSpec(
            identity=IDENTITY_VERSION,
            backbone=resolved.used.spec,
            method=resolved.method_spec,
            train=TrainSettings(**(settings if trains else precision)),
            data=self._data(point, resolved) if trains else DataSpec(),
            seed=seed if trains else 0,
            **{"teacher": None, **runs},
        )

    def _run(self, point: GridPoint, resolved: Resolved, link: Link) -> tuple[GridPoint, Resolved]:
        """The row, at the end of its training, that another starts from."""
        other, its = self.links.named(point, resolved, link)[0]
        return other.whole(), its

    def _data(self, point: GridPoint, resolved: Resolved) -> DataSpec:
        """What is read of them: a method that takes no latents reads the images' captions alone."""
        data, pictures = point.config.data, "latents" in resolved.method.needs
        if not data.images:
            found = self.datasets.prompts(point, resolved, "data")
            return DataSpec(prompts_sha256=found.sha256, images_sha256="")
        read = self._read(point, data.images, pictures)
        if not pictures and not read.startswith("missing:"):
            return DataSpec(prompts_sha256=read, images_sha256="")
        if not pictures:
            return DataSpec(prompts_sha256="", images_sha256=read)
        told = data.model_dump(include=set(FitSpec.model_fields))
        fit = FitSpec(**told)
        return DataSpec(prompts_sha256="", images_sha256=read, fit=fit)

    def _read(self, point: GridPoint, images: str, pictures: bool) -> str:
        """Identity of training images or of their captions; one for all rows."""
        from distillbench.data.imageset import captions_identity, images_identity

        folder, seen = images_folder(images), (images, pictures)
        if seen not in self._images:
            # A named set that is not on this disk still plans; its training then says so.
            self._images[seen] = "" if folder.is_dir() else f"missing:{images}"
            try:
                if folder.is_dir():
                    identity = images_identity if pictures else captions_identity
                    self._images[seen] = identity(folder)
            except BadInput as error:
                for line in error.line.splitlines():
                    self.problems.add(locate(point.tree, ("data", "images"))[0], line)
        return self._images[seen]


def _cost(point: GridPoint, resolved: Resolved) -> float:
    if not resolved.trains:
        return 1.0
    train = point.config.train
    samples = train.batch_size * train.accumulate * train.processes
    turns = sum(len(resolved.method.turns(step)) for step in range(20)) / 20
    return TRAIN_COST * train.updates * samples * turns


def _precision(precision: str) -> dict[str, Any]:
    """What a method without nets takes of the training settings: it is sampled in it too."""
    half = {"precision": precision, "arithmetic": train_options.HALF_ARITHMETIC}
    return {} if precision == "float32" else half
