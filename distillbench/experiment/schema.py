"""The experiment file as typed models; unknown keys are errors everywhere.

What a cell of the grid is made of is a `CellConfig`. `base` is one; each entry of `rows` and of
`include`, and each overlay of `ablate` is a partial one merged over it. Method, metric and backbone
parameters are free mappings here and are checked against the plug-in's own `Config` afterwards.
`load` reads the file, `expand` turns it into points.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, PrivateAttr

from distillbench.experiment.cell_parts import DataConfig, SampleConfig, TrainConfig
from distillbench.experiment.compared import ReferenceConfig
from distillbench.experiment.names import Label, Name
from distillbench.experiment.ontop import ControlConfig, ImagePromptConfig, OnTopConfig
from distillbench.experiment.outputs import ClaimConfig, FigureConfig, Section, TableConfig
from distillbench.files.limits import Limits
from distillbench.files.marks import MapNode
from distillbench.files.renamed import renamed

__all__ = ["BackboneRef", "CellConfig", "Experiment", "MetricRef", "ReferenceConfig", "RowConfig"]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def _bare(key: str) -> BeforeValidator:
    """A text in place of a mapping is that entry of it."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class BackboneRef(Section):
    """A registered backbone with its settings; the mapping's key is the alias rows use.

    Attributes:
        use: the registered name; a bare name in place of the mapping means this alone.
        label: what tables call it; "" is the alias.
        params: its parameters.
    """

    use: str
    label: Label = ""
    params: dict[str, Any] = Field(default_factory=dict)


class MetricRef(Section):
    """A registered metric with its settings.

    Attributes:
        use: the registered name; a bare name in place of the mapping means this alone.
        id: name of its columns; "" is the registered name.
        params: its parameters.
    """

    use: str
    id: Name.metric | Literal[""] = ""
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """What its columns are called."""
        return self.id or self.use


class CellConfig(Section):
    """One point of the grid, or a partial one that is merged over `base`.

    Attributes:
        label: row name; "" is the method's title, or the name of the folder of `samples`.
        group: rows of one group stand together in a table.
        backbone: an alias from `backbones`.
        method: a registered method.
        params: its parameters; what is left out has the method's default.
        teacher: label of a row on the same backbone, or on one of another resolution alone, whose
            trained net takes the teacher's place, as the frozen teacher and as what all nets start
            from; "" is the backbone's own.
        init: label of such a row whose student this one starts from.
        nfe: network evaluations; a list makes one row each, all sharing one training.
        snapshots: student updates after which the student is written, the end of training where
            none is given; a list makes one row each, all written by one training. Tables and
            selections call the number `updates`.
        guidance_scale: at sampling, 1 is none; None is what the method recommends.
        sampler: overrides of the method's own sampling recipe (e.g. solver); another `kind` keeps
            its times and scales.
        sample_on: alias of a backbone of the same architecture, a fine-tune, or label of a row that
            is fine-tuned here, that the student is carried over to for sampling: an adapter is put
            on it, of a whole network the difference from its base is added. Such a row stands for
            that backbone in tables, and is compared with it.
        train: how it is trained.
        data: what it is trained on.
        sample: what is sampled from it.
        adapters: LoRAs that are put on the network for sampling, beside the student's own and on a
            reference teacher's too.
        control, image_prompts: ControlNets and IP-Adapters that steer it, the reference's too.
        samples: a folder of pictures or videos that another tool made, scored as this row; `{seed}`
            in it stands for the run's seed. `nfe` and `guidance_scale` say how they were made.
        tags: free labels to select rows by in tables and claims.
    """

    label: Label = ""
    group: Label = ""
    backbone: str = ""
    method: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    teacher: Label = ""
    init: Label = ""
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    sample: SampleConfig = SampleConfig()
    nfe: Annotated[list[PositiveInt], BeforeValidator(_as_list)] = Field(
        default_factory=lambda: [4], min_length=1
    )
    snapshots: Annotated[list[PositiveInt], BeforeValidator(_as_list), renamed("updates")] = Field(
        default_factory=list
    )
    guidance_scale: float | None = None
    sampler: dict[str, Any] = Field(default_factory=dict)
    sample_on: str = ""
    adapters: list[OnTopConfig] = Field(default_factory=list)
    control: list[ControlConfig] = Field(default_factory=list)
    image_prompts: list[ImagePromptConfig] = Field(default_factory=list)
    samples: str = ""
    tags: dict[Name.tag, Label | int | float | bool] = Field(default_factory=dict)


def _values_or_overlay(value: Any) -> Any:
    if not isinstance(value, list | tuple | dict) or not value:
        raise ValueError("a list of values is needed, or one overlay such as {params: {...}}")
    return value


Values = dict[str, Annotated[list[Any], Field(min_length=1)]]
Changes = dict[str, Annotated[list[Any] | dict[str, Any], BeforeValidator(_values_or_overlay)]]


class RowConfig(CellConfig):
    """What it may hold besides the keys of a row; in `rows` merged over what the file says.

    Attributes:
        grid, zip, ablate: as those of the file, for this row alone.
    """

    grid: Values = Field(default_factory=dict)
    zip: Values = Field(default_factory=dict)
    ablate: Changes = Field(default_factory=dict)


class Experiment(Section):
    """One experiment file after its profile and `--set` overrides were applied.

    Attributes:
        name: stem of the results folder.
        title: heading of the report.
        threads: CPU threads of each stage, at most 1,024; fixed so that sums do not depend on the
            machine's load.
        plugins: modules, or .py files beside this one, that hold plug-ins; `--plugin` adds others.
        base: what every row starts from.
        for_method: method -> what its rows start from, merged over `base`.
        backbones: alias -> registered backbone.
        rows: partial cells; `methods` is another name for the key. None given: one row, the base.
        grid: dotted path -> values; the product of all, for every row.
        zip: dotted path -> values; the lists are walked in step. A `label` among them names the
            cells, in place of the values.
        ablate: one factor at a time round each cell: dotted path -> values; a name -> overlays, or
            a label -> one overlay, which that labels.
        exclude: cells to leave out: field, tag, parameter or dotted path -> value or values.
        include: further partial cells, outside the file's grid, zip and ablate.
        seeds: run seeds of every row.
        limits: how large the grid and its rows may be.
        metrics: scores of every row; a bare name is a metric with its defaults.
        reference: the sample set that distances such as FID are measured to.
        tables: tables to write.
        figures: figures to draw.
        claims: comparisons to test.
    """

    name: Name.experiment
    title: str = ""
    threads: Annotated[int, Field(gt=0, le=1024)] = 1
    plugins: list[str] = Field(default_factory=list)
    base: CellConfig = CellConfig()
    for_method: dict[str, dict[str, Any]] = Field(default_factory=dict)
    backbones: dict[Name.backbone, Annotated[BackboneRef, _bare("use")]] = Field(
        default_factory=dict
    )
    rows: list[dict[str, Any]] = Field(default_factory=list)
    grid: Values = Field(default_factory=dict)
    zip: Values = Field(default_factory=dict)
    ablate: Changes = Field(default_factory=dict)
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    include: list[dict[str, Any]] = Field(default_factory=list)
    seeds: Annotated[list[NonNegativeInt], BeforeValidator(_as_list)] = Field(
        default_factory=lambda: [0], min_length=1
    )
    limits: Limits = Limits()
    metrics: list[Annotated[MetricRef, _bare("use")]] = Field(default_factory=list)
    reference: ReferenceConfig | None = None
    tables: list[TableConfig] = Field(default_factory=list)
    figures: list[FigureConfig] = Field(default_factory=list)
    claims: list[Annotated[ClaimConfig, _bare("text")]] = Field(default_factory=list)

    # The merged file with its line marks, and the profile merged into it; an experiment made in
    # code has neither.
    _tree: MapNode | None = PrivateAttr(default=None)
    _profile: str = PrivateAttr(default="")

    @property
    def profile(self) -> str:
        """Name of the profile that was applied, "" for none."""
        return self._profile

    @property
    def folder(self) -> str:
        """Name of its results folder: other profiles than the default one have their own."""
        return f"{self.name}-{self.profile}" if self.profile not in ("", "tiny") else self.name

    @property
    def tree(self) -> MapNode:
        """The experiment as written, with the place of every entry where it came from a file."""
        if self._tree is None:
            return MapNode(self.model_dump(exclude_unset=True))
        return self._tree

    def written_as(self, tree: MapNode, profile: str = "") -> Experiment:
        """Remember what this experiment was read from."""
        self._tree = tree
        self._profile = profile
        return self
