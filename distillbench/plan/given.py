"""Rows of samples that another tool made: what is wrong with them, and their stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.api.sampler import unguided
from distillbench.errors import BadInput
from distillbench.experiment.beside import looked_in
from distillbench.experiment.expand import GridPoint
from distillbench.files.marks import Problems, locate
from distillbench.plan.datasets import Datasets, Prompts
from distillbench.plan.identity import IDENTITY_VERSION
from distillbench.plan.resolve import Resolver, UsedBackbone
from distillbench.plan.stage import Stage
from distillbench.plan.stages import Stages
from distillbench.specs.stages import GivenSpec, PromptsSpec

if TYPE_CHECKING:
    from distillbench.data.given import GivenSamples

__all__ = ["Given", "GivenRows", "given_fields", "given_label"]

_MEANINGLESS = ("method", "teacher", "init", "snapshots", "sampler", "sample_on")


@dataclass(frozen=True)
class Given:
    """The samples of a row.

    Attributes:
        used: the backbone that the row stands for in tables and whose teacher it is compared with,
            None for a row that names none.
        prompts: what they were made for.
        content: seed -> what its folder holds, by content.
        folders: seed -> where that is.
        modality: image or video; "" where the prompts are not on this disk.
        size: height and width of them in pixels; zeros likewise.
    """

    used: UsedBackbone | None
    prompts: Prompts
    content: Mapping[int, str]
    folders: Mapping[int, str]
    modality: str
    size: tuple[int, int]

    @property
    def shown(self) -> UsedBackbone | None:
        """The backbone that it stands for."""
        return self.used

    @property
    def alias(self) -> str:
        """Of its backbone."""
        return self.used.alias if self.used is not None else ""


@dataclass
class GivenRows:
    """Checks and makes them."""

    resolver: Resolver
    datasets: Datasets
    made: Stages
    problems: Problems
    notes: list[str]

    def resolve(self, point: GridPoint) -> Given | None:
        """The samples of a row, looked at; None when something does not fit."""
        config, before = point.config, len(self.problems.lines)
        self._check(point)
        named = config.backbone or len(self.resolver.experiment.backbones) == 1
        mark, _ = locate(point.tree, ("backbone",))
        used = self.resolver.backbone(config.backbone, mark) if named else None
        prompts = self.datasets.named(point, used, "sample")
        folders = {seed: config.samples.replace("{seed}", str(seed)) for seed in _seeds(point)}
        found = {seed: self._look(point, text, prompts) for seed, text in folders.items()}
        modality = next((samples.modality for samples in found.values() if samples), "")
        if modality and used is not None and modality != used.backbone.modality:
            what = f"are of {modality}s, backbone {used.alias!r} makes {used.backbone.modality}s"
            self._problem(point, "samples", what)
        if len(self.problems.lines) > before:
            return None
        content = {seed: g.sha256 if g else prompts.sha256 for seed, g in found.items()}
        places = {seed: str(Path(text).expanduser().absolute()) for seed, text in folders.items()}
        size = next((samples.size for samples in found.values() if samples), (0, 0))
        return Given(used, prompts, content, places, modality, size)

    def _check(self, point: GridPoint) -> None:
        """What a row of them says that means nothing, or leaves out."""
        config = point.config
        for key in _MEANINGLESS:
            if getattr(config, key):
                what = f"samples of another tool have no {key}; leave it out, here and in `base`"
                self._problem(point, key, what)
        if config.sample.trajectory:
            self._problem(point, "samples", "samples of another tool have no sample.trajectory")
        if what := unguided(config.guidance_scale):
            self._problem(point, "guidance_scale", what)
        if "nfe" not in point.tree:
            what = "say with `nfe` how many network evaluations each of the samples took"
            self._problem(point, "samples", what)
        if len(_seeds(point)) < len(point.seeds):
            at = locate(point.tree, ("samples",))[0].prefix
            what = "is one set; with {seed} in the path there is one for each of the seeds"
            self.notes.append(f"{at}{point.config.samples}: {what}")

    def _look(self, point: GridPoint, text: str, prompts: Prompts) -> GivenSamples | None:
        from distillbench.data.given import given_samples

        chosen, root = self.datasets.content(prompts), Path(text).expanduser()
        if chosen is None and root.is_dir():
            return None  # their prompts are missing, which a run is told
        try:
            if chosen is None:
                raise BadInput(f"no folder {root}")
            return given_samples(root, chosen, point.config.sample.n)
        except BadInput as error:
            mark, _ = locate(point.tree, ("samples",))
            where = "" if root.exists() else looked_in(text, mark)
            for line in str(error).splitlines():
                self._problem(point, "samples", f"{line}{where}")
            return None

    def stage(self, point: GridPoint, given: Given, seed: int, label: str) -> Stage:
        """The stage that keeps the samples of a row as those of a student are kept."""
        n = point.config.sample.n
        spec = GivenSpec(
            identity=IDENTITY_VERSION, samples_sha256=given.content[seed], seed=seed,
            prompts=PromptsSpec(sha256=given.prompts.sha256, n=n),
        )  # fmt: skip
        text = f"{label} {given.alias or 'elsewhere'} nfe {point.nfe} seed {seed}"
        more = {**given.prompts.runtime, "samples": given.folders[seed]}
        return self.made.stage(spec, text, cost=float(n), runtime={**self.made.runtime, **more})

    def _problem(self, point: GridPoint, key: str, what: str) -> None:
        self.problems.add(locate(point.tree, (key,))[0], what)


def _seeds(point: GridPoint) -> tuple[int, ...]:
    return point.seeds if "{seed}" in point.config.samples else point.seeds[:1]


def given_fields(point: GridPoint) -> dict[str, Any]:
    """What a cell says of samples that were made elsewhere."""
    config = point.config
    return {
        "label": given_label(point) if config.label or point.suffix else "",
        "method": "",
        "title": Path(config.samples).name,
        "guidance_scale": 1.0 if config.guidance_scale is None else config.guidance_scale,
        "updates": 0,
        "final": True,
        "ranked": True,
        "train": "",
    }


def given_label(point: GridPoint) -> str:
    """What a row of them is called."""
    name = point.config.label or Path(point.config.samples).name
    return f"{name} ({point.suffix})" if point.suffix else name
