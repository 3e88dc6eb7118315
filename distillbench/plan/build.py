"""From an experiment to its plan: content-keyed stages, and the cells that need them.

What a stage's spec holds is said by its record in `specs.stages`: all of it decides the result, so
that its hash is the stage's key. For a method without nets a train stage has no data, the seed 0,
and of the settings the precision alone, where it is not float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distillbench.api.metric import Metric
from distillbench.errors import BadInput
from distillbench.experiment.expand import GridPoint, expand
from distillbench.experiment.schema import Experiment
from distillbench.experiment.select import matches, parse_only, refusal
from distillbench.files.marks import Problems, locate
from distillbench.plan.disk import footprint_of
from distillbench.plan.given import Given
from distillbench.plan.planner import Planner
from distillbench.plan.resolve import Resolved
from distillbench.plan.stage import Plan, fields_of

__all__ = ["build_plan", "selected"]


def build_plan(experiment: Experiment) -> Plan:
    """Expand, check and hash an experiment; imports no torch and reads no weights.

    What its tables, figures and claims say is checked by `analysis.check.checked_plan`.

    Args:
        experiment: from `experiment.load.load_experiment`, or made in code.

    Raises:
        ConfigError: everything that does not fit, each line with its place in the file.
    """
    problems = Problems()
    notes: list[str] = []
    planner = Planner(experiment, problems, notes)
    points = expand(experiment, problems, notes)
    rows = [(point, resolved) for point in points if (resolved := planner.resolve(point))]
    if len(rows) == len(points):  # else a row that a link names may be known by its errors alone
        planner.trainings.check()
        planner.data.check()
        planner.place(rows)
    _check_metrics(experiment, planner.metrics, rows, problems)
    _check_kept(rows, problems)
    problems.raise_if_any()
    cells = planner.cells(rows)
    problems.raise_if_any()
    return Plan(experiment.folder, planner.made.stages, tuple(cells), tuple(notes))


def _check_kept(rows: Sequence[tuple[GridPoint, Resolved | Given]], problems: Problems) -> None:
    """Files can be kept of pictures and videos alone, MP4 of videos."""
    for point, row in rows:
        kind = point.config.sample.keep
        made = row.used.backbone.modality if row.used is not None else ""
        modality = row.modality if isinstance(row, Given) else made
        if kind and (modality == "point" or (kind == "mp4" and modality == "image")):
            mark, _ = locate(point.tree, ("sample", "keep"))
            use = "leave it out" if modality == "point" else "use png"
            problems.add(mark, f"{kind} keeps no {modality} samples; {use}")


def _check_metrics(
    experiment: Experiment,
    metrics: Mapping[str, Metric],
    rows: Sequence[tuple[GridPoint, Resolved | Given]],
    problems: Problems,
) -> None:
    """Every metric must fit every backbone, and find the reference it needs."""
    keys = [ref.key for ref in experiment.metrics]
    used = {row.used.alias: row.used.backbone for _, row in rows if row.used is not None}
    lone = [(p, row.modality) for p, row in rows if isinstance(row, Given) and row.used is None]
    sizes = [(point, row.size) for point, row in rows if isinstance(row, Given)]
    made = {alias: footprint_of(backbone).sample_size for alias, backbone in used.items()}
    for name, metric in metrics.items():
        mark, _ = locate(experiment.tree, ("metrics", keys.index(name), "use"))
        for alias, backbone in used.items():
            if backbone.modality not in metric.info.modality:
                scores = " and ".join(sorted(metric.info.modality))
                what = f"{name} scores {scores} samples, backbone {alias!r} makes "
                problems.add(mark, f"{what}{backbone.modality} samples")
            elif misfit := _misfit(metric, made[alias]):
                problems.add(mark, f"{name} cannot score what backbone {alias!r} makes: {misfit}")
        given = experiment.reference
        for point, modality in lone:
            place, _ = locate(point.tree, ("samples",))
            if modality and modality not in metric.info.modality:
                scores = " and ".join(sorted(metric.info.modality))
                problems.add(place, f"{name} scores {scores} samples, these are {modality}s")
            if metric.info.needs_reference and given is not None and not given.images:
                what = f"{name} compares with a teacher's samples; say with `backbone` whose"
                problems.add(place, what)
        for point, size in sizes:
            if misfit := _misfit(metric, size):
                place, _ = locate(point.tree, ("samples",))
                problems.add(place, f"{name} cannot score these: {misfit}")
        if metric.info.needs_reference and given is None:
            problems.add(
                mark,
                f"{name} compares with reference samples, and the file has no `reference`; "
                "add e.g. `reference: {method: teacher, nfe: 25}`",
            )
        elif metric.info.needs_reference and given is not None and given.images:
            problems.add(
                mark,
                f"{name} compares with a teacher's samples, and `reference` names real pictures; "
                "name the teacher there, and real pictures in `params: {reference: {images: ..}}` "
                "of the metrics that take them",
            )


def _misfit(metric: Metric, size: tuple[int, int]) -> str:
    return metric.misfit(*size) if all(size) else ""


def selected(plan: Plan, only: str) -> Plan:
    """The rows of a plan that an `--only` expression selects, and what they need; "" is the whole.

    Raises:
        BadInput: the expression is malformed or selects nothing.
    """
    if not only:
        return plan
    terms = parse_only(only)
    views = [fields_of(cell) for cell in plan.cells]
    for name, values in terms:
        if what := refusal(views, name, values):
            raise BadInput(f"--only {only}: {what}")
    cells = [cell for cell, view in zip(plan.cells, views, strict=True) if matches(view, terms)]
    if not cells:
        labels = ", ".join(dict.fromkeys(cell.name for cell in plan.cells))
        raise BadInput(f"--only {only}: selects no row; labels: {labels}")
    wanted: set[str] = set()
    todo = [key for cell in cells for key in (cell.sample, *cell.scores.values())]
    while todo:
        key = todo.pop()
        wanted.add(key)
        todo += plan.stages[key].needs
    stages = {key: stage for key, stage in plan.stages.items() if key in wanted}
    return Plan(plan.name, stages, tuple(cells), plan.notes)
