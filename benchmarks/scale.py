"""What large grids cost: plan, survey and tables of 100 to 100,000 cells, everything cached.

    python benchmarks/scale.py [--cells 100 1000 10000] [--only table ...] [--json scale.json]

Two grids of each size are made: students of one teacher, two NFE of every training, five seeds; and
pairs of rows, where each student takes a trained teacher by its link. For the first a store is
filled with stages as a run would commit them. Each command then runs in a process of its own, whose
CPU seconds, wall seconds and peak memory are what the system says of it. The first of them reads
every byte of the store; the others find its digests in the cache, as a second command of a user
does. Keep 30 KB of disk a cell free.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

SEEDS = 5
SAMPLES = 100
STYLES = ("animation", "concept-art", "painting", "photo")
METRICS = ("hps", "clip")
HEAD = """name: scale
backbones: {tiny: {use: tiny-sd, label: tiny-sd}}
base: {backbone: tiny, sample: {n: %d}, train: {batch_size: 8, updates: 100}}
limits: {cells: 1000000}
seeds: %s
metrics: [hps, clip]
"""
PLAIN = """rows:
  - {label: Teacher, method: teacher, nfe: 25}
  - {label: LCM, method: lcm, params: {nets: copy}, nfe: [4, 2], grid: {params.lr: %s}}
tables:
  - {name: scale, columns: [label, lr, nfe, hps, clip]}
"""
LINKED = """rows:
  - {label: SFT, method: sft, params: {nets: copy}, nfe: 25, grid: {train.lr_scale: %s}}
  - {label: LCM, method: lcm, params: {nets: copy}, teacher: SFT, nfe: 4,
     grid: {train.lr_scale: %s}}
"""


@dataclass(frozen=True)
class Figure:
    """What one command of one grid cost."""

    cells: int
    command: str
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    exit_code: int


def experiments(folder: Path, cells: int) -> tuple[Path, Path]:
    """The two experiment files of about so many cells."""
    values = json.dumps([round(1e-4 * (1 + i / 1000), 9) for i in range(cells // (2 * SEEDS))])
    head = HEAD % (SAMPLES, list(range(SEEDS)))
    plain, linked = folder / "scale.yaml", folder / "linked.yaml"
    plain.write_text(head + PLAIN % values)
    linked.write_text(head + LINKED % (values, values))
    return plain, linked


# ---- a store where everything is cached ----------------------------------------------------


def fill(file: Path, store: Path) -> int:
    """Commit every stage of an experiment with made-up contents; returns how many there are."""
    from distillbench.cli.common import open_experiment
    from distillbench.files.io import json_text
    from distillbench.plan.provenance import provenance
    from distillbench.store.record import Done, seal

    _, plan = open_experiment(file)
    contents: dict[str, str] = {}
    known: dict[str, bytes] = {}
    for key, stage in plan.stages.items():
        names = ",".join(plugin.name for plugin in stage.record.plugins.values())
        if names not in known:
            known[names] = as_json({"attempts": [provenance(stage, device="cpu", attempt=1)]})
        identity = {"kind": stage.kind, "key": key, "label": stage.label, "spec": stage.spec,
                    "needs": list(stage.needs), "runtime": stage.runtime}  # fmt: skip
        raw = {"spec.json": as_json(identity), "provenance.json": known[names],
               **made_up(stage.kind)}  # fmt: skip
        if stage.kind == "score":
            raw["scores.jsonl"] = scores(int(key[:6], 16) / 0xFFFFFF)
        kinds = {"score": "sample"}
        inputs = {f"{kinds.get(stage.kind, 'train')}/{k}": contents[k] for k in stage.needs}
        done = Done({name: {"size": len(data), "sha256": digest(data)}
                     for name, data in raw.items()}, inputs=inputs)  # fmt: skip
        contents[key] = done.content
        raw["done.json"] = json_text(seal(asdict(done))).encode()
        folder = f"{store}/{stage.kind}/{key}"
        os.makedirs(folder)
        for name, data in raw.items():
            handle = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(handle, data)
            os.close(handle)
    return len(plan.stages)


@cache
def made_up(kind: str) -> Mapping[str, bytes]:
    """Files that all stages of a kind leave for others, but scores."""
    files = {"log.txt": b"made up\n"}
    if kind == "score":
        return {**files, "protocol.json": as_json({"n": SAMPLES})}
    cost = {"device": "cpu", "seconds": 12.5, "cpu_seconds": 12.0, "student_updates": 100,
            "peak_memory_bytes": 2**28, "samples": SAMPLES,
            "evaluations": {"teacher": 300, "student": 200}}  # fmt: skip
    files["cost.json"] = as_json(cost)
    if kind != "sample":
        return {**files, "recipe.json": b"{}\n"}
    rows = [{"index": i, "prompt": f"prompt {i}", "category": style(i)} for i in range(SAMPLES)]
    return {**files, "samples.jsonl": b"".join(map(as_json, rows))}


def scores(base: float) -> bytes:
    """Rows of a metric: one a sample, and their means over all and over each style."""
    values = [20 + base + (i * 37 % 100) / 50 for i in range(SAMPLES)]
    lines = [f"{head}{value!r}}}" for head, value in zip(heads(), values, strict=True)]
    of_styles = {name: values[i :: len(STYLES)] for i, name in enumerate(STYLES)}
    for column, own in {"": values, **of_styles}.items():
        row = {"kind": "aggregate", "column": column, "value": sum(own) / len(own), "n": len(own)}
        lines.append(json.dumps(row))
    return ("\n".join(lines) + "\n").encode()


@cache
def heads() -> tuple[str, ...]:
    """Samples' rows up to their value."""
    rows = ({"kind": "sample", "index": i, "prompt": f"prompt {i}", "category": style(i),
             "column": ""} for i in range(SAMPLES))  # fmt: skip
    return tuple(f'{json.dumps(row)[:-1]}, "value": ' for row in rows)


def style(index: int) -> str:
    """That of a prompt."""
    return STYLES[index % len(STYLES)]


def as_json(value: Any) -> bytes:
    """One line."""
    return (json.dumps(value, sort_keys=True) + "\n").encode()


@lru_cache(2**10)
def digest(data: bytes) -> str:
    """sha256."""
    return hashlib.sha256(data).hexdigest()


# ---- measuring -----------------------------------------------------------------------------


def measured(cells: int, name: str, words: Sequence[str], folder: Path) -> Figure:
    """Run one command in a process of its own."""
    command = [sys.executable, "-m", "distillbench", *words]
    began = time.monotonic()
    with open(folder / "output.txt", "wb") as output:
        pid = os.posix_spawnp(
            command[0], command, {**os.environ, "DISTILLBENCH_CACHE": str(folder / "cache")},
            file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), fd) for fd in (1, 2)],
        )  # fmt: skip
        _, status, usage = os.wait4(pid, 0)
    wall, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
    if code:
        sys.stderr.write((folder / "output.txt").read_text()[-2000:])
    cpu = usage.ru_utime + usage.ru_stime
    return Figure(cells, name, round(cpu, 2), round(wall, 2), round(usage.ru_maxrss / 1024), code)


def figures(cells: int, folder: Path, only: Collection[str]) -> Iterator[Figure]:
    """The commands of these names, or all, on grids of one size."""
    plain, linked = experiments(folder, cells)
    results = folder / "results"
    here = ["--results", str(results)]
    edited = ["--set", "base.train.updates=200"]

    def all_of(commands: Mapping[str, Sequence[str]]) -> Iterator[Figure]:
        for name, words in commands.items():
            if not only or name in only:
                yield measured(cells, name, words, folder)

    yield from all_of({
        "validate": ["validate", str(plain)],
        "plan, nothing stored": ["plan", str(plain), *here],
        "plan, linked rows": ["plan", str(linked), *here],
    })  # fmt: skip
    began = time.monotonic()
    count = fill(plain, results / "store")
    print(f"{cells} cells: {count} stages made in {time.monotonic() - began:.0f} s", flush=True)
    time.sleep(2.5)  # files that have just changed are not remembered
    yield from all_of({
        "plan, cached, first look": ["plan", str(plain), *here],
        "run, all cached": ["run", str(plain), *here],
        "table": ["table", str(plain), *here],
        "plan, cached": ["plan", str(plain), *here],
        "plan after an edit": ["plan", str(plain), *edited, *here],
    })  # fmt: skip


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--only", nargs="+", default=[], help="commands by their names below")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: list[Figure] = []
    print(f"{'cells':>7}  {'command':<26}{'CPU s':>9}{'wall s':>9}{'MiB':>8}")
    for cells in options.cells:
        with tempfile.TemporaryDirectory(prefix="scale-") as name:
            for one in figures(cells, Path(name), options.only):
                found.append(one)
                end = f"  exit {one.exit_code}" if one.exit_code else ""
                print(f"{one.cells:>7}  {one.command:<26}{one.cpu_seconds:>9.2f}"
                      f"{one.wall_seconds:>9.2f}{one.peak_mib:>8.0f}{end}", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
