"""What is made of the numbers, as an experiment file asks for it: tables, figures, claims."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
)

from distillbench.experiment.names import Name

__all__ = ["GRIDS", "ClaimConfig", "FigureConfig", "Section", "TableConfig"]

GRIDS = ("prompts", "noise", "evaluations")
"""What columns of a grid can be beside row fields."""


class Section(BaseModel):
    """Base of all parts: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TableConfig(Section):
    """One table to render.

    Attributes:
        name: file stem.
        caption: LaTeX caption; "" makes none.
        columns: metric ids, `<id>_<category>`, or a row field: label, group, method, title,
            backbone, nfe, guidance_scale, seeds, updates, a tag, a setting that varies or does not
            (`lr`, `train.batch_size`); or a cost, such as `cost.train_seconds`, which is not
            ranked: see `cost.csv` for their names; or `registry.<fact>`, what the method can do
            (steps, backbones, guidance_free, one_step_network, one_step_adapter); or
            `published.<column>`, a column of the published table as it is printed.
        where: keep rows whose fields or tags equal these values (a list: any of them).
        group_by: a row field or tag; rows of one value stand together under a rule.
        standalone: make the .tex a page of the size of the table (class standalone), to be put into
            slides or drawn alone, in place of a page of an article.
        per_category: show one column per prompt category for metrics that have them, and one of all
            prompts; it is the "Average" where categories are of one size.
        published: stem of a published table to show beside ours, "" for none.
        published_match: our row label, `label[nfe=8]` or `label[backbone=ALIAS]` -> the published
            row's exact key.
    """

    name: Name.table
    caption: str = ""
    columns: list[str] = Field(default_factory=list)
    where: dict[str, Any] = Field(default_factory=dict)
    group_by: str = ""
    standalone: bool = False
    per_category: bool = False
    published: str = ""
    published_match: dict[str, str] = Field(default_factory=dict)


class FigureConfig(Section):
    """One figure.

    Attributes:
        name: file stem.
        kind: "grid" of samples at the same noise, or "curve" of a metric over a row field.
        where: as of a table.
        samples: most columns of a grid, at most 64.
        across: columns of a grid: "prompts", "noise" (samples of one prompt from many noises; of
            points one tile shows all of them), "evaluations" (the clean prediction of each
            evaluation of one sample, of rows with `sample.trajectory`), or a row field: rows that
            are alike but for it stand in one line, at one prompt and noise.
        prompt: the one prompt of such a grid, by its number in the set.
        x: row field along a curve, or a cost, such as `cost.sample_ms`.
        y: id of the metric that a curve shows.
    """

    name: Name.figure
    kind: Literal["grid", "curve"] = "grid"
    where: dict[str, Any] = Field(default_factory=dict)
    samples: Annotated[int, Field(gt=0, le=64)] = 8
    across: str = "prompts"
    prompt: NonNegativeInt = 0
    x: str = "nfe"
    y: str = ""

    @property
    def axis(self) -> str:
        """The row field that it is drawn over, "" for a grid over prompts or noises."""
        if self.kind == "curve":
            return self.x
        return "" if self.across in GRIDS else self.across


class ClaimConfig(Section):
    """A comparison that a paper makes.

    Attributes:
        text: such as `tdm > lcm on hps at nfe=4`; a bare text in place of the mapping means this.
        source: where the paper says so.
    """

    text: str
    source: str = ""
