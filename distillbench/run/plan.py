"""From an experiment to its plan: content-keyed stages, and the cells that need them.

What a stage's `spec` holds (all of it decides the result, so its hash is the stage's key):

    train   identity, backbone {name, params, revision}, method {name, version, params},
            train (settings without save_every), data {prompts_sha256,
            images_sha256; fit of images that are read}, seed, teacher; for a method without
            nets data = {}, seed = 0 and train holds the precision where it is not float32
    sample  identity, train (key), backbone, method, sampler (the whole recipe),
            prompts {sha256, n}, seed, batch_size
    score   identity, sample (key), reference (sample key or null),
            metric {name, version, params, revision}
"""

from __future__ import annotations

from distillbench.config.expand import expand
from distillbench.config.marks import Problems
from distillbench.config.schema import Experiment
from distillbench.config.select import ambiguity, matches, parse_only, unknown
from distillbench.errors import BadInput
from distillbench.run.planner import Planner
from distillbench.run.stage import Plan, fields_of

__all__ = ["build_plan"]


def build_plan(experiment: Experiment, *, only: str = "") -> Plan:
    """Expand, check and hash an experiment; imports no torch and reads no weights.

    Args:
        experiment: from `config.load.load_experiment`, or made in code.
        only: `--only` expression; the plan holds the rows it selects and what they need.

    Raises:
        ConfigError: everything that does not fit, each line with its place in the file.
        BadInput: `only` is malformed or selects nothing.
    """
    from distillbench.run.check import check_metrics, check_outputs

    problems = Problems()
    notes: list[str] = []
    planner = Planner(experiment, problems, notes)
    points = expand(experiment, problems, notes)
    rows = [(point, resolved) for point in points if (resolved := planner.resolve(point))]
    if len(rows) == len(points):  # else a row that a link names may be known by its errors alone
        planner.trainings.check()
        planner.data.check()
    check_metrics(experiment, planner.metrics, rows, problems)
    problems.raise_if_any()
    cells = planner.cells(rows)
    problems.raise_if_any()
    plan = Plan(experiment.folder, planner.stages, tuple(cells), tuple(notes))
    check_outputs(experiment, plan, problems)
    problems.raise_if_any()
    return _selected(plan, only) if only else plan


def _selected(plan: Plan, only: str) -> Plan:
    terms = parse_only(only)
    views = [fields_of(cell) for cell in plan.cells]
    for name, _ in terms:
        if what := unknown(views, [name]) or ambiguity(views, name):
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
