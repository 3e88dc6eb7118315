"""Values and errors from stored scores; what is missing is named; protocols never mix."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillbench.analysis.aggregate import MixedProtocols, Results


def results(world: Any) -> Results:
    return Results(world.plan, world.store)


def test_one_seed_has_an_error_over_prompts(world: Any) -> None:
    world.row("a", 30.0, 5.0)
    found = results(world)
    row = found.rows[0]
    value = found.value(row, "hps")
    samples = found.scores(row, "hps")[0].score.samples("")
    mean = sum(s.value for s in samples) / 8
    spread = sum((s.value - mean) ** 2 for s in samples) / 7
    assert value.value == pytest.approx(mean)
    assert value.stderr == pytest.approx((spread / 8) ** 0.5)
    assert (value.stderr_over, value.n, value.seeds) == ("prompts", 8, (0,))
    alone = found.value(row, "fid")
    assert (alone.value, alone.stderr, alone.stderr_over) == (5.0, None, "")


def test_several_seeds_are_averaged(world: Any) -> None:
    world.row("a", 30.0, 5.0, seeds=(0, 1, 2))
    found = results(world)
    fid, hps = (found.value(found.rows[0], m) for m in ("fid", "hps"))
    assert (fid.value, fid.stderr_over, fid.n) == (6.0, "seeds", 8)
    assert fid.stderr == pytest.approx(3**-0.5)
    assert (hps.stderr_over, hps.n) == ("prompts+seeds", 24)
    assert len(hps.keys) == 3


def test_a_category_column_uses_its_own_samples(world: Any) -> None:
    world.row("a", 30.0, 5.0)
    found = results(world)
    assert found.suffixes(found.rows, "hps") == ("animation", "concept-art")
    value = found.value(found.rows[0], "hps", "concept-art")
    assert (value.n, value.stderr_over) == (4, "prompts")


def test_a_metric_gives_its_own_error_for_one_sample_set(world: Any) -> None:
    world.row("a", 30.0, 5.0)
    path = world.store.path("score", world.cells[0].scores["fid"]) / "scores.jsonl"
    line = json.loads(path.read_text())
    path.write_text(json.dumps({**line, "stderr": 0.25}) + "\n")
    found = results(world)
    value = found.value(found.rows[0], "fid")
    assert (value.stderr, value.stderr_over) == (0.25, "samples")


def test_samples_that_do_not_average_to_the_aggregate_give_no_error(world: Any) -> None:
    world.row("a", 30.0, 5.0)
    path = world.store.path("score", world.cells[0].scores["hps"]) / "scores.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "aggregate" and not line["column"]:
            line["value"] += 1.0
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = results(world)
    assert found.value(found.rows[0], "hps").stderr is None


def test_the_first_stage_without_a_result_is_named(world: Any) -> None:
    world.row("a", 30.0, 5.0, done=False)
    found = results(world)
    assert found.value(found.rows[0], "hps").missing == "train stage aa000000 is not done"
    train = world.cells[0].train
    world.store.problems[train] = "step 7: loss is NaN (log: /home/me/results/x.log)\nmore"
    found = results(world)  # one is a snapshot
    assert found.missing_stage(train) == (
        "train stage aa000000 failed: step 7: loss is NaN (log: x.log)"
    )


def test_a_row_with_a_lost_seed_says_so(world: Any) -> None:
    world.row("a", 30.0, 5.0, seeds=(0, 1))
    world.store.problems[world.cells[1].scores["fid"]] = "out of memory"
    found = results(world)
    value = found.value(found.rows[0], "fid")
    assert (value.value, value.seeds) == (5.0, (0,))
    assert value.missing.startswith("mean of 1 of 2 seeds (seed 1: score stage dd000100 failed")


def test_a_damaged_score_is_missing_and_not_a_crash(world: Any) -> None:
    world.row("a", 30.0, 5.0)
    path = world.store.path("score", world.cells[0].scores["fid"]) / "scores.jsonl"
    path.write_text("{")
    found = results(world)
    assert "damaged" in found.value(found.rows[0], "fid").missing


def test_not_finite_values_are_missing(world: Any) -> None:
    world.row("a", 30.0, float("nan"))
    found = results(world)
    assert found.value(found.rows[0], "fid").missing == "the value is not finite"


def test_protocols_never_mix(world: Any) -> None:
    world.row("a", 30.0, 5.0, protocol={"n": 8, "extractor": {"name": "tiny"}})
    world.row("b", 31.0, 6.0, protocol={"n": 8, "extractor": {"name": "tiny"}})
    found = results(world)
    assert found.protocol(found.rows, "fid") == {"extractor.name": "tiny", "n": 8}
    world.row("c", 31.0, 6.0, protocol={"n": 50, "extractor": {"name": "inception"}})
    found = results(world)
    with pytest.raises(MixedProtocols) as error:
        found.protocol(found.rows, "fid")
    text = str(error.value)
    assert "a (nfe 4, seed 0, dd000000)" in text
    assert "c (nfe 4, seed 0, dd020000)" in text
    assert "extractor.name: 'tiny' against 'inception'; n: 8 against 50" in text


def test_a_reworded_head_is_no_other_protocol(world: Any) -> None:
    world.row("a", 30.0, 5.0, protocol={"n": 8, "label": "MMD^2"})
    world.row("b", 31.0, 6.0, protocol={"n": 8, "label": "MMD\u00b2"})
    found = results(world)
    assert found.protocol(found.rows, "fid") == {"n": 8}


def test_rows_are_selected_by_field_tag_and_varied_value(world: Any) -> None:
    world.row("a", 30.0, 5.0, nfe=1, tags={"family": "x"}, varied={"params.eta": 0.5})
    world.row("b", 30.0, 5.0, nfe=4, tags={"family": "y"}, varied={"params.eta": 1.0})
    found = results(world)
    for where in ({"nfe": 1}, {"nfe": "1"}, {"family": ["x", "z"]}, {"eta": 0.5}, {"label": "a"}):
        assert [row.name for row in found.select(where)] == ["a"]
    assert found.select({"nfe": 2}) == ()
