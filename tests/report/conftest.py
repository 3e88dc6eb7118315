"""A small made-up grid: a plan, and a store with the files that finished stages leave."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from distillbench.api.metric import MetricInfo
from distillbench.experiment.schema import Experiment
from distillbench.plan.stage import Cell, Plan, Stage
from distillbench.testing.specs import sample_spec, score_spec, train_spec

CATEGORIES = ("animation", "concept-art")
INFOS = {
    "hps": MetricInfo("HPS v2.1", True, per_category=True),
    "fid": MetricInfo("FID", False, ".1f", per_sample=False, needs_reference=True),
}


class FakeStore:
    """The part of the store that reports read; a stage is done when its folder exists."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: dict[str, str] = {}

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def is_done(self, kind: str, key: str) -> bool:
        return self.path(kind, key).is_dir() and key not in self.problems

    def reason(self, kind: str, key: str) -> str:
        return self.problems.get(key, "")

    def write(self, kind: str, key: str, files: Mapping[str, Any]) -> None:
        folder = self.path(kind, key)
        folder.mkdir(parents=True)
        for name, value in files.items():
            lines = (
                [json.dumps(row) for row in value]
                if name.endswith(".jsonl")
                else [json.dumps(value)]
            )
            (folder / name).write_text("\n".join(lines) + "\n")


@dataclass
class World:
    """Builds the plan row by row and writes its stages."""

    store: FakeStore
    prompts: int = 8
    distinct: int = 10**6
    stages: dict[str, Stage] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        return Plan("demo", dict(self.stages), tuple(self.cells))

    def row(
        self, label: str, hps: float, fid: float, *, seeds: tuple[int, ...] = (0,), nfe: int = 4,
        protocol: Mapping[str, Any] | None = None, done: bool = True, **cell: Any,
    ) -> None:  # fmt: skip
        """One row; per-sample hps are `hps` plus what prompt and seed add, fid is per set."""
        number = len({c.row for c in self.cells})
        for seed in seeds:
            name = f"{number:02d}{seed:02d}"
            train, sample = f"aa{name}{'0' * 14}", f"bb{name}{'0' * 14}"
            scores = {"hps": f"cc{name}{'0' * 14}", "fid": f"dd{name}{'0' * 14}"}
            self._stages(train, sample, scores)
            self.cells.append(
                Cell(
                    row=number, label=label, seed=seed, nfe=nfe, sample=sample, scores=scores,
                    **{
                        "train": train,
                        "group": "", "method": label.lower(), "title": label, "backbone": "sd",
                        "guidance_scale": 1.0, "updates": 100, "final": True, "ranked": True,
                        **cell,
                    },
                )
            )  # fmt: skip
            if done:
                self._write(train, sample, scores, hps, fid, seed, protocol or {"n": self.prompts})

    def _stages(self, train: str, sample: str, scores: Mapping[str, str]) -> None:
        prompts = {"sha256": "demo", "n": self.prompts}
        found = [
            Stage("train", train, train_spec("teacher", {})),
            Stage("sample", sample, sample_spec(train, prompts=prompts), (train,)),
            *(Stage("score", key, score_spec(sample), (sample,)) for key in scores.values()),
        ]
        self.stages |= {stage.key: stage for stage in found}

    def _write(
        self, train: str, sample: str, scores: Mapping[str, str], hps: float, fid: float,
        seed: int, protocol: Mapping[str, Any],
    ) -> None:  # fmt: skip
        cost = {
            "device": "cpu", "seconds": 12.5, "cpu_seconds": 12.0, "student_updates": 100,
            "peak_memory_bytes": 2**28, "samples": self.prompts,
            "timed_samples": self.prompts, "timed_seconds": 12.5,
            "evaluations": {"teacher": 300, "student": 200, "fake": 50},
        }  # fmt: skip
        self.store.write("train", train, {"cost.json": cost})
        names = [(f"prompt {i % self.distinct}", CATEGORIES[i % 2]) for i in range(self.prompts)]
        rows = [
            {"index": i, "prompt": prompt, "category": category}
            for i, (prompt, category) in enumerate(names)
        ]
        self.store.write("sample", sample, {"samples.jsonl": rows, "cost.json": cost})
        rng = random.Random(f"{hps} {seed}")
        values = [
            hps + 0.5 * math.sin(i) + 0.1 * seed + rng.gauss(0, 0.05) for i in range(self.prompts)
        ]
        samples = [
            {"kind": "sample", **row, "column": "", "value": value}
            for row, value in zip(rows, values, strict=True)
        ]
        aggregates = [aggregate("", values)]
        for category in CATEGORIES:
            picked = [v for v, (_, c) in zip(values, names, strict=True) if c == category]
            aggregates.append(aggregate(category, picked))
        files = {"scores.jsonl": samples + aggregates, "protocol.json": protocol}
        self.store.write("score", scores["hps"], files)
        line = {"kind": "aggregate", "column": "", "value": fid + seed, "n": self.prompts}
        self.store.write(
            "score", scores["fid"], {"scores.jsonl": [line], "protocol.json": protocol}
        )

    def compare(self, label: str, reference: str, *, of: str, noise: int = 0) -> None:
        """Make `reference`, samples of what `of` says from that noise, a row's own for fid."""
        sampler = {"kind": "ode", "timesteps": [999], "guidance_scale": 3.5}
        for cell in [cell for cell in self.cells if cell.label == label]:
            own = sample_spec(label, seed=cell.seed, sampler=sampler)
            self.stages[cell.sample] = replace(self.stages[cell.sample], spec=own)
            score = self.stages[cell.scores["fid"]]
            compares = score_spec(cell.sample, reference=reference)
            self.stages[score.key] = replace(score, spec=compares)
        theirs = sample_spec(of, seed=noise, sampler=sampler)
        self.stages[reference] = Stage("sample", reference, theirs)

    def sampled(self, label: str, **fields: Any) -> None:
        """Say more of a row's samples; with `samples_sha256` another tool made them."""
        for cell in [cell for cell in self.cells if cell.label == label]:
            spec = {**self.stages[cell.sample].spec, **fields}
            if "samples_sha256" in fields:
                kept = ("identity", "prompts", "seed", "samples_sha256")
                spec = {name: spec[name] for name in kept}
            self.stages[cell.sample] = replace(self.stages[cell.sample], spec=spec)

    def takes(self, label: str, run: str) -> None:
        """Let a row sample the net of another run, one a seed, in the teacher's place."""
        for cell in [cell for cell in self.cells if cell.label == label]:
            stage = self.stages[cell.train]
            taken = {**stage.spec, "teacher": f"{run} {cell.seed}"}
            self.stages[cell.train] = replace(stage, spec=taken)

    def store_fid(self, label: str, values: list[float]) -> None:
        """Replace a row's fid of every seed."""
        cells = [cell for cell in self.cells if cell.label == label]
        for cell, value in zip(cells, values, strict=True):
            self._rewrite(cell.scores["fid"], lambda old, value=value: value)

    def store_blocks(self, label: str, left_out: list[float]) -> None:
        """Give a row's fid the values without one block each."""
        for cell in [cell for cell in self.cells if cell.label == label]:
            path = self.store.path("score", cell.scores["fid"]) / "scores.jsonl"
            rows = [
                {"kind": "block", "column": "", "block": block, "value": value}
                for block, value in enumerate(left_out)
            ]
            path.write_text(path.read_text() + "".join(json.dumps(row) + "\n" for row in rows))

    def shift_hps(self, label: str, *, seed: int, by: float) -> None:
        """Add to every hps value of one seed of a row."""
        cell = next(c for c in self.cells if (c.label, c.seed) == (label, seed))
        self._rewrite(cell.scores["hps"], lambda old: old + by)

    def _rewrite(self, key: str, change: Any) -> None:
        path = self.store.path("score", key) / "scores.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        changed = [{**line, "value": change(line["value"])} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in changed))


def aggregate(column: str, values: list[float]) -> dict[str, Any]:
    """The aggregate line of a metric that takes the mean."""
    return {
        "kind": "aggregate",
        "column": column,
        "value": math.fsum(values) / len(values),
        "n": len(values),
    }


def experiment(**parts: Any) -> Experiment:
    """An experiment with the two metrics and whatever the test asks for."""
    return Experiment.model_validate(
        {"name": "demo", "metrics": [{"use": "hps"}, {"use": "fid"}],
         "backbones": {"sd": {"use": "sd", "label": "SD-v1.5"}}, **parts}
    )  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(FakeStore(tmp_path / "store"))


@pytest.fixture
def infos() -> dict[str, MetricInfo]:
    return dict(INFOS)


@pytest.fixture(scope="session")
def make_experiment() -> Any:
    return experiment


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One for all tests of a file that only read what is made of it."""
    return World(FakeStore(tmp_path_factory.mktemp("shared") / "store"))
