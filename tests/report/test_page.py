"""What report.html holds for its script: metrics apart by protocol, losses, samples, provenance."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence
from safetensors.numpy import save_file

from distillbench.analysis.aggregate import Results
from distillbench.analysis.losses import read_losses
from distillbench.report.html import report_html
from distillbench.report.page.build import embedded, page_data, script
from distillbench.report.page.losses import loss_curves
from distillbench.report.page.pictures import sample_sets
from distillbench.report.page.points import metric_choices, row_points
from distillbench.report.page.provenance import provenance_facts
from distillbench.report.render import build_report


def save_samples(world: Any, side: int = 8) -> None:
    for number, cell in enumerate(world.cells):
        folder = world.store.path("sample", cell.sample)
        if folder.is_dir():
            pixels = np.random.default_rng(number)
            images = pixels.integers(0, 256, (world.prompts, side, side, 3), dtype=np.uint8)
            save_file({"samples": images}, folder / "samples-00000.safetensors")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_values_measured_in_two_ways_are_never_on_one_axis(
    world: Any, infos: Any, seeds: tuple[int, ...]
) -> None:
    world.row("a", 30.0, 5.0, seeds=seeds)
    world.row("b", 31.0, 4.0, seeds=seeds, protocol={"n": 99, "weights": "other"})
    world.row("c", 29.0, 4.5, seeds=seeds)
    choices = metric_choices(Results(world.plan, world.store), infos)
    hps = [c for c in choices if c["id"] == "hps"]
    assert [c["rows"] for c in hps] == [[0, 2], [1]]
    assert [c["label"] for c in hps] == [
        "HPS v2.1 (n 8)", "HPS v2.1 (n 99, weights other)"
    ]  # fmt: skip


def test_distances_to_two_references_are_never_on_one_axis(world: Any, infos: Any) -> None:
    world.row("a", 30.0, 5.0)
    world.row("b", 30.0, 5.0)
    world.compare("a", "ee" * 10, of="teacher of a")
    world.compare("b", "ff" * 10, of="teacher of b")
    found = [c for c in metric_choices(Results(world.plan, world.store), infos) if c["id"] == "fid"]
    assert [(c["label"], c["rows"]) for c in found] == [
        ("FID (reference 1)", [0]), ("FID (reference 2)", [1])
    ]  # fmt: skip


def test_points_hold_seeds_costs_and_what_is_varied(
    world: Any, infos: Any, make_experiment: Any
) -> None:
    world.row("a", 30.0, 5.0, seeds=(0, 1), varied={"params.lr": 1e-4, "params.name": "x"})
    world.row("b", 30.0, 5.0, done=False)
    one, other = row_points(make_experiment(), Results(world.plan, world.store), infos)
    assert one["varied"] == {"params.lr": 1e-4}
    assert one["metrics"]["fid"]["seeds"] == [5.0, 6.0]
    assert one["metrics"]["fid"]["value"] == 5.5
    assert one["cost"]["train_seconds"] == 12.5
    assert one["cost"]["device_hours"] == pytest.approx(12.5 / 3600)
    assert other["metrics"]["hps"] is None
    assert other["cost"]["train_seconds"] is None


def test_losses_are_thinned_and_keep_their_ends(world: Any, monkeypatch: Any) -> None:
    world.row("a", 30.0, 5.0, seeds=(0, 1))
    lines = [{"step": n + 1, "student/loss": float("nan") if n == 0 else n} for n in range(200)]
    world.store.path("train", world.cells[0].train).joinpath("train.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 2'
    )
    results = Results(world.plan, world.store)
    (whole,) = loss_curves(results)
    assert (whole["name"], whole["seed"]) == ("a", 0)
    assert whole["steps"] == list(range(1, 201))
    assert whole["losses"]["student/loss"][:2] == [None, 1.0]
    monkeypatch.setattr("distillbench.report.page.losses.NUMBERS", 100)
    (thin,) = loss_curves(results)
    assert (len(thin["steps"]), thin["steps"][0], thin["steps"][-1]) == (50, 1, 200)


@pytest.mark.parametrize(
    ("text", "rows"),
    [("", 0), ("torn", 0), ('{"step": 1}\n{"st', 1), ("[1]\n", 0), ('{"step": "x"}', 0)],
)
def test_a_torn_log_of_losses_is_read_up_to_the_tear(tmp_path: Path, text: str, rows: int) -> None:
    path = tmp_path / "train.jsonl"
    assert read_losses(path) == []
    path.write_text(text)
    assert len(read_losses(path)) == rows


def test_the_page_holds_the_first_prompts_and_those_where_rows_differ(
    world: Any, infos: Any, make_experiment: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    world.prompts = 40
    world.row("a", 30.0, 5.0)
    world.row("b", 30.0, 5.0)
    save_samples(world)
    path = world.store.path("score", world.cells[0].scores["hps"]) / "scores.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[37]["value"] += 9  # the row and its mean differ now, so that its values are not trusted
    for row in rows:
        if row["kind"] == "aggregate" and row["column"] == "":
            row["value"] += 9 / 40
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("distillbench.report.page.pictures.PICTURES", 16)
    (only,) = sample_sets(make_experiment(), Results(world.plan, world.store), infos, tmp_path)
    assert len(only["prompts"]) == 8
    assert {"prompt 0", "prompt 1", "prompt 37"} <= set(only["prompts"])
    place = only["prompts"].index("prompt 37")
    a, b = (row["scores"]["hps"][place] for row in only["rows"])
    assert a - b == pytest.approx(9, abs=1)
    assert not list(tmp_path.glob("report_pictures"))


def test_large_pictures_lie_beside_the_page(
    world: Any, infos: Any, make_experiment: Any, tmp_path: Path
) -> None:
    world.row("a", 30.0, 5.0)
    save_samples(world, side=300)
    (only,) = sample_sets(make_experiment(), Results(world.plan, world.store), infos, tmp_path)
    for picture in only["rows"][0]["pictures"]:
        assert picture["src"].startswith("data:image/jpeg;base64,")
        assert picture["side"] == 256
        assert (tmp_path / picture["full"]).stat().st_size > 1000
    assert len(list((tmp_path / "report_pictures").iterdir())) == world.prompts


@pytest.mark.parametrize("side", [8, 120])
def test_a_clip_stands_still_and_has_all_frames_to_play(
    side: int, world: Any, infos: Any, make_experiment: Any, tmp_path: Path
) -> None:
    """Small ones exactly and in the page, larger ones beside it."""
    world.row("a", 30.0, 5.0)
    clips = np.random.default_rng(0).integers(0, 256, (8, 5, side, side, 3), dtype=np.uint8)
    folder = world.store.path("sample", world.cells[0].sample)
    save_file({"samples": clips}, folder / "samples-00000.safetensors")
    (only,) = sample_sets(make_experiment(), Results(world.plan, world.store), infos, tmp_path)
    for made, clip in zip(only["rows"][0]["pictures"], clips, strict=True):
        assert made["moves"]
        still = decoded(made["src"], tmp_path)
        frames = [f.convert("RGB") for f in ImageSequence.Iterator(decoded(made["full"], tmp_path))]
        assert len(frames) == 5
        if side == 8:
            assert np.array_equal(np.asarray(still), clip[2])
            assert np.array_equal(np.stack([np.asarray(f) for f in frames]), clip)


def decoded(source: str, folder: Path) -> Any:
    if not source.startswith("data:"):
        return Image.open(folder / source)
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_samples_of_other_prompts_or_backbones_are_sets_of_their_own(
    world: Any, infos: Any, make_experiment: Any, tmp_path: Path
) -> None:
    world.row("a", 30.0, 5.0)
    world.row("b", 30.0, 5.0, backbone="other")
    world.prompts = 4
    world.row("c", 30.0, 5.0)
    world.row("d", 30.0, 5.0, done=False)
    world.prompts = 8
    for cell, size in zip(world.cells, (8, 8, 4), strict=False):
        folder = world.store.path("sample", cell.sample)
        save_file(
            {"samples": np.zeros((size, 8, 8, 3), np.uint8)}, folder / "samples-0.safetensors"
        )
    *sets, missing = sample_sets(
        make_experiment(), Results(world.plan, world.store), infos, tmp_path
    )
    assert [[row["label"].split(",")[0] for row in one["rows"]] for one in sets] == [
        ["a"], ["b"], ["c"]
    ]  # fmt: skip
    assert missing["missing"][0]["why"] == "train stage aa030000 is not done"


def test_points_are_clouds_of_one_prompt(
    world: Any, infos: Any, make_experiment: Any, tmp_path: Path
) -> None:
    world.distinct = 2
    world.row("a", 30.0, 5.0)
    folder = world.store.path("sample", world.cells[0].sample)
    points = np.arange(16, dtype=np.float32).reshape(8, 2)
    save_file({"samples": points}, folder / "samples-00000.safetensors")
    (only,) = sample_sets(make_experiment(), Results(world.plan, world.store), infos, tmp_path)
    assert (only["kind"], only["prompts"]) == ("points", ["prompt 0", "prompt 1"])
    assert only["rows"][0]["pictures"][1] == [[2, 3], [6, 7], [10, 11], [14, 15]]


@pytest.mark.parametrize(("seeds", "shown"), [((0,), ("seed", "0")), ((0, 1), ("seeds", "0, 1"))])
def test_what_is_single_is_not_called_many(
    world: Any, infos: Any, make_experiment: Any, tmp_path: Path, seeds: tuple[int, ...],
    shown: tuple[str, str],
) -> None:  # fmt: skip
    world.row("a", 30.0, 5.0, seeds=seeds)
    report = build_report(make_experiment(), world.plan, world.store, infos=infos)
    facts = re.findall(r"<dt>(\w+)</dt><dd>(.+?)</dd>", report_html(report, [], tmp_path))
    assert {shown, ("backbone", "sd"), ("metrics", "HPS v2.1, FID")} <= set(facts)


def test_provenance_counts_stages_where_they_differ(world: Any) -> None:
    world.row("a", 30.0, 5.0, seeds=(0, 1))
    for cell, commit, started in zip(world.cells, ("ab" * 20, "cd" * 20), (0, 86400), strict=True):
        attempt = {
            "started": started, "device": "cpu", "python": "3.11", "packages": {"torch": "2.9"},
            "code": {"commit": commit, "dirty": commit.startswith("c")},
        }  # fmt: skip
        folder = world.store.path("train", cell.train)
        (folder / "provenance.json").write_text(json.dumps({"attempts": [{}, attempt]}))
    facts = dict(provenance_facts(Results(world.plan, world.store)))
    assert facts["dates"] == "1970-01-01 00:00 UTC to 1970-01-02 00:00 UTC"
    assert facts["commit"] == "abababababab (1 stages); cdcdcdcdcdcd with changes (1 stages)"
    assert (facts["device"], facts["torch"]) == ("cpu", "2.9")


@pytest.mark.parametrize("text", ["</script><script>", "<!--", "a & b", "\u2028", "]]>"])
def test_no_text_can_end_the_data(text: str) -> None:
    page = embedded({text: [text, float("nan"), (1, None)]})
    assert json.loads(page) == {text: [text, None, [1, None]]}
    assert not set(page) & set("<>&\u2028")


def test_the_script_can_be_inlined() -> None:
    assert "</script" not in script()
    assert "<!--" not in script()
    assert "innerHTML" not in script()
    assert script().isascii()


def test_data_of_nothing_finished(
    world: Any, infos: Any, make_experiment: Any, tmp_path: Path
) -> None:
    world.row("a", 30.0, 5.0, done=False)
    data = page_data(
        build_report(make_experiment(), world.plan, world.store, infos=infos), tmp_path
    )
    assert (data["metrics"], data["losses"], data["claims"]) == ([], [], [])
    json.loads(embedded(data))
