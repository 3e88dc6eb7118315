"""Columns beside a row's own numbers: of the published table, and what the registry says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillbench.analysis.aggregate import Results
from distillbench.analysis.agreement import comparisons
from distillbench.analysis.check import checked_plan
from distillbench.analysis.registered import FACTS, registered
from distillbench.analysis.written import WrittenTable
from distillbench.errors import ConfigError
from distillbench.experiment.load import load_experiment
from distillbench.report.tables import build_table
from distillbench.report.writers import table_csv, table_json

ROOT = Path(__file__).resolve().parents[2]
COST = {
    "name": "t", "published": "tdm_table3_training_cost",
    "published_match": {"TDM": "TDM | SDXL", "LCM": "LCM | SDXL"},
}  # fmt: skip


@pytest.fixture
def costs(world: Any) -> Any:
    """Two rows of the published table, and one that it lacks."""
    for label, hps in (("TDM", 34.0), ("LCM", 29.0), ("Ours", 30.0)):
        world.row(label, hps, 5.0, backbone="xl")
    return world


def table_of(world: Any, make_experiment: Any, infos: Any, columns: list[str]) -> Any:
    backbones = {"xl": {"use": "sdxl", "label": "SDXL"}}
    asked = make_experiment(tables=[{**COST, "columns": columns}], backbones=backbones)
    return build_table(asked.tables[0], asked, Results(world.plan, world.store), infos)


def test_a_published_column_stands_as_it_is_printed(
    costs: Any, make_experiment: Any, infos: Any
) -> None:
    table = table_of(costs, make_experiment, infos, ["label", "hps", "published.training_cost"])
    assert [column.label for column in table.columns] == [
        "Method", "HPS v2.1", "paper", "training cost, paper",
    ]  # fmt: skip
    assert [line.cells[-1].text for line in table.lines] == ["2 A800 Days", "32 A100 Days", ""]
    assert table_csv(table).splitlines()[1].endswith("2 A800 Days")


def test_a_metric_as_printed_is_in_no_comparison(
    costs: Any, make_experiment: Any, infos: Any
) -> None:
    """Else table 3 would count table 1's comparisons again, and its slips beside them."""
    for columns, found in ((["label", "hps"], 1), (["label", "hps", "published.hps"], 0)):
        table = table_of(costs, make_experiment, infos, columns)
        written = WrittenTable.of(json.loads(table_json(table)), Path("t.json"))
        assert len(comparisons(written)) == found
    assert [line.cells[2].text for line in table.lines] == ["34.88", "29.41", ""]


FILE = """\
name: t
base: {backbone: gmm, sample: {n: 16}}
rows:
  - {label: LCM, method: lcm, nfe: 4}
  - {label: TDM, method: tdm, nfe: 4, params: {nets: copy}}
  - {label: PeRFlow, method: perflow, nfe: 4}
  - {label: Teacher, method: teacher, nfe: 4}
metrics: [sw]
"""


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("registry.stepps", "unknown fact 'registry.stepps'; there are: registry.steps"),
        ("published.hps", "'published.hps' is of a published table: name it by `published`"),
    ],
)
def test_columns_that_do_not_exist_are_named(column: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(FILE + f"tables: [{{name: t, columns: [label, {column}]}}]\n")
    with pytest.raises(ConfigError) as caught:
        checked_plan(load_experiment(file))
    assert str(caught.value).startswith(f"{file}:9:37: ")
    assert told in str(caught.value)


def test_an_unknown_column_of_the_paper_lists_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    table = "{name: t, columns: [label, published.days], published: tdm_table3_training_cost}"
    file.write_text(FILE + f"tables: [{table}]\n")
    with pytest.raises(ConfigError, match=r"published\.days.*published\.training_cost"):
        checked_plan(load_experiment(file))


def test_what_methods_can_do_is_asked_of_them(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(FILE)
    plan = checked_plan(load_experiment(file))
    found = {
        cell.label: {fact: registered(plan.stages[cell.train], fact) for fact in FACTS}
        for cell in plan.cells
    }
    assert {label: facts["steps"] for label, facts in found.items()} == {
        "LCM": "1+", "TDM": "1, 2, 4", "PeRFlow": "4+", "Teacher": "1+",
    }  # fmt: skip
    assert found["Teacher"]["guidance_free"] == "no"
    assert found["LCM"]["one_step_network"] == found["LCM"]["one_step_adapter"] == "yes"
    assert found["TDM"]["one_step_adapter"] == "yes"  # whatever its row's own nets are
    assert found["PeRFlow"]["one_step_network"] == found["Teacher"]["one_step_network"] == "no"


def test_of_published_weights_the_catalogue_says_it() -> None:
    experiment = load_experiment(ROOT / "experiments/hypersd_table1.yaml", profile="paper")
    plan = checked_plan(experiment)
    told = {
        cell.label: tuple(registered(plan.stages[cell.train], fact) for fact in FACTS)
        for cell in plan.cells
    }
    assert told["Lightning, LoRA"] == ("4", "sdxl", "yes", "no", "no")
    assert told["Lightning in 1 step"] == ("1", "sdxl", "yes", "yes", "no")
    assert told["Hyper-SD15, LoRA in 1 step"] == ("1, 2, 4, 8", "sd", "yes", "no", "yes")


def test_a_table_without_numbers_ranks_nothing_and_says_what_its_facts_are(
    make_experiment: Any, infos: Any, tmp_path: Path
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(FILE + "tables: [{name: t, columns: [label, registry.steps]}]\n")
    experiment = load_experiment(file)

    class Nothing:
        def path(self, kind: str, key: str) -> Path:
            return tmp_path / key

        def is_done(self, kind: str, key: str) -> bool:
            return False

        def reason(self, kind: str, key: str) -> str:
            return ""

    results = Results(checked_plan(experiment), Nothing())
    table = build_table(experiment.tables[0], experiment, results, {})
    assert [line.cells[1].text for line in table.lines] == ["1+", "1, 2, 4", "4+", "1+"]
    assert not [note for note in table.notes if "bold" in note]
    assert [note for note in table.notes if "plug-in accepts" in note]
