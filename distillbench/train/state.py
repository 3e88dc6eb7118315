"""Checkpoints that a killed run resumes from: plain tensors and JSON, written atomically.

`<root>/step-00000200/` holds `tensors.safetensors` (weights, averages and Adam moments of every
role), `state.json` (step, costs, loss scale), `train.jsonl` (the log so far) and `done.json`, the
digests that all of it is held against before it is continued. The two newest are kept: the older
one is what remains when a machine dies while writing the other, or a disk alters it. A training
that ends earlier than another it shares its updates with leaves the other's checkpoints alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from distillbench.errors import ArtifactError
from distillbench.files.io import fsync_dir, fsync_file, write_json
from distillbench.store.record import Done
from distillbench.train.optimizer import States

__all__ = ["Saved", "latest", "save", "sweep"]

KEEP = 2


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
    tensors: States
    state: Mapping[str, Any]
    log: tuple[str, ...]

    def part(self, prefix: str) -> States:
        """The tensors under "<prefix>/", without it."""
        head = prefix + "/"
        return {k[len(head) :]: v for k, v in self.tensors.items() if k.startswith(head)}


def save(root: Path, step: int, tensors: States, state: Mapping[str, Any], log: list[str]) -> Path:
    """Write a checkpoint of `step` under `root`; of those up to it, the two newest stay."""
    folder = root / f"step-{step:08d}"
    building = root / f"{folder.name}.tmp-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    save_file(plain, building / "tensors.safetensors")
    (building / "train.jsonl").write_text("".join(log), encoding="utf-8")
    write_json(building / "state.json", {"step": step, **state})
    Done.of(building).write(building)
    for file in building.iterdir():
        fsync_file(file)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    fsync_dir(root)
    for old in _up_to(root, step)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def latest(
    root: Path, *, at_most: int, tell: Callable[[str], None] = lambda text: None
) -> Saved | None:
    """The newest sound checkpoint under `root` of at most so many steps, None where there is none.

    Args:
        tell: gets a line for each newer one that is damaged and was passed over.
    """
    found = _up_to(root, at_most)
    for folder in reversed(found):
        try:
            Done.read(folder).check(folder)
        except ArtifactError as error:
            older = folder != found[0]
            then = "trying the checkpoint before it" if older else "the training starts anew"
            tell(f"damaged checkpoint: {error}; {then}")
            continue
        return _read(folder)
    return None


def sweep(root: Path) -> None:
    """Remove checkpoints that a killed process did not finish; only the owner of `root` may."""
    for left in root.glob("step-*.tmp-*"):
        shutil.rmtree(left, ignore_errors=True)


def _read(folder: Path) -> Saved:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    log = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    tensors = load_file(folder / "tensors.safetensors")
    return Saved(folder, state["step"], tensors, state, tuple(log))


def _up_to(root: Path, step: int) -> list[Path]:
    """Checkpoints of at most so many steps, oldest first."""
    found = sorted(p for p in root.glob("step-????????") if p.name.removeprefix("step-").isdigit())
    return [p for p in found if int(p.name.removeprefix("step-")) <= step]
