"""Stages that compute a hash chain: quick, exact, resumable, and faulty on request.

What goes wrong is said by the parameters of the method: `fault` is one of raise, weights, oom,
kill, hang, storage, at step `at`; with `faults` = n, only the first n attempts are faulty (counted
in a file beside the checkpoints, which every attempt finds again). `pause` lies between steps.
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
from distillbench.specs.context import StageContext
from distillbench.specs.stages import SampleSpec, ScoreSpec, TrainSpec

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


def _fault(told: Mapping[str, Any], memory: Path, step: int) -> None:
    if "fault" not in told or step != told.get("at", 1):
        return
    seen = int(memory.read_text()) if memory.exists() else 0
    if seen >= told.get("faults", 10**9):
        return
    memory.write_text(str(seen + 1))
    fault = told["fault"]
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


def train(spec: TrainSpec, context: StageContext, *, out: Path, checkpoints: Path) -> None:
    """A chain of as many hashes as updates, with a checkpoint after every second one."""
    saved = checkpoints / "state.json"
    state: dict[str, Any] = {"step": 0, "hash": ""}
    state = json.loads(saved.read_text()) if saved.exists() else state
    told, steps = spec.method.params, spec.train.updates
    memory = checkpoints.parent / f"{out.name.split('.')[0]}-faults"
    while state["step"] < steps:
        if context.should_stop():
            _save(saved, state)
            raise Interrupted(f"stopped after step {state['step']} of {steps}")
        _fault(told, memory, state["step"])
        time.sleep(told.get("pause", 0))
        step = state["step"] + 1
        state = {"step": step, "hash": _digest(spec.seed, state["hash"], step)}
        losses = {"loss": 1 / step}
        context.progress({"kind": "train", "step": step, "steps": steps, "losses": losses})
        if step % 2 == 0:
            _save(saved, state)
    print("trained on", context.device, flush=True)
    subprocess.run(["echo", "from a subprocess"], check=True)
    if told.get("visible"):
        _show_gpus(out)
    (out / "student.txt").write_text(state["hash"])


def _save(path: Path, state: Mapping[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(state))
    os.replace(scratch, path)


def sample(spec: SampleSpec, context: StageContext, *, train_dir: Path, out: Path) -> None:
    """A hash of the student."""
    _fault(spec.method.params, out.parent / f"{out.name.split('.')[0]}-faults", 1)
    time.sleep(spec.method.params.get("pause", 0))
    (out / "samples.txt").write_text(_digest(spec.plain(), (train_dir / "student.txt").read_text()))


def score(
    spec: ScoreSpec,
    context: StageContext,
    *,
    sample_dir: Path,
    reference_dir: Path | None,
    out: Path,
) -> None:
    """A hash of the samples, and of the reference where there is one."""
    time.sleep(spec.metric.params.get("pause", 0))
    parts = [(sample_dir / "samples.txt").read_text()]
    parts += [(reference_dir / "samples.txt").read_text()] if reference_dir else []
    (out / "scores.jsonl").write_text(json.dumps({"value": _digest(spec.plain(), *parts)}) + "\n")


def _show_gpus(out: Path) -> None:
    """Write down which GPUs this stage was given; stay long enough for others to overlap."""
    time.sleep(1.0)
    (out / "visible.txt").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
