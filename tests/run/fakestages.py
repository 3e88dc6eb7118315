"""Stages that compute a hash chain: quick, exact, resumable, and faulty on request.

`spec["fault"]` is one of raise, weights, oom, kill, hang, storage; with `spec["faults"]` = n, only
the first n attempts are faulty (counted in a file beside the checkpoints, which every attempt
finds again).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distillbench.errors import Interrupted, MissingWeights
from distillbench.run import child, local, worker

FUNCTIONS = {kind: f"fakestages:{kind}" for kind in ("train", "sample", "score")}


def install(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Fake stages in this process, and in the local workers that it starts: they enter by `main`.

    Tests of the Ray runner make its tasks enter by `run_job`.
    """
    put(worker, "STAGE_FUNCTIONS", FUNCTIONS)
    put(local, "CHILD", "fakestages:main")


def main(device: str) -> None:
    """A worker process of the local runner."""
    install()
    child.main(device)


def run_job(*arguments: Any) -> Any:
    """A task of the Ray runner."""
    install()
    from distillbench.run.ray import run_job as run

    return run(*arguments)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(p) for p in parts]).encode()).hexdigest()


def _fault(spec: Mapping[str, Any], memory: Path, step: int) -> None:
    if "fault" not in spec or step != spec.get("at", 1):
        return
    seen = int(memory.read_text()) if memory.exists() else 0
    if seen >= spec.get("faults", 10**9):
        return
    memory.write_text(str(seen + 1))
    fault = spec["fault"]
    if fault == "raise":
        raise ZeroDivisionError("made to fail")
    if fault == "weights":
        raise MissingWeights("no weights", hint="put them there")
    if fault == "oom":
        raise MemoryError("made to fail")
    if fault == "storage":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(memory))
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        memory.with_name(f"{memory.name}-child").write_text(str(child.pid))
        child.wait()


def train(
    spec: Mapping[str, Any],
    *,
    out: Path,
    checkpoints: Path,
    runtime: Mapping[str, Any],
    device: str,
    progress: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> None:
    """A chain of `spec["steps"]` hashes with a checkpoint after every second one."""
    saved = checkpoints / "state.json"
    state: dict[str, Any] = {"step": 0, "hash": ""}
    state = json.loads(saved.read_text()) if saved.exists() else state
    steps, memory = spec["steps"], checkpoints.parent / f"{out.name.split('.')[0]}-faults"
    while state["step"] < steps:
        if should_stop():
            _save(saved, state)
            raise Interrupted(f"stopped after step {state['step']} of {steps}")
        _fault(spec, memory, state["step"])
        time.sleep(spec.get("pause", 0))
        step = state["step"] + 1
        state = {"step": step, "hash": _digest(spec["seed"], state["hash"], step)}
        progress({"kind": "train", "step": step, "steps": steps, "losses": {"loss": 1 / step}})
        if step % 2 == 0:
            _save(saved, state)
    print("trained on", device, flush=True)
    subprocess.run(["echo", "from a subprocess"], check=True)
    if spec.get("visible"):
        _show_gpus(out)
    (out / "student.txt").write_text(state["hash"])


def _save(path: Path, state: Mapping[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(state))
    os.replace(scratch, path)


def sample(
    spec: Mapping[str, Any],
    *,
    train_dir: Path,
    out: Path,
    runtime: Mapping[str, Any],
    device: str,
    progress: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> None:
    """A hash of the student."""
    _fault(spec, out.parent / f"{out.name.split('.')[0]}-faults", 1)
    time.sleep(spec.get("pause", 0))
    (out / "samples.txt").write_text(_digest(spec, (train_dir / "student.txt").read_text()))


def score(
    spec: Mapping[str, Any],
    *,
    sample_dir: Path,
    reference_dir: Path | None,
    out: Path,
    runtime: Mapping[str, Any],
    device: str,
    progress: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> None:
    """A hash of the samples, and of the reference where there is one."""
    time.sleep(spec.get("pause", 0))
    parts = [(sample_dir / "samples.txt").read_text()]
    parts += [(reference_dir / "samples.txt").read_text()] if reference_dir else []
    (out / "scores.jsonl").write_text(json.dumps({"value": _digest(spec, *parts)}) + "\n")


def _show_gpus(out: Path) -> None:
    """Write down which GPUs this stage was given; stay long enough for others to overlap."""
    time.sleep(1.0)
    (out / "visible.txt").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
