"""Whole reports: golden tables, the same bytes twice, LaTeX that compiles, figures and HTML."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from distillbench.errors import BadInput
from distillbench.report.console import claims_table, console_table, notes_text
from distillbench.report.record import Report
from distillbench.report.render import build_report, write_reports, write_tables

GOLDEN = Path(__file__).parents[1] / "golden"
MATCH = {
    **{name: name for name in ("Base Model (CFG = 3.5)", "TDM-unify-GAN", "DMD2", "Hyper-SD")},
    "LCM_50% & co": "LCM-dreamshaper",
}
TABLES = [
    {"name": "table_main", "caption": "Quality at 4 steps & more", "per_category": True,
     "published": "tdm_table1", "published_match": MATCH},
    {"name": "table_groups", "group_by": "nfe", "columns": ["hps", "hps_concept_art", "fid"]},
]  # fmt: skip
CLAIMS = [
    {"text": "TDM-unify-GAN > DMD2 on hps at nfe=4", "source": "TDM, table 1"},
    {"text": "Hyper-SD > DMD2 on hps"},
    {"text": "TDM-unify-GAN[nfe=4] <= 0.6 * 'LCM_50% & co' on fid"},
]
FIGURES = [
    {"name": "samples", "samples": 4},
    {"name": "curve", "kind": "curve", "y": "hps", "where": {"group": ["Teacher", "Matching"]}},
]


@pytest.fixture
def demo(world: Any, make_experiment: Any) -> Any:
    """An experiment whose last row failed, with everything a report can hold."""
    world.row("Base Model (CFG = 3.5)", 25.5, 3.0, nfe=25, ranked=False, group="Teacher")
    world.row("LCM_50% & co", 25.8, 20.0, seeds=(0, 1, 2), group="Consistency")
    world.row("TDM-unify-GAN", 30.8, 7.0, seeds=(0, 1, 2), group="Matching")
    world.row("DMD2", 30.4, 7.04, seeds=(0, 1, 2), group="Matching")
    world.row("TDM-unify-GAN", 28.5, 9.0, seeds=(0, 1, 2), nfe=1, group="Matching")
    world.row("Hyper-SD", 30.0, 5.0, done=False, group="Matching")
    world.store.problems[world.cells[-1].train] = "step 3, turn student: loss is NaN"
    world.store_fid("LCM_50% & co", [20.0, 21.5, 22.0])
    pixels = np.random.default_rng(0)
    for cell in world.cells:
        folder = world.store.path("sample", cell.sample)
        if folder.is_dir():
            images = pixels.integers(0, 256, (world.prompts, 8, 8, 3), dtype=np.uint8)
            for shard in range(2):
                part = images[shard * 4 : shard * 4 + 4]
                save_file({"samples": part}, folder / f"samples-{shard:05d}.safetensors")
    return make_experiment(title="Demo", tables=TABLES, claims=CLAIMS, figures=FIGURES)


def report(demo: Any, world: Any, infos: Any) -> Report:
    return build_report(demo, world.plan, world.store, infos=infos)


@pytest.mark.parametrize(
    "name", [f"{t['name']}{s}" for t in TABLES for s in (".tex", ".csv", ".md")]
)
def test_golden_tables(demo: Any, world: Any, infos: Any, tmp_path: Path, name: str) -> None:
    write_tables(report(demo, world, infos), tmp_path)
    written, golden = tmp_path / name, GOLDEN / f"report_{name}"
    if os.environ.get("DISTILLBENCH_UPDATE_GOLDEN"):
        golden.write_bytes(written.read_bytes())
    assert written.read_text(encoding="utf-8") == golden.read_text(encoding="utf-8")


def test_files_are_the_same_bytes_wherever_they_are_written(
    demo: Any, world: Any, infos: Any, tmp_path: Path
) -> None:
    first = write_reports(report(demo, world, infos), tmp_path / "a")
    second = write_reports(report(demo, world, infos), tmp_path / "b" / "c")
    assert [p.name for p in first] == [p.name for p in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
        assert str(tmp_path).encode() not in one.read_bytes()
    names = {p.relative_to(tmp_path / "a").as_posix() for p in first}
    assert {
        "table_main.tex", "table_main.body.tex", "table_main.json", "cost.tex", "cost.json",
        "claims.csv", "claims.md", "claims.json", "plan.json", "report.html",
        "figures/samples.png", "figures/curve.png", "figures/curve.pdf",
    } <= names  # fmt: skip


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not on PATH")
def test_latex_compiles_alone_and_by_input(
    demo: Any, world: Any, infos: Any, tmp_path: Path
) -> None:
    nasty = '\\textbf{[x]} 100% & $#_{}~^ \u03b1\u4e2d "<|>" *'
    world.row(nasty, 30.1, 7.0, group=nasty)
    tables = [{**TABLES[0], "name": "table_main", "caption": nasty}, *TABLES[1:]]
    shown = demo.model_validate({**demo.model_dump(), "tables": tables})
    write_tables(report(shown, world, infos), tmp_path)
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx,xcolor}\\begin{document}"
        "\\input{table_main.body.tex}\\input{cost.body.tex}Table~\\ref{tab:table-main}"
        "\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error"]
    for name in ("table_main", "table_groups", "cost", "paper"):
        done = subprocess.run([*command, f"{name}.tex"], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 1000


def test_json_holds_every_cell_with_its_runs(
    demo: Any, world: Any, infos: Any, tmp_path: Path
) -> None:
    write_tables(report(demo, world, infos), tmp_path)
    table = json.loads((tmp_path / "table_main.json").read_text())
    cell = table["rows"][2]["cells"]["hps"]
    assert (cell["n"], cell["stderr_over"], cell["rank"]) == (24, "prompts+seeds", 1)
    assert cell["value"] == pytest.approx(30.8, abs=0.5)
    assert [run["seed"] for run in cell["runs"]] == [0, 1, 2]
    assert cell["runs"][0]["score"] == world.plan.cells[4].scores["hps"]
    lost = table["rows"][5]["cells"]["fid"]
    assert (lost["value"], lost["footnotes"]) == (None, ["b"])
    rows = list(csv.DictReader((tmp_path / "table_main.csv").open()))
    assert float(rows[2]["hps"]) == cell["value"]
    assert (rows[5]["fid"], rows[5]["fid_n"]) == ("", "0")


def test_costs_stand_in_their_own_table(demo: Any, world: Any, infos: Any, tmp_path: Path) -> None:
    found = report(demo, world, infos)
    keys = [column.key for column in found.cost.columns]
    shown = dict(zip(keys, (cell.value for cell in found.cost.lines[1].cells), strict=True))
    assert shown["train_seconds"] == 12.5
    assert shown["device_hours"] == pytest.approx(12.5 / 3600)
    assert (shown["student_nfe"], shown["teacher_nfe"], shown["other_nfe"]) == (200, 300, 50)
    assert (shown["peak_memory_mib"], shown["device"]) == (256, "cpu")
    assert shown["sample_ms"] == pytest.approx(12500 / 8)
    assert found.cost.lines[-1].cells[4].text == "--"
    write_tables(found, tmp_path)
    for name in ("table_main", "table_groups"):
        assert "12.5" not in (tmp_path / f"{name}.csv").read_text()


def test_claims_are_written_with_their_numbers(
    demo: Any, world: Any, infos: Any, tmp_path: Path
) -> None:
    write_tables(report(demo, world, infos), tmp_path)
    rows = list(csv.DictReader((tmp_path / "claims.csv").open()))
    assert [row["verdict"] for row in rows] == ["holds", "undecided", "holds"]
    assert "loss is NaN" in rows[1]["reason"]
    assert float(rows[0]["low"]) <= float(rows[0]["difference"]) <= float(rows[0]["high"])
    text = (tmp_path / "claims.md").read_text()
    assert "| TDM-unify-GAN > DMD2 on hps at nfe=4 | **holds** |" in text
    assert "| TDM, table 1 |" in text


def test_no_file_passes_a_tiny_score_off_as_a_published_one(
    demo: Any, world: Any, infos: Any, tmp_path: Path
) -> None:
    tiny = {**infos, "hps": replace(infos["hps"], label="HPS (tiny)")}
    write_tables(report(demo, world, tiny), tmp_path)
    heads = (tmp_path / "table_main.csv").read_text().splitlines()[0].split(",")
    ours = {h for h in heads if h.startswith("hps") and not h.endswith("_paper")}
    assert {"hps_tiny", "hps_tiny_stderr", "hps_tiny_n", "hps_animation_tiny"} <= ours
    assert all("_tiny" in head for head in ours)
    assert {"fid", "fid_stderr", "fid_n"} <= set(heads)
    assert "hps is HPS (tiny)" in (tmp_path / "claims.md").read_text()
    rows = list(csv.DictReader((tmp_path / "claims.csv").open()))
    assert {row["label"] for row in rows if row["metric"] == "hps"} == {"HPS (tiny)"}


def test_a_refused_table_leaves_no_file_and_stops_nothing_else(
    demo: Any, world: Any, infos: Any, tmp_path: Path
) -> None:
    write_tables(report(demo, world, infos), tmp_path)
    world.row("other", 30.0, 5.0, protocol={"n": 99}, group="Matching", nfe=2)
    narrow = [TABLES[0], {**TABLES[1], "where": {"nfe": 4}}]
    shown = demo.model_validate({**demo.model_dump(), "tables": narrow})
    made = report(shown, world, infos)
    write_reports(made, tmp_path)
    with pytest.raises(BadInput, match="n: 8 against 99") as error:
        made.check()
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["table_main", "curve"]
    assert not list(tmp_path.glob("table_main*"))
    assert not list(tmp_path.glob("figures/curve*"))
    assert "n: 8 against 99" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "table_groups.tex").exists()


def test_html_is_one_file_with_everything(
    demo: Any, world: Any, infos: Any, tmp_path: Path
) -> None:
    write_reports(report(demo, world, infos), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 2  # the figures
    assert page.count('"src":"data:image/png;base64,') == 5 * 8  # samples of the finished rows
    for outside in ("http://", "https://", "<script src", "<link", 'src="figures', "url(h"):
        assert outside not in page
    assert page.count("<script") == 2  # its data and its own script
    assert "LCM_50% &amp; co" in page
    assert "loss is NaN" in page
    assert '<span class="verdict holds">holds</span>' in page


def test_nothing_finished_still_makes_a_report(
    world: Any, make_experiment: Any, infos: Any, tmp_path: Path
) -> None:
    world.row("a", 30.0, 5.0, done=False)
    experiment = make_experiment(claims=["a > a on hps"], figures=FIGURES)
    paths = write_reports(report(experiment, world, infos), tmp_path)
    assert all(path.stat().st_size for path in paths)
    assert "| a | 4 | -- (a) | -- (a) |" in (tmp_path / "results.md").read_text()


def test_the_terminal_shows_tables_and_verdicts(demo: Any, world: Any, infos: Any) -> None:
    from rich.console import Console

    found = report(demo, world, infos)
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(console_table(found.tables[0]), notes_text(found.tables[0]))
    console.print(claims_table(found.verdicts, infos))
    text = console.export_text()
    for part in ("TDM-unify-GAN", "b: train stage", "holds", "undecided"):
        assert part in text


def test_tables_need_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import distillbench.report.render, distillbench.report.console;"
        "from distillbench.analysis.claims import parse_claim;"
        "heavy = {'torch', 'matplotlib', 'numpy', 'pandas'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
