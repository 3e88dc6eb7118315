"""A first experiment: it plans, for every backbone and method that fit, and one of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillbench.api.registry import BACKBONES, METHODS
from distillbench.cli.main import app, run_command
from distillbench.experiment.load import load_experiment
from distillbench.experiment.starter import GUIDANCE

FITTING = [
    (backbone, method)
    for backbone in BACKBONES.names()
    for method in ("dmd2", "lcm", "sid", "tdm", "teacher", "tscd")
    if BACKBONES.get(backbone).modality != "video"
]


@pytest.mark.parametrize(("backbone", "method"), FITTING)
def test_it_plans_or_says_which_lines_to_mend(cli: Any, backbone: str, method: str) -> None:
    asked = cli("init", method, "--backbone", backbone, "-o", "new/first try.yaml")
    assert asked.code == 0 or "is written; mend these lines in it" in asked.err
    assert "Traceback" not in asked.err
    experiment = load_experiment(Path("new/first try.yaml"))
    assert experiment.name == "first-try"
    assert experiment.rows[-1]["method"] == method


def test_every_method_is_tried_on_the_exact_teacher(cli: Any) -> None:
    refused = {name for name in METHODS.names()
               if cli("init", name, "--backbone", "gmm", "-o", f"{name}.yaml").code}  # fmt: skip
    assert refused <= {"pretrained", "flow_map", "rcm"}


def test_all_settings_stand_beside_the_row_and_can_be_set(cli: Any) -> None:
    assert cli("init", "tdm", "lcm", "--backbone", "tiny-sd", "-o", "e2.yaml").code == 0
    text = Path("e2.yaml").read_text()
    for name in ("fake_lr", "solver_steps", "weights"):
        assert f"    #   {name}: " in text
    opened = text.replace("    # params:\n", "    params:\n").replace("    #   ", "      ")
    Path("e2.yaml").write_text(opened)
    before, after = cli("plan", "e2.yaml", "--json"), text
    Path("e2.yaml").write_text(after)
    assert before.code == 0, before.err
    stages = cli("plan", "e2.yaml", "--json").json["stages"]
    assert [s["key"] for s in before.json["stages"]] == [s["key"] for s in stages]


@pytest.mark.parametrize(
    ("backbone", "scale"),
    [("tiny-sd", 1.4), ("tiny-sdxl", 2.0), ("tiny-pixart", 2.0), ("tiny-sd3", 2.0)],
)
def test_a_small_teacher_is_guided_as_the_experiments_do(
    cli: Any, backbone: str, scale: float
) -> None:
    methods = ("tdm", "lcm", "dmd2", "sft")
    assert cli("init", *methods, "--backbone", backbone, "-o", "e2.yaml").code == 0
    rows = load_experiment(Path("e2.yaml")).rows
    assert [row["method"] for row in rows] == ["teacher", *methods]
    guided = [{k: v for k, v in row["params"].items() if k in GUIDANCE} for row in rows]
    assert [set(found.values()) for found in guided] == [{scale}] * 5
    assert f"# reference: {{method: teacher, nfe: 25, guidance_scale: {scale}}}" in (
        Path("e2.yaml").read_text()
    )


def test_other_backbones_are_guided_as_the_papers_do(cli: Any) -> None:
    assert cli("init", "tdm", "--backbone", "gmm", "-o", "e2.yaml").code == 0
    assert all(not row.get("params") for row in load_experiment(Path("e2.yaml")).rows)


def test_a_metric_that_is_left_out_says_why(cli: Any) -> None:
    assert cli("init", "lcm", "--backbone", "tiny-sd").code == 0
    text = Path("lcm.yaml").read_text()
    assert "# - fid: FID with 96-d features needs more than 96 samples, not 64" in text
    assert "needs samples" not in text


def test_it_runs(cli: Any) -> None:
    assert cli("init", "lcm", "--backbone", "gmm").code == 0
    quick = ["--set", "base.train.updates=2", "--workers", "1"]
    assert cli("run", "lcm.yaml", *quick).code == 0
    assert "| LCM | 4 |" in Path("results/lcm/scores.md").read_text()


@pytest.mark.parametrize(
    ("args", "text"),
    [(("tmd", "--backbone", "gmm"), "Did you mean 'tdm'"),
     (("tdm", "--backbone", "gm"), "Did you mean 'gmm'"),
     (("tdm", "--backbone", "gmm", "-o", "e.yaml"), "e.yaml: is there already"),
     (("pretrained", "--backbone", "tiny-sd"), "pretrained.yaml is written; mend"),
     (("lcm", "--backbone", "cogvideox"), "encodes no images")],
)  # fmt: skip
def test_what_cannot_be_written_is_said(cli: Any, args: tuple[str, ...], text: str) -> None:
    asked = cli("init", *args)
    assert asked.code == 2
    assert text in asked.err


def test_shells_complete_commands_options_and_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert app.registered_commands
    store = Path("results/store/train")
    (store / "abcdef").mkdir(parents=True)
    for words, number, wanted in (
        ("distillbench ini", 1, "init"),
        ("distillbench run --fail", 2, "--fail-fast"),
        ("distillbench list met", 2, "methods"),
        ("distillbench show ab", 2, "abcdef"),
    ):
        monkeypatch.setenv("_DISTILLBENCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        with pytest.raises(SystemExit):
            run_command([])
        assert wanted in capsys.readouterr().out.split()
