"""Ranking, footnotes, columns and what stands beside our numbers."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import Any

import pytest

from distillbench.analysis.aggregate import MixedProtocols, Results
from distillbench.analysis.columns import find_metric
from distillbench.errors import ConfigError
from distillbench.experiment.schema import Experiment
from distillbench.python import _flat
from distillbench.report.cost import cost_table
from distillbench.report.infos import metric_infos
from distillbench.report.table import Column, Entry, Footnotes, Line, Table, marker, rank
from distillbench.report.tables import build_table
from distillbench.report.writers import table_csv, table_json


def ranked(values: list[float | None], *, direction: Any = "up", **options: Any) -> list[int]:
    groups = options.get("groups", [""] * len(values))
    competing = options.get("ranked", [True] * len(values))
    lines = tuple(
        Line((Entry("--" if v is None else f"{v:.1f}", v),), group, competes)
        for v, group, competes in zip(values, groups, competing, strict=True)
    )
    table = Table("t", "", (Column("m", "M", "number", direction=direction),), lines)
    done = rank(table, within_groups="groups" in options)
    return [line.cells[0].rank for line in done.lines]


def test_best_and_second_by_direction() -> None:
    assert ranked([3.0, 1.0, 2.0]) == [1, 0, 2]
    assert ranked([3.0, 1.0, 2.0], direction="down") == [0, 1, 2]
    assert ranked([3.0, 1.0, 2.0], direction="") == [0, 0, 0]


def test_ties_are_decided_by_what_is_displayed() -> None:
    assert ranked([2.04, 1.96, 1.0, 0.5]) == [1, 1, 2, 0]
    assert ranked([3.0, 2.01, 1.99, 1.0]) == [1, 2, 2, 0]


def test_unranked_and_missing_rows_take_no_part() -> None:
    assert ranked([9.0, 3.0, None, 2.0], ranked=[False, True, True, True]) == [0, 1, 0, 2]
    assert ranked([9.0, 3.0, None], ranked=[False, True, True]) == [0, 0, 0]


def test_groups_are_ranked_apart() -> None:
    assert ranked([3.0, 1.0, 5.0, 4.0], groups=["a", "a", "b", "b"]) == [1, 2, 1, 2]


def test_markers_go_on_after_z() -> None:
    assert [marker(i) for i in (0, 25, 26, 51, 52)] == ["a", "z", "aa", "az", "ba"]
    notes = Footnotes()
    assert notes.marks(["x", "", "y"]) == ("a", "b")
    assert notes.marks(["y"]) == ("b",)
    assert notes.all == (("a", "x"), ("b", "y"))


def test_the_longest_metric_id_names_a_column() -> None:
    metrics = ["hps", "hps_tiny"]
    assert find_metric("hps_tiny", metrics) == ("hps_tiny", "")
    assert find_metric("hps_tiny_photo", metrics) == ("hps_tiny", "photo")
    assert find_metric("hps_photo", metrics) == ("hps", "photo")
    assert find_metric("nfe", metrics) is None


def build(world: Any, make_experiment: Any, infos: Any, parts: Any = None, **config: Any) -> Table:
    experiment = make_experiment(tables=[{"name": "t", **config}], **(parts or {}))
    results = Results(world.plan, world.store)
    return build_table(experiment.tables[0], experiment, results, infos)


def texts(table: Table, key: str) -> list[str]:
    place = [column.key for column in table.columns].index(key)
    return [line.cells[place].text for line in table.lines]


def test_default_columns_tell_rows_apart(world: Any, make_experiment: Any, infos: Any) -> None:
    world.row("a", 30.0, 5.0)
    table = build(world, make_experiment, infos)
    assert [c.key for c in table.columns] == ["label", "nfe", "hps", "fid"]
    world.row("a", 30.0, 5.0, backbone="sdxl", seeds=(0, 1))
    table = build(world, make_experiment, infos)
    assert [c.key for c in table.columns] == ["label", "backbone", "nfe", "seeds", "hps", "fid"]
    assert texts(table, "backbone") == ["SD-v1.5", "sdxl"]
    assert [c.direction for c in table.columns[-2:]] == ["up", "down"]


def test_asked_columns_fields_tags_and_categories(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("a", 30.0, 5.0, tags={"family": "x"}, varied={"params.eta": 0.5})
    asked = ["label", "family", "eta", "hps_concept_art", "fid"]
    table = build(world, make_experiment, infos, columns=asked)
    assert [c.key for c in table.columns] == asked
    assert [c.text for c in table.lines[0].cells[:3]] == ["a", "x", "0.5"]
    assert table.columns[3].label == "HPS v2.1 Concept art"
    assert table.lines[0].cells[3].n == 4


def test_categories_come_before_the_average_under_one_head(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("a", 30.0, 5.0)
    table = build(world, make_experiment, infos, per_category=True)
    keys = [c.key for c in table.columns]
    assert keys == ["label", "nfe", "hps_animation", "hps_concept_art", "hps", "fid"]
    spans = [(s.label, s.direction, s.first, s.last) for s in table.spans if s.label]
    assert spans == [("HPS v2.1", "up", 3, 5)]


def test_a_missing_cell_is_dashes_with_the_reason(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("a", 30.0, 5.0)
    world.row("b", 31.0, 4.0, done=False)
    world.store.problems[world.cells[1].train] = "NonFiniteLoss at step 3"
    table = build(world, make_experiment, infos)
    assert [c.text for c in table.lines[1].cells[2:]] == ["--", "--"]
    assert table.lines[1].cells[2].marks == ("a",)
    assert table.footnotes == (("a", "train stage aa010000 failed: NonFiniteLoss at step 3"),)
    assert table.lines[1].cells[2].runs[0].train == world.cells[1].train


def test_a_column_that_mixes_protocols_is_refused(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("a", 30.0, 5.0)
    world.row("b", 31.0, 4.0, protocol={"n": 99}, nfe=2)
    with pytest.raises(MixedProtocols, match="n: 8 against 99"):
        build(world, make_experiment, infos)
    alone = build(world, make_experiment, infos, where={"nfe": 2})
    assert texts(alone, "label") == ["b"]


def test_published_numbers_stand_beside_ours(world: Any, make_experiment: Any, infos: Any) -> None:
    for name in ("TDM-unify-GAN", "Hyper-SD", "ours", "DMD2 without GAN"):
        world.row(name, 30.0, 5.0)
    match = {"ours": "DMD2 | SD-v1.5", "TDM-unify-GAN": "TDM-unify-GAN", "Hyper-SD": "Hyper-SD"}
    options = {"published": "tdm_table1", "published_match": match}
    table = build(world, make_experiment, infos, **options)
    assert [c.key for c in table.columns] == ["label", "nfe", "hps", "hps_paper", "fid"]
    assert texts(table, "hps_paper") == ["30.83", "30.24", "29.49", ""]
    assert [line.cells[3].rank for line in table.lines] == [0, 0, 0, 0]
    assert table.lines[2].cells[3].source == "tdm_table1/DMD2 | SD-v1.5 | 4"
    notes = dict(table.footnotes)
    assert [notes[mark].split()[0] for mark in table.lines[1].cells[3].marks] == ["with", "as"]
    assert any("not comparable" in note and "2503.06674" in note for note in table.notes)
    assert any("ours is beside DMD2 | SD-v1.5 | 4." in note for note in table.notes)
    world.row("other", 29.0, 9.0, backbone="pixart")
    with pytest.raises(ConfigError, match=r"'TCD' fits several rows of tdm_table1; allowed: TCD"):
        build(world, make_experiment, infos, published="tdm_table1",
              published_match={"other": "TCD"})  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        {"label": "DMD2 without GAN", "title": "DMD2", "method": "dmd2"},
        {"label": "", "title": "TDM-unify-GAN", "method": "tdm_unify"},
        {"label": "TCD", "title": "TCD", "method": "tcd"},
        {"label": "SDXL-Lightning", "title": "x", "method": "SDXL-Lightning", "backbone": "sdxl"},
    ],
)
def test_nothing_is_guessed_from_titles_labels_or_methods(
    world: Any, make_experiment: Any, infos: Any, row: dict[str, str]
) -> None:
    world.row(row.pop("label"), 30.0, 5.0, **row)
    table = build(world, make_experiment, infos, published="tdm_table1")
    assert texts(table, "hps_paper") == [""]


def test_a_student_on_its_way_has_no_published_number(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("TDM", 30.0, 5.0, updates=50, final=False)
    world.row("TDM", 30.0, 5.0, updates=100)
    options = {"published": "tdm_table1", "published_match": {"TDM": "DMD2 | SD-v1.5"}}
    table = build(world, make_experiment, infos, columns=["label", "updates", "hps"], **options)
    assert texts(table, "hps_paper") == ["", "29.49"]


def test_groups_follow_the_rows_and_only_an_asked_one_splits_the_ranks(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("a", 30.0, 5.0, group="one", nfe=1)
    world.row("b", 31.0, 4.0, group="two", nfe=2)
    world.row("c", 32.0, 3.0, group="one", nfe=2)
    table = build(world, make_experiment, infos)
    assert [(name, len(lines)) for name, lines in table.groups] == [("one", 2), ("two", 1)]
    assert [line.cells[2].rank for line in table.lines] == [0, 2, 1]
    table = build(world, make_experiment, infos, group_by="nfe")
    assert [name for name, _ in table.groups] == ["1", "2"]
    assert [line.cells[1].rank for line in table.lines] == [0, 2, 1]
    assert "nfe" not in [c.key for c in table.columns]


def test_a_row_that_is_its_own_reference_is_marked_as_the_floor(
    world: Any, infos: Any, make_experiment: Any
) -> None:
    world.row("Teacher", 30.0, 4.5, nfe=25)
    world.row("LCM", 29.0, 9.0)
    world.compare("Teacher", "floor", of="Teacher", noise=1000)
    world.compare("LCM", "reference", of="Teacher")
    asked = {"columns": ["label", "fid"]}
    table = build(world, make_experiment, infos, **asked)
    assert [line.cells[1].marks for line in table.lines] == [("a",), ()]
    assert "so that they can fall below it" in dict(table.footnotes)["a"]
    other = {"reference": {"noise": "other"}}
    world.compare("LCM", "floor", of="Teacher", noise=1000)
    table = build(world, make_experiment, infos, parts=other, **asked)
    assert dict(table.footnotes)["a"].endswith("own samples, from other noise as in every row")
    (note,) = [note for note in table.notes if "to samples of" in note]
    assert note == ("FID: to samples of teacher of SD-v1.5 (25 evaluations, guidance 3.5), from "
                    "other noise than the rows'.")  # fmt: skip


def test_distances_to_different_references_are_ranked_apart(
    world: Any, infos: Any, make_experiment: Any
) -> None:
    teachers = {"one": "SD-v1.5", "two": "SDXL"}
    for backbone, values in (("one", (4.0, 5.0, 6.0)), ("two", (1.0, 2.0))):
        for number, value in enumerate(values):
            world.row(f"{backbone} {number}", 30.0 + value, value, backbone=backbone)
            world.compare(f"{backbone} {number}", f"reference {backbone}", of=teachers[backbone])
    parts = {"reference": {}, "backbones": {"one": {"use": "sd"}, "two": {"use": "sdxl"}}}
    table = build(world, make_experiment, infos, parts=parts, columns=["label", "hps", "fid"])
    assert [line.cells[1].rank for line in table.lines] == [0, 2, 1, 0, 0]
    assert [line.cells[2].rank for line in table.lines] == [1, 2, 0, 1, 2]
    (note,) = [note for note in table.notes if "to samples of" in note]
    assert "one (25 evaluations, guidance 3.5); two (25 evaluations, guidance 3.5)" in note
    assert "These are 2 references: values of one are not comparable" in note
    cells = json.loads(table_json(table))["rows"][3]["cells"]["fid"]
    assert cells["runs"][0]["reference"] == "reference two"
    assert cells["against"].endswith(" same noise")


def test_values_of_shared_and_of_other_noise_are_ranked_apart(
    world: Any, infos: Any, make_experiment: Any
) -> None:
    for label, noise in (("a", 0), ("b", 0), ("c", 7), ("d", 7)):
        world.row(label, 30.0, 5.0 + noise)
        world.compare(label, f"reference {noise}", of="T", noise=noise)
    table = build(world, make_experiment, infos, columns=["label", "fid"])
    assert [line.cells[1].rank for line in table.lines] == [1, 1, 1, 1]


def test_digests_stand_in_the_json_and_not_in_the_notes(
    world: Any, infos: Any, make_experiment: Any
) -> None:
    terms = {
        "n": 8, "revision": "tiny:" + "ab12" * 16, "prompts_sha256": "cd" * 32, "version": 3,
        "weights": "tiny", "extractor": {"file": "0123456789abcdef" * 4, "resize": "none"},
    }  # fmt: skip
    world.row("a", 30.0, 5.0, protocol=terms)
    table = build(world, make_experiment, infos, columns=["label", "fid"])
    assert table.notes == ("FID: n 8, weights tiny, extractor.resize none.",)
    protocol = json.loads(table_json(table))["protocols"]["fid"]
    assert protocol["revision"] == terms["revision"]
    assert protocol["extractor.file"] == "0123456789abcdef" * 4
    assert protocol["prompts_sha256"] == "cd" * 32


def test_what_must_be_said_of_a_metric_is_said_with_its_n(
    world: Any, infos: Any, make_experiment: Any
) -> None:
    world.row("a", 30.0, 5.0)
    infos |= {"fid": replace(infos["fid"], caveat="biased upward at small n (here n = {n})")}
    table = build(world, make_experiment, infos, columns=["label", "fid"])
    assert table.notes == ("FID: n 8; biased upward at small n (here n = 8).",)


def test_a_parameter_nobody_wrote_shows_its_default(
    world: Any, infos: Any, make_experiment: Any
) -> None:
    world.row("a", 30.0, 5.0, settings={"params.gamma": 0.3, "params.cap": None, "params.on": True})
    world.row("b", 30.0, 5.0, settings={"params.gamma": 0, "params.cap": 2}, nfe=2)
    columns = ["label", "gamma", "params.cap", "on"]
    table = build(world, make_experiment, infos, columns=columns)
    shown = [[cell.text for cell in line.cells[1:]] for line in table.lines]
    assert shown == [["0.3", "none", "true"], ["0", "2", "--"]]


@pytest.mark.parametrize(("prompts", "head"), [(8, "Average"), (7, "All prompts")])
def test_the_mean_over_prompts_is_the_average_of_categories_of_one_size_alone(
    prompts: int, head: str, world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts = prompts
    world.row("a", 30.0, 5.0, seeds=(0, 1))
    world.row("b", 30.0, 5.0, done=False)
    table = build(world, make_experiment, infos, columns=["label", "hps"], per_category=True)
    assert [column.label for column in table.columns[1:]] == ["Animation", "Concept art", head]
    one, two, whole = (cell.value for cell in table.lines[0].cells[1:])
    assert (whole == pytest.approx((one + two) / 2, rel=1e-12)) is (head == "Average")


def test_a_unit_is_told_in_the_notes(world: Any, make_experiment: Any, infos: Any) -> None:
    world.row("a", 30.0, 5.0)
    infos = infos | {"hps": replace(infos["hps"], unit="1e-3")}
    notes = build(world, make_experiment, infos, columns=["label", "hps"]).notes
    assert any(note.startswith("HPS v2.1: in 1e-3, ") for note in notes)


def test_means_over_a_part_of_the_seeds_are_not_ranked(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    for label, hps in (("a", 30.0), ("b", 31.0), ("c", 32.0)):
        world.row(label, hps, 5.0, seeds=(0, 1, 2))
    world.store.problems[world.cells[-1].scores["hps"]] = "a damaged disk"
    table = build(world, make_experiment, infos, columns=["label", "hps"])
    assert [line.cells[1].rank for line in table.lines] == [2, 1, 0]
    assert table.lines[2].cells[1].text != "--"
    assert "mean of 2 of 3 seeds" in dict(table.footnotes)[table.lines[2].cells[1].marks[0]]
    assert any(n.endswith("; means over a part of the seeds are not ranked.") for n in table.notes)
    assert json.loads(table_json(table))["rows"][2]["cells"]["hps"]["partial"] is True


def test_files_of_bare_numbers_say_what_footnotes_say(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    """A mean of fewer seeds, a floor, what tells two rows of one name apart."""
    for _ in range(2):
        world.row("a", 30.0, 5.0, seeds=(0, 1, 2), updates=100 * (1 + len(world.cells)))
    for metric in ("hps", "fid"):
        world.store.problems[world.cells[-1].scores[metric]] = "a damaged disk"
    table = build(world, make_experiment, infos, columns=["label", "hps", "fid"])
    told = [next(csv.DictReader([*table_csv(table).splitlines()[:1], line]))["footnotes"]
            for line in table_csv(table).splitlines()[1:]]  # fmt: skip
    assert told[0] == "label: updates 100"
    assert told[1].startswith("label: updates 400; hps: mean of 2 of 3 seeds (seed 2: ")
    assert "; fid: mean of 2 of 3 seeds (seed 2: " in told[1]
    rows = json.loads(table_json(table))["rows"]
    assert [_flat(row)["footnotes"] for row in rows] == told
    world.store.problems.clear()
    plain = build(world, make_experiment, infos, columns=["label", "updates", "hps"])
    assert "footnotes" not in table_csv(plain)


def test_rows_that_are_one_run_are_named(world: Any, make_experiment: Any, infos: Any) -> None:
    """Two numbers that are equal because a setting was not read are no result."""
    for label in ("plain", "flipped", "twin", "other"):
        world.row(label, 30.0, 5.0, seeds=(0, 1))
    for index in range(2, 6):
        same = world.cells[index % 2]
        own = {"sample": same.sample, "scores": same.scores, "train": same.train}
        world.cells[index] = replace(world.cells[index], **own)
    told = "flipped, twin and plain are the same run: what they set otherwise changes nothing."
    table = build(world, make_experiment, infos, columns=["label", "hps"])
    assert [note for note in table.notes if "same run" in note] == [told]
    world.cells[2:6] = [replace(cell, label="plain") for cell in world.cells[2:6]]
    notes = build(world, make_experiment, infos, columns=["label", "hps"]).notes
    assert not any("same run" in note for note in notes)


def test_rows_of_other_seeds_are_named(world: Any, make_experiment: Any, infos: Any) -> None:
    world.row("a", 30.0, 5.0, seeds=(0, 1))
    world.row("b", 30.0, 5.0, seeds=(0, 1))
    assert "Means over 2 seeds." in build(world, make_experiment, infos).notes
    world.row("c", 30.0, 5.0, seeds=(0,))
    world.row("d", 30.0, 5.0, seeds=(1, 2))
    notes = build(world, make_experiment, infos, columns=["label", "hps"]).notes
    assert "Seeds: 0, 1, but 0 for c; 1, 2 for d." in notes
    assert not any("Means over" in note for note in notes)
    (errors,) = [note for note in notes if note.startswith("+-")]
    assert "over prompts and seeds for HPS v2.1 (a, b, d); over prompts for HPS v2.1 (c)" in errors


def test_snapshots_are_not_ranked_among_finished_students(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    for updates, hps in ((50, 33.0), (100, 30.0)):
        for label in ("a", "b"):
            world.row(label, hps, 5.0, updates=updates, final=updates == 100)
    columns = ["label", "updates", "hps"]
    mixed = build(world, make_experiment, infos, columns=columns)
    assert [line.cells[2].rank > 0 for line in mixed.lines] == [False, False, True, True]
    assert any("snapshots are not ranked" in note for note in mixed.notes)
    alone = build(world, make_experiment, infos, columns=columns, where={"updates": 50})
    assert all(line.cells[2].rank for line in alone.lines)


def test_network_evaluations_are_told_with_guidance(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("plain", 30.0, 5.0)
    world.row("guided", 30.0, 5.0, guidance_scale=3.0)
    embedded = {"sampler.guidance_scale": 1.0}
    world.row("embedded", 30.0, 5.0, guidance_scale=3.0, settings=embedded)
    results = Results(world.plan, world.store)
    assert [row.evaluations for row in results.rows] == [4, 8, 4]
    notes = build(world, make_experiment, infos).notes
    assert any("are twice the NFE for guided (cost table)" in note for note in notes)
    costs = cost_table(make_experiment(), results)
    place = [column.key for column in costs.columns].index("evaluations")
    assert [line.cells[place].value for line in costs.lines] == [4, 8, 4]


def test_rows_that_look_alike_say_what_differs(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("TDM", 30.0, 5.0, settings={"params.lr": 0.1, "sampler.solver": "ddim"})
    world.row("TDM", 31.0, 5.0, settings={"params.lr": 0.2, "sampler.solver": "ddim"})
    world.row("TDM", 31.0, 5.0, settings={"params.lr": 0.1, "sampler.solver": "ddim"}, nfe=2)
    table = build(world, make_experiment, infos, columns=["label", "nfe", "hps"])
    assert [line.cells[0].marks for line in table.lines] == [("a",), ("b",), ()]
    assert dict(table.footnotes) == {"a": "params.lr 0.1", "b": "params.lr 0.2"}
    told = build(world, make_experiment, infos, columns=["label", "nfe", "lr", "hps"])
    assert not told.footnotes


def test_rows_of_other_precision_are_named(world: Any, make_experiment: Any, infos: Any) -> None:
    for label, precision in (("a", "float32"), ("b", "float32"), ("c", "bfloat16")):
        world.row(label, 30.0, 5.0, settings={"train.precision": precision})
    notes = build(world, make_experiment, infos).notes
    assert "Precision: float32, but bfloat16 for c." in notes


def test_a_zero_has_no_sign(world: Any, make_experiment: Any, infos: Any) -> None:
    for label, value in (("a", -0.001), ("b", -0.2), ("c", 0.0)):
        world.row(label, 30.0, value)
    assert texts(build(world, make_experiment, infos), "fid") == ["0.0", "-0.2", "0.0"]


def test_two_metrics_of_one_head_are_told_apart() -> None:
    experiment = Experiment.model_validate(
        {"name": "t", "metrics": ["fid", {"use": "fid", "id": "fid_few", "params": {"blocks": 0}},
                                  "hps"]}
    )  # fmt: skip
    heads = [info.label for info in metric_infos(experiment).values()]
    assert heads == ["FID (tiny) fid", "FID (tiny) fid_few", "HPS (tiny)"]
