"""Checks that need the whole grid: what tables, figures and claims say of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distillbench.analysis.costs import PREFIX, unknown_cost
from distillbench.analysis.published import PUBLISHED, unknown_published
from distillbench.analysis.registered import PREFIX as FACTS
from distillbench.analysis.registered import unknown_fact
from distillbench.errors import BadInput
from distillbench.experiment.outputs import GRIDS
from distillbench.experiment.schema import Experiment
from distillbench.experiment.select import Fields, refusal, unknown
from distillbench.files.marks import Mark, Path, Problems, did_you_mean, locate
from distillbench.plan.build import build_plan
from distillbench.plan.stage import Plan
from distillbench.specs.stages import SampledSpec

if TYPE_CHECKING:
    from distillbench.analysis.published import PublishedTable
    from distillbench.analysis.rows import Row

__all__ = ["checked_plan"]


def checked_plan(experiment: Experiment) -> Plan:
    """The plan of an experiment whose tables, figures and claims speak of what there is.

    Raises:
        ConfigError: everything that does not fit, each line with its place in the file.
    """
    plan, problems = build_plan(experiment), Problems()
    _check_outputs(experiment, plan, problems)
    problems.raise_if_any()
    return plan


def _check_outputs(experiment: Experiment, plan: Plan, problems: Problems) -> None:
    """Tables, figures and claims must speak of rows, metrics and columns that exist."""
    from distillbench.analysis.rows import rows_of

    checker = _Checker(experiment, rows_of(plan), problems, plan)
    for index, table in enumerate(experiment.tables):
        checker.table(index, table)
    for index, figure in enumerate(experiment.figures):
        checker.figure(index, figure)
    for index, claim in enumerate(experiment.claims):
        checker.claim(index, claim.text)
    for kind in ("tables", "figures"):
        checker.unique(kind)


class _Checker:
    """Holds what all outputs are checked against."""

    def __init__(
        self, experiment: Experiment, rows: Sequence[Row], problems: Problems, plan: Plan
    ) -> None:
        self.experiment = experiment
        self.plan = plan
        self.rows = rows
        self.problems = problems
        self.metrics = [ref.key for ref in experiment.metrics]
        self.fields = [row.fields for row in rows]

    def mark(self, *path: str | int) -> Mark:
        return locate(self.experiment.tree, path)[0]

    def table(self, index: int, table: Any) -> None:
        """Columns, selection, grouping and the published twin of one table."""
        for number, column in enumerate(table.columns):
            self.column(column, ("tables", index, "columns", number), table.published)
        referenced_fields = [*table.columns, table.group_by]
        self.where(table.where, ("tables", index, "where"), referenced_fields)
        if table.group_by:
            self.field(table.group_by, ("tables", index, "group_by"))
        if table.published:
            self.published(index, table)
        self.alike(table, index, referenced_fields)

    def figure(self, index: int, figure: Any) -> None:
        """Selection and axes of one figure."""
        self.where(figure.where, ("figures", index, "where"), [figure.axis])
        if figure.kind != "curve":
            self.selector(figure.across, ("figures", index, "across"), others=GRIDS)
            self.kept(index, figure)
            return
        self.axis(figure.x, ("figures", index, "x"))
        if not figure.y:
            known = ", ".join(self.metrics) or "none"
            self.problems.add(self.mark("figures", index), f"a curve needs y, a metric: {known}")
        elif not self.is_metric(figure.y):
            self.unknown("metric", figure.y, self.metrics, ("figures", index, "y"))

    def kept(self, index: int, figure: Any) -> None:
        """Clean predictions are there of rows that keep them."""
        from distillbench.analysis.rows import chosen

        rows = chosen(self.rows, figure.where, [figure.axis])
        if figure.across == "evaluations" and not any(r.get("sample.trajectory") for r in rows):
            what = "no row keeps clean predictions; set sample.trajectory"
            self.problems.add(self.mark("figures", index, "across"), what)

    def claim(self, index: int, text: str) -> None:
        """A claim must parse, mean exactly one row on each side, and name a metric."""
        from distillbench.analysis.claims import parse_claim, resolve

        mark = self.mark("claims", index, "text")
        try:
            claim = parse_claim(text)
        except ValueError as error:
            self.problems.add(mark, str(error))
            return
        if not self.is_metric(claim.metric):
            known = f"has: {', '.join(self.metrics) or 'none'}"
            guess = did_you_mean(claim.metric, self.metrics)
            self.problems.add(mark, f"claim {text!r}: no metric {claim.metric!r}; {known}.{guess}")
        try:
            resolve(claim, self.rows)
        except ValueError as error:
            self.problems.add(mark, str(error))

    def unique(self, kind: str) -> None:
        """Names become file names, so two of one kind may not share one."""
        seen: set[str] = set()
        for index, part in enumerate(getattr(self.experiment, kind)):
            if part.name in seen:
                self.problems.add(
                    self.mark(kind, index, "name"), f"two {kind} are called {part.name!r}"
                )
            seen.add(part.name)

    # ---- parts --------------------------------------------------------------------------

    def column(self, name: str, path: Path, published: str) -> None:
        if not self.is_metric(name) and not self.cost(name, path):
            if name.startswith((FACTS, PUBLISHED)):
                if what := unknown_fact(name) or unknown_published(name, published):
                    self.problems.add(self.mark(*path), what)
            else:
                self.field(name, path, "metric or field")

    def axis(self, name: str, path: Path) -> None:
        if not self.cost(name, path):
            self.selector(name, path)

    def cost(self, name: str, path: Path) -> bool:
        """Whether it names a cost, and no field of a row; one that is misspelt is told."""
        if any(fields.has(name) for fields in self.fields):
            return False
        if problem := unknown_cost(name):
            self.problems.add(self.mark(*path), problem)
        return name.startswith(PREFIX)

    def field(self, name: str, path: Path, what: str = "field") -> None:
        known = self.metrics if what != "field" else []
        if problem := unknown([*self.fields, Fields(dict.fromkeys(known))], [name], what):
            self.problems.add(self.mark(*path), problem)

    def selector(
        self, name: str, path: Path, value: Any = None, *, others: Sequence[str] = ()
    ) -> None:
        """A field that rows are told apart by, and so must not mean two things; or one of others.

        A row's own field goes before.
        """
        known = Fields(dict.fromkeys(others))
        if what := refusal([*self.fields, known], name, value):
            self.problems.add(self.mark(*path), what)

    def where(self, where: Mapping[str, Any], path: Path, referenced_fields: Sequence[str]) -> None:
        from distillbench.analysis.rows import chosen

        before = len(self.problems.lines)
        for name, value in where.items():
            self.selector(name, (*path, name), value)
        if len(self.problems.lines) > before:
            return
        if where and not chosen(self.rows, where, ["updates"]):
            self.problems.add(self.mark(*path), "selects no row")
        elif self.rows and not chosen(self.rows, where, referenced_fields):
            what = "all its rows are snapshots; name updates in columns, x or where"
            self.problems.add(self.mark(*path[:2]), what)

    def published(self, index: int, table: Any) -> None:
        """The stem must be shipped, and what is matched be a row here and one there."""
        from distillbench.analysis.columns import backbone_labels
        from distillbench.analysis.published import load_published, published_stems

        path = ("tables", index, "published")
        try:
            theirs = load_published(table.published)
        except BadInput as error:
            guess = did_you_mean(table.published, published_stems())
            self.problems.add(
                self.mark(*path), f"{error}{guess if guess not in str(error) else ''}"
            )
            return
        labels = backbone_labels(self.experiment)
        for name in table.published_match:
            place = (*path[:2], "published_match", name)
            if problem := self.match(theirs, table.published_match, name, labels, place):
                self.problems.add(self.mark(*place), problem)

    def match(
        self, theirs: PublishedTable, match: Mapping[str, str], name: str,
        labels: Mapping[str, str], place: Path,
    ) -> str:  # fmt: skip
        """Why one entry of a `published_match` puts no number beside a row of ours; "" if it does.

        It names the published row by its exact key, so that nothing is guessed.
        """
        from distillbench.analysis.published import of_label

        label, nfe = of_label(name) if name not in {row.name for row in self.rows} else (name, None)
        ours = [row.first for row in self.rows if row.name == label]
        if not ours:
            self.unknown("row", label, list(dict.fromkeys(r.name for r in self.rows)), place)
            return ""
        steps = dict.fromkeys(str(cell.nfe) for cell in ours)
        try:
            found = [
                theirs.beside({name: match[name]}, label, nfe=cell.nfe,
                              backbone=[cell.backbone, labels.get(cell.backbone, "")])
                for cell in ours if nfe in (None, cell.nfe)
            ]  # fmt: skip
        except BadInput as error:
            return error.line
        if any(found):
            return ""
        return (f"published_match: {match[name]!r} fits none of ours by steps and backbone; "
                f"{label} has nfe {', '.join(steps)}")  # fmt: skip

    def alike(self, table: Any, index: int, referenced_fields: Sequence[str]) -> None:
        """Rows whose numbers share a column must be samples of the same prompts.

        The table would be refused after the run.
        """
        from distillbench.analysis.rows import chosen

        if table.columns and not any(map(self.is_metric, table.columns)):
            return
        found: dict[str, Row] = {}
        for row in chosen(self.rows, table.where, referenced_fields) if self.metrics else ():
            stage = self.plan.stages.get(row.first.sample)
            if stage is not None:
                prompts = stage.read(SampledSpec).prompts
                found.setdefault(f"n {prompts.n}, prompts {prompts.sha256[:8]}", row)
        if len(found) > 1:
            told = "; ".join(f"{row.name} has {what}" for what, row in found.items())
            self.problems.add(
                self.mark("tables", index),
                f"a column never mixes samples of other n or prompts: {told}; make sample.n and "
                "sample.prompts agree, or part the rows with `where`",
            )

    def unknown(self, what: str, name: str, allowed: Sequence[str], path: Path) -> None:
        guess = did_you_mean(name, allowed)
        known = ", ".join(allowed)
        self.problems.add(self.mark(*path), f"unknown {what} {name!r}; allowed: {known}.{guess}")

    def is_metric(self, name: str) -> bool:
        from distillbench.analysis.columns import find_metric

        return find_metric(name, self.metrics) is not None
