"""Checkpoints that a killed run resumes from: plain tensors and JSON, written atomically.

`<root>/step-00000200/` holds `tensors.safetensors` (weights, averages and Adam moments of every
role), `state.json` (step, costs, loss scale) and `train.jsonl` (the log so far). The two newest
are kept: the older one is what remains when a machine dies while writing the other. A training
that ends earlier than another it shares its updates with leaves the other's checkpoints alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

__all__ = ["Saved", "flatten_adam", "latest", "restore_adam", "save", "write_json"]

KEEP = 2
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Saved:
    """A checkpoint read back.

    Attributes:
        path: its folder.
        step: updates done.
        tensors: "<role>/<part>/<name>" -> tensor, on the CPU.
        state: the JSON state.
        log: lines of train.jsonl.
    """

    path: Path
    step: int
    tensors: Tensors
    state: Mapping[str, Any]
    log: tuple[str, ...]

    def part(self, prefix: str) -> Tensors:
        """The tensors under "<prefix>/", without it."""
        head = prefix + "/"
        return {k[len(head) :]: v for k, v in self.tensors.items() if k.startswith(head)}


def save(root: Path, step: int, tensors: Tensors, state: Mapping[str, Any], log: list[str]) -> Path:
    """Write a checkpoint of `step` under `root`; of those up to it, the two newest stay."""
    folder = root / f"step-{step:08d}"
    building = root / f"{folder.name}.tmp-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    save_file(plain, building / "tensors.safetensors")
    (building / "train.jsonl").write_text("".join(log), encoding="utf-8")
    write_json(building / "state.json", {"step": step, **state})
    for file in building.iterdir():
        _flush(file)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    _flush(root)
    for old in _up_to(root, step)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def latest(root: Path, *, at_most: int) -> Saved | None:
    """The newest checkpoint under `root` of at most so many steps, None where there is none."""
    folders = _up_to(root, at_most)
    if not folders:
        return None
    folder = folders[-1]
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    log = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    tensors = load_file(folder / "tensors.safetensors")
    return Saved(folder, state["step"], tensors, state, tuple(log))


def flatten_adam(optimizer: torch.optim.Optimizer) -> Tensors:
    """Adam's moments and counters as "<parameter index>/<moment>" -> tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": value for i, part in state.items() for name, value in part.items()}


def restore_adam(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what `flatten_adam` gave."""
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def write_json(path: Path, value: Any) -> None:
    """Write readable, key-sorted JSON."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _up_to(root: Path, step: int) -> list[Path]:
    """Whole checkpoints of at most so many steps, oldest first."""
    whole = sorted(p for p in root.glob("step-????????") if (p / "state.json").is_file())
    return [p for p in whole if int(p.name.removeprefix("step-")) <= step]


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
