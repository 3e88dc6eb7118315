"""The train stages of a plan: what decides them, the runs they start from, the students on the way.

A row may take another row's trained net as its `teacher`, or start its student from another row's
(`init`). Both are named by label, must lie on the same backbone, and are trained with the same
seed. A row that takes its student after some of the `updates` gets a stage of its own, which ends
there; the stages of one training share its checkpoints and follow each other, so that no update is
made twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from distillbench.config.expand import Point
from distillbench.config.identity import IDENTITY_VERSION, content_key, folder_identity
from distillbench.config.marks import did_you_mean, locate
from distillbench.config.resolve import Resolved
from distillbench.datadir import images_folder
from distillbench.registry import METHODS
from distillbench.run.stage import Stage

if TYPE_CHECKING:
    from distillbench.run.planner import Planner

__all__ = ["Trainings", "label_of"]

Link = Literal["teacher", "init"]
LINKS: tuple[Link, ...] = ("teacher", "init")
TRAIN_COST = 3.0
"""A training update of one sample against one network evaluation: forward and backward."""


@dataclass
class Trainings:
    """Makes train stages; `rows` are what links may name."""

    planner: Planner
    rows: list[tuple[Point, Resolved]] = field(default_factory=list)
    _taken: dict[str, set[int]] | None = None

    def add(self, point: Point, resolved: Resolved) -> None:
        """Make a row known, and check what it says of its own training."""
        self.rows.append((point, resolved))
        taken, steps = point.config.updates, point.config.train.steps
        if taken and not resolved.trains:
            self._problem(point, "updates", f"{resolved.method.name} trains nothing")
        elif taken and taken[0] > steps:
            what = f"there is no update {taken[0]} in a training of train.steps {steps}"
            self._problem(point, "updates", what)

    # ---- links ----------------------------------------------------------------------------

    def check(self) -> None:
        """Report every link that names no fitting run."""
        links = [(p, r, link) for p, r in self.rows for link in LINKS if getattr(p.config, link)]
        for checked in (self._label_problem, self._run_problem):
            found = [(p, link, checked(p, r, link)) for p, r, link in links]
            problems = [(p, link, what) for p, link, what in found if what]
            for point, link, what in problems:
                self._problem(point, link, what)
            if problems:
                return  # what runs are is only known where every link leads somewhere

    def _label_problem(self, point: Point, resolved: Resolved, link: Link) -> str:
        found = self._named(point, resolved, link)
        if found:
            return _unfit(resolved, found[0][1], link) or self._circle(point, resolved)
        label = getattr(point.config, link)
        labels = [label_of(p, r) for p, r in self.rows if r.used.alias == resolved.used.alias]
        known = list(dict.fromkeys(name for name in labels if name != label_of(point, resolved)))
        what = f"no row on backbone {resolved.used.alias!r} has the label {label!r}; there are: "
        return what + f"{', '.join(known) or 'none'}.{did_you_mean(label, known)}"

    def _run_problem(self, point: Point, resolved: Resolved, link: Link) -> str:
        found, label, seed = self._named(point, resolved, link), getattr(point.config, link), 0
        if len({self._key(p.whole(), r, seed) for p, r in found}) > 1:
            return f"label {label!r} means several trainings; give the one that is meant its own"
        own, theirs = (self._spec(p, r, seed) for p, r in ((point, resolved), found[0]))
        student = resolved.method.nets().get(resolved.method.student)
        adapter = link == "init" and student is not None and student.kind == "lora"
        if adapter and own["teacher"] != theirs["teacher"]:
            return (
                f"the adapter of {label!r} fits the teacher it was trained on alone, which is "
                "another here; give both rows one teacher, or set nets: copy in both"
            )
        return ""

    def _named(
        self, point: Point, resolved: Resolved, link: Link
    ) -> list[tuple[Point, Resolved]]:  # fmt: skip
        """The rows of that label; where a grid made many of one row, that of the same values."""
        label = getattr(point.config, link)
        near = [(p, r) for p, r in self.rows if r.used.alias == resolved.used.alias]
        found = [(p, r) for p, r in near if label_of(p, r) == label]
        return found or [
            (p, r) for p, r in near
            if p.centre and _name(p, r) == label
            and all(k in point.varied and point.varied[k] == v for k, v in p.varied.items())
        ]  # fmt: skip

    def _circle(self, point: Point, resolved: Resolved, path: tuple[str, ...] = ()) -> str:
        """What is wrong when following the links of a row leads in a circle."""
        name = label_of(point, resolved)
        if name in path:
            return f"row {name!r} would start from itself"
        links = [link for link in LINKS if getattr(point.config, link)]
        found = [other for link in links for other in self._named(point, resolved, link)]
        return next(filter(None, (self._circle(*other, (*path, name)) for other in found)), "")

    def _problem(self, point: Point, key: str, what: str) -> None:
        self.planner.problems.add(locate(point.tree, (key,))[0], what)

    # ---- stages ---------------------------------------------------------------------------

    def stage(self, point: Point, resolved: Resolved, seed: int, label: str) -> Stage:
        """The training of a row, up to the update where its student is taken."""
        spec = self._spec(point, resolved, seed)
        key, trains = content_key(spec), resolved.trains
        for link in LINKS:
            if getattr(point.config, link):
                other, its = self._run(point, resolved, link)
                self.stage(other, its, seed, label_of(other, its))
        runtime: dict[str, Any] = {
            **self.planner.runtime,
            "save_every": point.config.train.save_every,
        }
        if trains and point.config.data.images:
            runtime["images"] = str(images_folder(point.config.data.images))
        own = trains or bool(point.config.teacher)  # else one stage of many rows and seeds
        title = label if own else resolved.method.title or resolved.method.name
        name = f"{title} {resolved.used.alias}" + (f" seed {seed}" if own else "")
        starts, cost = self._starts_from(spec), _cost(point, resolved)
        needs, done = starts, 0.0
        for stop in sorted(self._stops.get(key, ())):
            cut = {**spec, "train": {**spec["train"], "stop": stop}}
            share = stop / point.config.train.steps
            stage = self.planner.stage(
                "train", cut, f"{name} to update {stop}", needs=needs, cost=cost * (share - done),
                runtime={**runtime, "lineage": key},
            )  # fmt: skip
            if stop == point.updates:
                return stage
            needs, done = (*starts, stage.key), share
        return self.planner.stage(
            "train", spec, name, needs=needs, cost=cost * (1 - done), runtime=runtime
        )

    def teachers(self, train: Stage) -> tuple[str, ...]:
        """Keys of the run whose net is a training's teacher, of that run's teacher, and so on."""
        return tuple(self._chain(train.spec))

    def _chain(self, spec: Any) -> Iterator[str]:
        key = spec["teacher"]
        while key:
            yield key
            key = self.planner.stages[key].spec["teacher"]

    def _starts_from(self, spec: Any) -> tuple[str, ...]:
        first = (spec["init"],) if "init" in spec else ()
        return tuple(dict.fromkeys((*self._chain(spec), *first)))

    @property
    def _stops(self) -> dict[str, set[int]]:
        """Key of a whole training -> the updates where rows take its student."""
        if self._taken is None:
            self._taken = {}
            for point, resolved in self.rows:
                if point.updates is None:
                    continue
                for seed in point.seeds:
                    key = self._key(point, resolved, seed)
                    self._taken.setdefault(key, set()).add(point.updates)
        return self._taken

    # ---- specs ----------------------------------------------------------------------------

    def _key(self, point: Point, resolved: Resolved, seed: int) -> str:
        return content_key(self._spec(point, resolved, seed))

    def _spec(self, point: Point, resolved: Resolved, seed: int) -> dict[str, Any]:
        """What decides a training, from its first update to its last."""
        config, trains = point.config, resolved.trains
        settings = config.train.model_dump(mode="json", exclude={"save_every"})
        runs: dict[str, str] = {link: self._key(*self._run(point, resolved, link), seed)
                for link in LINKS if getattr(config, link)}  # fmt: skip
        spec: dict[str, Any] = {
            "identity": IDENTITY_VERSION,
            "backbone": resolved.used.spec,
            "method": resolved.method_spec,
            "train": settings if trains else _precision(config.train.precision),
            "data": self._data(point, resolved) if trains else {},
            "seed": seed if trains else 0,
            "teacher": None,
        }
        return {**spec, **runs}

    def _run(self, point: Point, resolved: Resolved, link: Link) -> tuple[Point, Resolved]:
        """The row, at the end of its training, that another starts from."""
        other, its = self._named(point, resolved, link)[0]
        return other.whole(), its

    def _data(self, point: Point, resolved: Resolved) -> dict[str, Any]:
        images = point.config.data.images
        if images:
            folder = images_folder(images)
            # A named set that is not on this disk still plans; its training then says so.
            content = folder_identity(folder) if folder.is_dir() else f"missing:{images}"
            return {"prompts": "", "prompts_sha256": "", "images_sha256": content}
        name, sha = self.planner.identity(point, resolved, "data")
        return {"prompts": name, "prompts_sha256": sha, "images_sha256": ""}


def _unfit(resolved: Resolved, other: Resolved, link: Link) -> str:
    """Why a run cannot be the teacher, or the start, of another; "" when it can."""
    name, theirs = other.method.name, other.method.nets()
    if not theirs:
        return f"{name} trains nothing that could be a row's {link}"
    spec = theirs[other.method.student]
    if link == "teacher":
        if not other.method.denoises:
            known = ", ".join(n for n in METHODS.names() if METHODS.get(n).denoises)
            return f"a {name} student is no score network; a teacher is a row of: {known}"
        return ""
    own = resolved.method.nets()
    if not own:
        return f"{resolved.method.name} has no student that could start from another"
    mine = own[resolved.method.student]
    if (mine.kind, dict(mine.opts)) != (spec.kind, dict(spec.opts)):
        return (
            f"the students differ: {spec.kind} {dict(spec.opts) or ''} there, {mine.kind} "
            f"{dict(mine.opts) or ''} here; make nets, rank, lora_alpha and embeddings agree"
        )
    return ""


def _cost(point: Point, resolved: Resolved) -> float:
    if not resolved.trains:
        return 1.0
    train = point.config.train
    samples = train.batch_size * train.accumulate * train.processes
    turns = sum(len(resolved.method.turns(step)) for step in range(20)) / 20
    return TRAIN_COST * train.steps * samples * turns


def _precision(precision: str) -> dict[str, str]:
    """What a method without nets takes of the training settings: it is sampled in it too."""
    return {} if precision == "float32" else {"precision": precision}


def label_of(point: Point, resolved: Resolved) -> str:
    """What a row is called."""
    name = _name(point, resolved)
    return f"{name} ({point.suffix})" if point.suffix else name


def _name(point: Point, resolved: Resolved) -> str:
    """What a row is called where nothing of it varies."""
    return point.config.label or resolved.method.title or resolved.method.name
