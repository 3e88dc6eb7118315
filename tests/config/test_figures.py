"""What figures may be drawn over: row fields, and few words beside them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distillbench.experiment.outputs import GRIDS, FigureConfig
from distillbench.plan.stage import Plan

FILE = "rows: [{method: fake-student}]\nmetrics: [fake-spread]\nfigures: [FIGURE]\n"


@pytest.mark.parametrize(
    ("figure", "told"),
    [
        ("{name: a, across: nef}", "figures[0].across: unknown field 'nef'"),
        ("{name: a, across: noises}", "Did you mean 'noise'?"),
        ("{name: a, across: cost.sample_ms}", "figures[0].across: unknown field 'cost.sample_ms'"),
        ("{name: a, kind: curve, x: noise, y: fake-spread}", "figures[0].x: unknown field 'noise'"),
        (
            "{name: a, across: evaluations}",
            "figures[0].across: no row keeps clean predictions; set",
        ),
        ("{name: a, prompt: -1}", "figures[0].prompt: input should be greater than or equal to 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    figure: str, told: str, errors_of: Callable[[str], list[str]]
) -> None:
    (line,) = errors_of(FILE.replace("FIGURE", figure))
    assert told in line


@pytest.mark.parametrize("across", [*GRIDS, "nfe", "label"])
def test_columns_of_grids(across: str, plan_of: Callable[..., Plan]) -> None:
    keeps = FILE.replace("fake-student}", "fake-student, sample: {trajectory: 2}}")
    plan = plan_of(keeps.replace("FIGURE", f"{{name: a, across: {across}}}"))
    axis = FigureConfig.model_validate({"name": "a", "across": across}).axis
    assert axis == {"prompts": "", "noise": "", "evaluations": ""}.get(across, across)
    assert [cell.method for cell in plan.cells] == ["fake-student"]
