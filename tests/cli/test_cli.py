"""Every subcommand that needs no network, its output, its errors and its exit code."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from distillbench.cli.main import app
from distillbench.errors import DistillbenchError, StageFailed
from distillbench.plan.stage import Plan
from distillbench.run.options import Outcome, RunOptions
from distillbench.store.layout import Store

Cli = Callable[..., Any]


def commands() -> dict[str, Any]:
    root: Any = typer.main.get_command(app)
    found = dict(root.commands)
    group = found.pop("env")
    return {**found, **{f"env {name}": c for name, c in group.commands.items()}}


def test_every_command_has_json_and_examples_that_parse() -> None:
    root = typer.main.get_command(app)
    for name, command in commands().items():
        options = {o for p in command.params for o in p.opts}
        assert "--json" in options, name
        assert command.epilog, name
        lines = [line.strip() for line in command.epilog.splitlines()[2:]]
        assert any(line.startswith(f"distillbench {name} ") or line == f"distillbench {name}"
                   for line in lines), name  # fmt: skip
        for line in lines:
            _parse(root, line)


def _parse(root: Any, line: str) -> None:
    """Parse an example as a shell would hand it over, without running it."""
    import shlex

    words = shlex.split(line)
    assert words[0] == "distillbench"
    command, args = root, words[1:]
    while hasattr(command, "commands"):
        command, args = command.commands[args[0]], args[1:]
    command.make_context("x", args, resilient_parsing=False)


def test_the_design_s_options_of_run_are_there() -> None:
    options = {o for p in commands()["run"].params for o in p.opts}
    assert options >= {
        "--profile", "--runner", "--address", "--gpus", "--workers", "--results", "--set", "--only",
        "--fail-fast", "--retry-failed", "-n", "--dry-run", "--plugin", "--json",
    }  # fmt: skip


def test_help_and_version(cli: Cli) -> None:
    assert "Usage: distillbench" in cli("-h").out
    answer = cli("run", "--help")
    assert answer.code == 0
    assert "    distillbench run experiments/smoke.yaml\n" in answer.out
    assert cli("--version").out.startswith("distillbench ")


def test_plan_shows_rows_and_totals(cli: Cli) -> None:
    answer = cli("plan", "e.yaml", fakes=True)
    assert answer.code == 0
    assert answer.out == (
        "row           backbone  nfe  seeds  train  sample  score\n"
        "FS            b         4    0      1 new  1 new   1 new\n"
        "FS            b         2    0      1 new  1 new   1 new\n"
        "Fake teacher  b         4    0      1 new  1 new   1 new\n"
        "\n"
        "t: 8 stages (8 new)\n"
    )


def test_plan_as_json_with_profile_set_and_only(cli: Cli) -> None:
    answer = cli("plan", "e.yaml", "--profile", "paper", "--set", "seeds=[5]", "--only",
                 "method=fake-student nfe=2", "--json", fakes=True)  # fmt: skip
    plan = answer.json
    assert plan["name"] == "t-paper"
    assert [stage["kind"] for stage in plan["stages"]] == ["train", "sample", "score"]
    assert {stage["state"] for stage in plan["stages"]} == {"new"}
    assert plan["stages"][0]["spec"]["train"]["updates"] == 900
    assert [(cell["nfe"], cell["seed"]) for cell in plan["cells"]] == [(2, 5)]


def test_validate_checks_every_profile(cli: Cli) -> None:
    answer = cli("validate", "e.yaml", fakes=True)
    assert answer.code == 0
    assert answer.out == (
        "e.yaml (profile tiny): ok, 3 rows, 8 stages\n"
        "e.yaml (profile paper): ok, 3 rows, 8 stages\n"
    )


def test_a_shipped_experiment_outside_a_checkout_is_no_dead_end(cli: Cli) -> None:
    answer = cli("run", "experiments/quickstart.yaml")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "experiments/quickstart.yaml: no such file; the shipped experiments" in answer.err
    assert "distillbench init METHOD" in answer.err


def test_validate_tells_errors_and_goes_on(cli: Cli) -> None:
    Path("bad.yaml").write_text("name: b\nrows: [{metod: x}]\n")
    Path("worse.yaml").write_text("[1")
    answer = cli("validate", "bad.yaml", "e.yaml", "worse.yaml", "none.yaml", fakes=True)
    assert answer.code == 2
    assert "bad.yaml:2:9: rows[0].metod: unknown key." in answer.err
    assert "worse.yaml:1:3: not valid YAML" in answer.err
    assert "none.yaml: no such file." in answer.err
    assert "e.yaml (profile tiny): ok" in answer.out
    results = cli("validate", "bad.yaml", "e.yaml", "--json", fakes=True).json
    assert [len(result["errors"]) for result in results] == [1, 0, 0]


@pytest.mark.parametrize("kind", ["methods", "metrics", "backbones"])
def test_list_plugins(cli: Cli, kind: str) -> None:
    answer = cli("list", kind, fakes=True)
    assert answer.code == 0
    assert "fake-" in answer.out
    rows = cli("list", kind, "--json", fakes=True).json
    assert all(row["name"] and row["from"] for row in rows)


def test_list_experiments_and_runs(cli: Cli) -> None:
    assert cli("list", "runs").out == "no runs\n"
    Path("experiments").mkdir()
    Path("experiments/a.yaml").write_text("name: a\ntitle: Alpha\nprofiles: {tiny: {}}\n")
    Path("experiments/b.yaml").write_text("[")
    rows = cli("list", "experiments", "--json").json
    assert rows[0] == {"file": "experiments/a.yaml", "profiles": "tiny", "title": "Alpha"}
    assert "not valid YAML" in rows[1]["title"]
    store = _stored("abc123", {"method": {"name": "m"}, "backbone": {"name": "b"}, "seed": 3})
    rows = cli("list", "runs", "--json").json
    assert rows[0].pop("bytes") > 0
    assert rows[0].pop("age_s") >= 0
    assert rows == [{"run": "abc123", "state": "done", "label": "", "experiment": "", "method": "m",
                     "backbone": "b", "updates": "", "stop": "", "seed": 3, "differs": "",
                     "detail": ""}]  # fmt: skip
    store.begin("train", "def456")
    assert [row["state"] for row in cli("list", "runs", "--json").json] == ["done", "unfinished"]


def _stored(
    key: str, spec: dict[str, Any], kind: str = "train", *, recipe: dict[str, Any] | None = None
) -> Store:
    store = Store("results/store")
    tmp = store.begin(kind, key)
    (tmp / "spec.json").write_text(json.dumps({"spec": spec}))
    (tmp / "cost.json").write_text('{"seconds": 1.5}')
    if recipe is not None:
        (tmp / "recipe.json").write_text(json.dumps(recipe))
    store.commit(tmp, kind, key)
    return store


def test_show_by_the_beginning_of_a_key(cli: Cli) -> None:
    _stored("abc123", {"seed": 3, "train": {"updates": 7}})
    out = cli("show", "abc").out
    assert "state   done" in out
    assert "  train.updates: 7\n" in out
    assert "  seconds: 1.5\n" in out
    found = cli("show", "abc123", "--json").json
    assert found["spec"] == {"seed": 3, "train": {"updates": 7}}
    assert set(found["files"]) == {"spec.json", "cost.json", "done.json"}


def test_show_what_is_not_there_or_not_one(cli: Cli) -> None:
    _stored("abc123", {})
    _stored("abc456", {}, "score")
    answer = cli("show", "abc")
    assert answer.code == 2
    assert answer.err == (
        "error: abc: means 2 stages: abc123 (train), abc456 (score); give more digits\n"
    )
    assert "no stage with that key" in cli("show", "fff").err
    assert cli("sample", "abc456", "--prompt", "x", "-o", "o").code == 2
    assert "not the folder of a finished training" in cli("export", "./x", "-o", "o").err


@pytest.mark.parametrize("checkpoint", ["bbb222", "results/store/train/bbb222"])
def test_the_teachers_bytes_are_checked_too(cli: Cli, checkpoint: str) -> None:
    for key, teacher in (("aaa111", None), ("bbb222", "aaa111")):
        _stored(key, {}, recipe={"teacher": teacher})
    cost = Path("results/store/train/aaa111/cost.json")
    cost.write_text(cost.read_text().replace("1.5", "1.6"))
    answer = cli("sample", checkpoint, "--prompt", "x", "-o", "o")
    assert "aaa111/cost.json: altered" in answer.err


def test_errors_are_lines_not_tracebacks(cli: Cli) -> None:
    answer = cli("plan", "e.yaml", "--set", "base.train.setps=1", fakes=True)
    assert answer.code == 2
    assert answer.err.startswith("error: --set base.train.setps=1: base.train.setps: unknown key.")
    assert answer.err.count("\n") == 1
    answer = cli("plan", "e.yml")
    assert answer.err == "error: e.yml: no such file. Did you mean 'e.yaml'?\n"
    answer = cli("plan", "e.yaml", "--plugin", "no_such_module_here")
    assert answer.code == 2
    assert "--plugin no_such_module_here: cannot be imported" in answer.err


def test_errors_as_json(cli: Cli) -> None:
    answer = cli("plan", "e.yaml", "--json", "--profile", "x", fakes=True)
    assert answer.code == 2
    assert answer.json == {
        "ok": False, "exit_code": 2,
        "errors": ["e.yaml: --profile x: unknown profile; the file has: tiny, paper."],
    }  # fmt: skip


def test_wrong_usage_is_bad_input(cli: Cli) -> None:
    for args in (["plan"], ["nonsense"], ["run", "e.yaml", "--gpus", "-1"], ["list", "thing"]):
        answer = cli(*args)
        assert answer.code == 2, args
        assert "Traceback" not in answer.err


# ---- run ------------------------------------------------------------------------------------


def _execute(monkeypatch: pytest.MonkeyPatch, result: Outcome | BaseException) -> dict[str, Any]:
    """Replace the driver; returns what it was called with."""
    seen: dict[str, Any] = {}

    def execute(plan: Plan, store: Store, options: RunOptions, *, progress: Any) -> Outcome:
        seen.update(plan=plan, store=store, options=options, progress=progress)
        progress.close()
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr("distillbench.run.driver.execute", execute)
    return seen


def test_run_hands_its_options_over(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _execute(monkeypatch, Outcome())
    answer = cli("run", "e.yaml", "--runner", "ray", "--address", "auto", "--gpus", "2",
                 "--workers", "3", "--fail-fast", "--retry-failed", "--results", "there", "--only",
                 "method=fake-teacher", "--json", fakes=True)  # fmt: skip
    assert answer.code == 0
    options = seen["options"]
    assert (options.runner, options.address, options.gpus, options.workers) == ("ray", "auto", 2, 3)
    assert options.fail_fast
    assert options.retry_failed
    assert seen["store"].root == Path("there/store")
    assert {cell.method for cell in seen["plan"].cells} == {"fake-teacher"}
    # The report is of all rows, whatever part was run.
    assert len(answer.json["tables"][0]["lines"]) == 3
    assert Path("there/t/report.html").is_file()


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(), 0),
        (Outcome(failed={"k": "loss is NaN"}), 1),
        (Outcome(interrupted=True), 130),
        (StageFailed("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_of_run(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, outcome: Outcome | BaseException, code: int
) -> None:
    _execute(monkeypatch, outcome)
    assert cli("run", "e.yaml", fakes=True).code == code


def test_a_run_says_what_its_plan_notes(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _execute(monkeypatch, Outcome())
    twice = "rows=[{method: fake-teacher, nfe: 4}, {method: fake-teacher, nfe: 4}]"
    planned = cli("plan", "e.yaml", "--set", twice, fakes=True).out
    assert "rows[1]: Fake teacher is Fake teacher again; dropped" in planned
    said = cli("run", "e.yaml", "--set", twice, fakes=True).out
    assert "rows[1]: Fake teacher is Fake teacher again; dropped" in said


def test_a_dry_run_runs_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _execute(monkeypatch, AssertionError("must not run"))
    answer = cli("run", "e.yaml", "-n", fakes=True)
    assert answer.code == 0
    assert "t: 8 stages (8 new)" in answer.out
    assert not Path("results").exists()


def test_a_defect_leaves_one_line_and_a_log(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _execute(monkeypatch, ZeroDivisionError("division\nby zero"))
    answer = cli("run", "e.yaml", fakes=True)
    assert answer.code == 1
    last = answer.err.splitlines()[-1]
    assert last.startswith("internal error: ZeroDivisionError: division by zero (traceback in ")
    log = Path(last.rpartition(" ")[2].rstrip(")"))
    assert "Traceback (most recent call last)" in log.read_text()
    log.unlink()


def test_every_error_class_has_a_documented_exit_code() -> None:
    kinds = [DistillbenchError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert kind.exit_code in (1, 2, 130)


def test_tables_and_reports_of_unfinished_runs(cli: Cli) -> None:
    answer = cli("table", "e.yaml", fakes=True)
    assert answer.code == 0
    assert Path("results/t/results.tex").is_file()
    assert not Path("results/t/report.html").exists()
    assert "older" not in answer.out
    files = cli("report", "e.yaml", "--json", fakes=True).json["files"]
    assert "results/t/report.html" in files
    assert "report.html there are older: --report" in cli("table", "e.yaml", fakes=True).out
    assert "older" not in cli("table", "e.yaml", "--report", fakes=True).out


# ---- env and doctor -------------------------------------------------------------------------


def test_env_lists_and_shows_its_commands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", "data")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert [row["name"] for row in cli("env", "list", "--json").json] == [
        "hpsv2", "image-reward", "vbench",
    ]  # fmt: skip
    out = cli("env", "create", "image-reward", "-n").out
    assert "-m venv data/envs/image-reward" in out
    assert "transformers>=4.40,<4.56" in out
    assert "setuptools<81" in out
    monkeypatch.setattr("shutil.which", lambda name: "/bin/uv")
    steps = cli("env", "create", "hpsv2", "-n", "--json").json
    assert [step[:2] for step in steps[:3]] == [["uv", "venv"], ["uv", "pip"], ["uv", "pip"]]
    assert "--no-deps" in steps[2]
    answer = cli("env", "create", "hpsv3")
    assert answer.code == 2
    assert "Did you mean 'hpsv2'?" in answer.err


def steps(monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    """An environment of shell commands in place of an installation."""
    from distillbench.score import envs

    def commands(name: str, folder: Path) -> list[list[str]]:
        make = f"mkdir -p {folder}/bin; echo {shlex.quote(last)} > {folder}/bin/python; echo made"
        return [["sh", "-c", make], ["sh", "-c", last]]

    monkeypatch.setenv("DISTILLBENCH_DATA", "data")
    monkeypatch.setattr(envs, "commands", commands)


def test_a_failed_environment_leaves_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(monkeypatch, "echo no network; echo sorry >&2; exit 1")
    answer = cli("env", "create", "vbench")
    assert answer.code == 1
    assert answer.err.endswith(": sorry\n")
    assert "\n  made\n" in answer.err  # what a step prints is shown as it comes
    assert list(Path("data/envs").iterdir()) == []


def test_an_environment_stays_until_the_new_one_imports(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(monkeypatch, "true")
    assert cli("env", "create", "vbench").code == 0
    python = Path("data/envs/vbench/bin/python")
    assert python.read_text() == "true\n"
    steps(monkeypatch, "exit 3")
    assert cli("env", "create", "vbench").code == 1
    assert python.read_text() == "true\n"
    steps(monkeypatch, "exit 0")
    assert cli("env", "create", "vbench").code == 0
    assert python.read_text() == "exit 0\n"


def test_a_killed_creation_is_no_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", "data")
    python = Path("data/envs/vbench/bin/python")
    python.parent.mkdir(parents=True)
    python.write_text("half")
    assert not any(row["created"] for row in cli("env", "list", "--json").json)


def test_doctor_examines_and_names_the_fix(cli: Cli) -> None:
    findings = cli("doctor", "--json").json
    assert {finding["state"] for finding in findings} <= {"ok", "warn", "fail"}
    assert all(finding["fix"] for finding in findings if finding["state"] != "ok")
    text = " ".join(finding["what"] for finding in findings)
    for part in ("Python 3", "torch 2", "methods: ", "weights gmm-warmstart are intact",
                 "results go", "ray ", "LaTeX", "environment vbench"):  # fmt: skip
        assert part in text


def test_doctor_fails_on_what_cannot_be_written(cli: Cli) -> None:
    from distillbench.cli import doctor

    def broken() -> Any:
        raise RuntimeError("boom")
        yield

    assert [f.state for f in doctor._results(Path("new/results"))] in (["ok"], ["warn"])
    original = doctor._python
    doctor._python = broken
    try:
        first = next(doctor.examine(Path("results")))
    finally:
        doctor._python = original
    assert (first.state, first.what) == ("fail", "broken: RuntimeError: boom")


def test_list_shows_one_plugin_with_its_parameters(cli: Cli) -> None:
    answer = cli("list", "methods", "tdm")
    assert answer.code == 0
    assert "title     TDM\n" in answer.out
    assert re.search(r"\nteacher_guidance +float, >= 1", answer.out)
    assert "lora | copy" in answer.out
    found = cli("list", "metrics", "fid", "--json").json
    assert {"param": "blocks", "type": "int, >= 0", "default": 10} in found["params"]
    assert cli("list", "metrics", "fid").out.count("\n    blocks: of the jackknife") == 1
    assert cli("list", "methods", "tdn").err.endswith("Did you mean 'tdm'?\n")
    assert cli("list", "runs", "x").code == 2
