"""Everything the stages of a plan will need, looked for before the first of them starts.

Backbones, methods and metrics say what they take (`requirements`); prompt sets, images, processors
and disk space are looked at here. Done stages need nothing any more. No torch and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from distillbench.api import registry
from distillbench.errors import DistillbenchError
from distillbench.files.places import Need, data_root, package
from distillbench.plan import train_options
from distillbench.plan.devices import visible_gpus
from distillbench.plan.disk import disk_need
from distillbench.plan.identity import canonical_json
from distillbench.plan.stage import Plan, Stage, StageKind
from distillbench.plan.weights import needs_of
from distillbench.specs.stages import (
    GivenSpec,
    Plugin,
    SampledSpec,
    SampleSpec,
    ScoreSpec,
    TrainSettings,
)
from distillbench.specs.stored import Told

__all__ = ["Requirement", "Setup", "missing", "requirements", "without"]

MISSING = "missing:"
PROMPT_SETS: Mapping[str, tuple[int, str, str]] = {
    "hpsv2": (420_000, "Apache-2.0", "the HPDv2 benchmark's anime, concept-art, paintings, photo"),
    "vbench": (60_000, "Apache-2.0", "VBench's prompts/all_dimension.txt as it is, or its prompts"),
}


@dataclass(frozen=True)
class Setup:
    """What a run is given, as far as it matters here.

    Attributes:
        runner: "local" or "ray".
        gpus: GPUs it may use; None is all of this machine.
        elsewhere: it runs on a cluster whose machines cannot be looked at from here.
    """

    runner: str = "local"
    gpus: int | None = None
    elsewhere: bool = False


class Looked(Protocol):
    """The part of a store that is needed here."""

    @property
    def root(self) -> Path:
        """Its folder."""
        ...

    def is_done(self, kind: StageKind, key: str) -> bool:
        """Whether a stage needs nothing any more."""
        ...


@dataclass(frozen=True)
class Requirement:
    """A need with the stages that have it; none for what the whole run needs."""

    need: Need
    stages: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The need in one line, with how much depends on it."""
        return f"{self.need.line} ({len(self.stages)} stages)" if self.stages else self.need.line

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**asdict(self.need), "stages": list(self.stages)}


def requirements(plan: Plan, store: Looked, setup: Setup | None = None) -> list[Requirement]:
    """Everything the stages that are not done need, met or not, each once, in plan order."""
    survey = _Survey(plan, store, setup or Setup())
    return [*survey.of_run(), *survey.of_stages()]


def missing(plan: Plan, store: Looked, setup: Setup | None = None) -> list[Requirement]:
    """Those of the requirements that are not met."""
    return [found for found in requirements(plan, store, setup) if found.need.problem]


def without(
    plan: Plan, lacking: Iterable[Requirement], done: Callable[[Stage], bool]
) -> tuple[Plan, dict[str, str]]:
    """The part of a plan that can run, and the key of each stage that cannot -> why.

    Args:
        done: whether a stage is stored; what is done is never blocked.
    """
    why: dict[str, str] = {}
    for found in lacking:
        for key in found.stages:
            why.setdefault(key, f"needs {found.need.kind} {found.need.name}, which is missing")
    gone = set(why)
    for key, stage in plan.stages.items():  # each after those it needs
        if blocked := [need for need in stage.needs if need in gone]:
            gone.add(key)
            if not done(stage) and blocked[0] in why:
                why.setdefault(key, why[blocked[0]])
    kept = {key: stage for key, stage in plan.stages.items() if key not in gone}
    return replace(plan, stages=kept), why


@dataclass
class _Survey:
    """Goes through the stages; a plug-in with the same settings is asked once."""

    plan: Plan
    store: Looked
    setup: Setup
    _asked: dict[str, tuple[Need, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.todo = [s for s in self.plan.stages.values() if not self.store.is_done(s.kind, s.key)]

    def of_run(self) -> Iterator[Requirement]:
        """What does not hang on single stages."""
        if self.todo and self.setup.runner == "ray":
            yield Requirement(package("ray", 'pip install "distillbench[ray]"'))
        if self.todo and (need := disk_need(self.todo, self.store.root)):
            yield Requirement(need)
        if self.todo and any(c.settings.get("sample.keep") == "mp4" for c in self.plan.cells):
            yield Requirement(package("av", "pip install av"))

    def of_stages(self) -> list[Requirement]:
        """What stages need, with the keys of all that need it."""
        found: dict[Need, dict[str, None]] = {}
        for stage in self.todo:
            for need in self._needs(stage):
                found.setdefault(need, {})[stage.key] = None
        return [Requirement(need, tuple(keys)) for need, keys in found.items()]

    def _needs(self, stage: Stage) -> Iterator[Need]:
        spec = stage.record
        if isinstance(spec, ScoreSpec):
            yield from self._metric(stage, spec)
        elif isinstance(spec, SampleSpec):
            yield from self._plugins(stage)
            yield from _prompt_set(spec.prompts.sha256)
            yield from needs_of(stage.spec, Told.model_validate(stage.runtime))
        elif isinstance(spec, GivenSpec):
            yield from _prompt_set(spec.prompts.sha256)
        elif spec.trains or spec.method.weights is not None:
            yield from self._plugins(stage)
            yield from _prompt_set(spec.data.prompts_sha256)
            yield from _images(spec.data.images_sha256)
            if not self.setup.elsewhere:
                yield from self._device(spec.train)

    def _device(self, train: TrainSettings) -> Iterator[Need]:
        if train.precision == "float16":
            yield _gpu(self.setup.gpus)
        gpu = train.compile and self.setup.gpus != 0 and bool(visible_gpus())
        yield from train_options.needs(train, gpu=gpu)

    def _plugins(self, stage: Stage) -> Sequence[Need]:
        theirs, method = stage.plugin("backbone"), stage.plugin("method")
        there = stage.spec.get("sample_on")

        def ask() -> Iterator[Need]:
            backbone = registry.build_backbone(*theirs)
            built = registry.build_method(*method, backbone)
            own = list(built.requirements())
            told = {need.name for need in own if need.problem}
            yield from (n for n in built.backbone.requirements() if n.name not in told)
            if there:
                yield from registry.build_backbone(*stage.plugin("sample_on")).requirements()
            yield from own

        return self._ask(["plug-ins", theirs, method, there], ask, theirs)

    def _metric(self, stage: Stage, spec: ScoreSpec) -> Sequence[Need]:
        sampled = self.plan.stages[spec.sample]
        metric, asked = stage.plugin("metric"), sampled.read(SampledSpec).prompts
        name = sampled.options.prompts

        def ask() -> Iterator[Need]:
            built = registry.build_metric(*metric)
            yield from built.requirements(asked.n, _prompts(name))

        return self._ask(["metric", metric, asked.plain(), name], ask, metric)

    def _ask(
        self, about: list[Any], ask: Callable[[], Iterator[Need]], plugin: Plugin
    ) -> Sequence[Need]:
        known = canonical_json(about)
        if known not in self._asked:
            try:
                self._asked[known] = tuple(ask())
            except DistillbenchError as error:
                self._asked[known] = (Need("weights", plugin.name, error.line),)
        return self._asked[known]


def _prompt_set(content: str) -> Iterator[Need]:
    """A prompt set that its key says was not on this disk when planning."""
    if content.startswith(MISSING):
        name = content.removeprefix(MISSING).partition(":")[0]
        size, terms, what = PROMPT_SETS.get(name, (0, "", "its prompts"))
        folder = data_root() / "prompts" / name
        fix = f"put {what} there, one list of strings in a {{style}}.json each"
        yield Need("prompts", name, f"no prompt files in {folder}", fix, size, terms)


def _images(content: str) -> Iterator[Need]:
    """Images that their key says were not on this disk when planning."""
    if content.startswith(MISSING):
        name = content.removeprefix(MISSING)
        folder = data_root() / "images" / name
        fix = "put captions.jsonl and its images there, or name a folder with a slash"
        yield Need("images", name, f"no folder {folder}", fix)


def _gpu(asked: int | None) -> Need:
    there = asked != 0 and bool(visible_gpus())
    problem = "" if there else "float16 trains on GPUs alone, and there is none to use"
    return Need("device", "GPU", problem, "" if there else "train in float32 or bfloat16")


def _prompts(name: str) -> Sequence[str]:
    from distillbench.data.prompts import find_prompts

    found = find_prompts(name)
    return found.prompts if found else ()
