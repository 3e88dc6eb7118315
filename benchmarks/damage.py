"""Damage every file of a finished store and of a half-trained checkpoint, and look what is said.

    python benchmarks/damage.py [--seed 0] [--cases N] [--cli 3]

A small experiment on the exact Gaussian mixture is run once. Then, for every file of every stage of
its store and for every way of damaging it (a bit, a digit, the last byte; cut by a byte, cut by
half; emptied; deleted), one at a time:

1. found      the store, `plan` and a run name the file; the run ends with exit code 1;
2. not printed   no cell of a table or of the cost table shows a number of that stage;
3. resumed    `--retry-failed` redoes that stage, keeps the damaged files beside it, and the tables
              and every result are the undisturbed ones byte for byte.

For a training that was stopped half way, every file of its newest checkpoint is damaged in the same
ways, alone and together with the checkpoint before it: the training says which file it passed over,
and ends with the undisturbed student.

Stages run in this process (the driver, the store and the stages are the ones of every run); `--cli`
cases of the first kind are taken through the command line as well. The record is printed as JSON;
the exit code is 0 when everything held. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from compare import leftovers, reproducible
from inprocess import InProcess
from ways import DAMAGES, damage

from distillbench.analysis.check import checked_plan
from distillbench.experiment.load import load_experiment
from distillbench.plan.stage import Plan, Stage
from distillbench.plan.status import plan_status
from distillbench.report.record import Report
from distillbench.report.render import build_report, write_tables
from distillbench.report.table import MISSING, Table
from distillbench.run.driver import execute
from distillbench.run.options import Outcome, RunOptions
from distillbench.run.progress import ProgressLog
from distillbench.run.worker import run_stage
from distillbench.store.layout import Store

EXPERIMENT = """\
name: damaged
title: Results that a disk altered
backbones: {gmm: {use: gmm}}
base: {backbone: gmm, train: {batch_size: 16, updates: 12}, sample: {n: 32, batch_size: 32}}
rows:
  - {label: DDIM, method: teacher, params: {guidance_scale: 1.0}, nfe: 4}
  - {label: LCM, method: lcm, params: {teacher_guidance: 1.0, nets: copy, lr: 1e-3}, nfe: 4}
metrics: [sw]
tables:
  - {name: damaged, columns: [label, nfe, sw]}
"""
STOP_AFTER, SAVE_EVERY = 8, 4


@dataclass
class Bench:
    """A finished experiment, and what was seen of it while it was damaged."""

    work: Path
    chance: random.Random
    cases: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file = self.work / "damaged.yaml"
        self.file.write_text(EXPERIMENT, encoding="utf-8")
        self.experiment = load_experiment(self.file)
        self.plan: Plan = checked_plan(self.experiment)
        self.results = self.work / "results"
        self.store = Store(self.results / "store")

    # ---- running --------------------------------------------------------------------------

    def run(self, **options: Any) -> tuple[Outcome, str]:
        """Run the experiment in this process; what it showed comes with the outcome."""
        shown = io.StringIO()
        progress = ProgressLog(self.results / self.plan.name / "log.txt", stream=shown)

        def start(plan: Plan, store: Store, options: RunOptions, *, run: str) -> InProcess:
            return InProcess(store, run)

        asked = RunOptions(gpus=0, **options)
        with patch("distillbench.run.driver.open_executor", start):
            outcome = execute(self.plan, self.store, asked, progress=progress)
        return outcome, shown.getvalue()

    def report(self) -> Report:
        """The tables as they are now."""
        return build_report(self.experiment, self.plan, self.store)

    def contents(self) -> dict[str, bytes]:
        """Tables written anew, and every result."""
        write_tables(self.report(), self.results / self.plan.name)
        return reproducible(self.results)

    def check(self, holds: bool, case: str, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(f"{case}: {what}")

    # ---- a finished store -----------------------------------------------------------------

    def store_cases(self) -> Iterator[tuple[Stage, Path, str]]:
        """Every file of every stage with every damage."""
        for key, stage in self.plan.stages.items():
            folder = self.store.path(stage.kind, key)
            names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
            yield from ((stage, folder / name, how) for name in names for how in DAMAGES)

    def damage_store(self, stage: Stage, path: Path, how: str, *, cli: bool = False) -> None:
        """One case of a finished store."""
        case = f"{stage.kind} {stage.key[:8]} {path.name} {how}"
        before = self.contents()
        damage(path, how, self.chance)
        self._found(stage, path, case)
        self._not_printed(stage, path, case)
        if cli:
            self._through_the_command_line(stage, path, case)
        outcome, _ = self.run(retry_failed=True)
        self.check(outcome.exit_code == 0, case, f"--retry-failed gives {outcome.exit_code}")
        self.check(outcome.ran == [stage.key] or cli, case, f"redone: {outcome.ran}")
        aside = leftovers(self.store.root)
        kept = [name for name in aside if f"{stage.key}.bad-" in name]
        self.check(len(kept) == 1 == len(aside), case, f"beside the stages lie {aside}")
        for name in kept:
            shutil.rmtree(name)
        after = self.contents()
        differ = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
        self.check(not differ, case, f"differ afterwards: {differ}")
        self.cases[f"store, {how}"] += 1

    def _found(self, stage: Stage, path: Path, case: str) -> None:
        problem = self.store.problem(stage.kind, stage.key) or ""
        self.check(str(path) in problem, case, f"the store says {problem!r}")
        status = plan_status(self.plan, self.store)[stage.key]
        named = status.state == "failed" and str(path) in status.reason
        self.check(named, case, f"plan says {status}")
        outcome, shown = self.run()
        found = str(path) in outcome.failed.get(stage.key, "") and str(path) in shown
        self.check(found and not outcome.ran, case, f"a run says {outcome}")
        self.check(outcome.exit_code == 1, case, f"a run gives {outcome.exit_code}")

    def _not_printed(self, stage: Stage, path: Path, case: str) -> None:
        report = self.report()
        notes = [text for table in (*report.tables, report.cost) for _, text in table.footnotes]
        named = any(path.name in note for note in notes)
        self.check(named, case, f"no footnote names the file: {notes}")
        printed = list(numbers_of(report, stage))
        self.check(bool(printed), case, "no cell shows the stage")
        self.check(set(printed) <= {MISSING}, case, f"printed: {printed}")

    def _through_the_command_line(self, stage: Stage, path: Path, case: str) -> None:
        for words, code in (
            (["plan", str(self.file)], 0),
            (["table", str(self.file)], 0),
            (["show", stage.key], 0),
            (["run", str(self.file)], 1),
            (["run", str(self.file), "--retry-failed"], 0),
        ):
            command = [sys.executable, "-m", "distillbench.cli.main", *words]
            command += ["--results", str(self.results)]
            done = subprocess.run(command, capture_output=True, text=True)
            text = " ".join((done.stdout + done.stderr).split())
            self.check(done.returncode == code, case, f"{words[0]} gives {done.returncode}: {text}")
            self.check(path.name in text or "--retry-failed" in words, case, f"{words[0]}: {text}")
        self.cases["through the command line"] += 1
        folder = self.store.path(stage.kind, stage.key)
        shutil.rmtree(folder.with_name(f"{stage.key}.bad-1"))
        damage(path, "emptied", self.chance)  # for the driver in this process to redo

    # ---- a half-trained checkpoint ----------------------------------------------------------

    def half_train(self) -> tuple[Store, Stage, Path]:
        """Stop a training half way; its store, its stage and a copy of its checkpoints."""
        trains = [s for s in self.plan.stages.values() if s.kind == "train"]
        stage = next(s for s in trains if s.spec["method"]["name"] == "lcm")
        stage = replace(stage, runtime={**stage.runtime, "save_every": SAVE_EVERY})
        store = Store(self.work / "half")
        store.prepare()
        asked = iter(range(10**6))
        result = run_stage(
            stage, store_root=store.root, should_stop=lambda: next(asked) >= STOP_AFTER + 1
        )
        assert result.status == "stopped", result
        copy = self.work / "checkpoints"
        shutil.copytree(store.checkpoints("train", stage.key), copy)
        return store, stage, copy

    def checkpoint_cases(self, copy: Path) -> Iterator[tuple[list[Path], str]]:
        """Every file of the newest checkpoint, alone and with one of the checkpoint before it."""
        older, newest = sorted(copy.glob("step-*"))
        for how in DAMAGES:
            yield [Path("attempts.jsonl")], how
            for path in sorted(newest.iterdir()):
                other = self.chance.choice(sorted(older.iterdir()))
                yield [path.relative_to(copy)], how
                yield [path.relative_to(copy), other.relative_to(copy)], how

    def damage_checkpoint(
        self, store: Store, stage: Stage, copy: Path, names: list[Path], how: str
    ) -> None:
        """One case of a half-trained checkpoint."""
        case = f"checkpoint {', '.join(map(str, names))} {how}"
        folder = store.checkpoints("train", stage.key)
        shutil.rmtree(store.path("train", stage.key), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(copy, folder)
        for name in names:
            damage(folder / name, how, self.chance)
        result = run_stage(stage, store_root=store.root)
        self.check(result.status == "done", case, f"{result}")
        said = " ".join(result.notes)
        for name in names:
            self.check(str(name) in said, case, f"nothing is said of {name}: {said!r}")
        log = store.path("train", stage.key) / "log.txt"
        self.check(all(note in log.read_text() for note in result.notes), case, "not in log.txt")
        students = [s.path("train", stage.key) / "student.safetensors" for s in (self.store, store)]
        same = students[0].read_bytes() == students[1].read_bytes()
        self.check(same, case, "another student")
        self.cases[f"checkpoint, {how}"] += 1


def numbers_of(report: Report, stage: Stage) -> Iterator[str]:
    """What the cells show that come from a stage's own files."""
    if stage.kind == "score":
        for table in report.tables:
            yield from _texts(table, "score", stage.key, lambda span: True)
    else:
        own = {"train": lambda span: span != "Sampling", "sample": lambda span: span == "Sampling"}
        yield from _texts(report.cost, stage.kind, stage.key, own[stage.kind])


def _texts(table: Table, kind: str, key: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    for line in table.lines:
        for column, cell in zip(table.columns, line.cells):
            mine = any(getattr(run, kind) == key for run in cell.runs)
            if mine and column.kind == "number" and wanted(column.span):
                yield cell.text


def main() -> int:
    """Run the cases, print their record as JSON; 0 when everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, help="take so many of each kind, drawn by the seed")
    parser.add_argument("--cli", type=int, default=3, help="cases through the command line as well")
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="distillbench-damage-") as folder:
        bench = damage_all(Path(folder), seed=asked.seed, cases=asked.cases, cli=asked.cli)
    record = {
        "seed": asked.seed,
        "cases": sum(bench.cases.values()),
        "by_kind": dict(bench.cases),
        "wrong": bench.wrong,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(record, indent=1))
    return int(bool(bench.wrong))


def damage_all(work: Path, *, seed: int, cases: int | None, cli: int) -> Bench:
    """Run the experiment, then every case (or `cases` of each kind, drawn by the seed)."""
    bench = Bench(work, random.Random(seed))
    outcome, shown = bench.run()
    assert outcome.exit_code == 0, shown
    taken = list(bench.store_cases())
    taken = bench.chance.sample(taken, cases) if cases else taken
    through = set(bench.chance.sample(range(len(taken)), min(cli, len(taken))))
    for number, (stage, path, how) in enumerate(taken):
        bench.damage_store(stage, path, how, cli=number in through)
    store, stage, copy = bench.half_train()
    halves = list(bench.checkpoint_cases(copy))
    for names, how in bench.chance.sample(halves, cases) if cases else halves:
        bench.damage_checkpoint(store, stage, copy, names, how)
    return bench


if __name__ == "__main__":
    sys.exit(main())
