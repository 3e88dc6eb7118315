"""The local runner: persistent worker processes, one per GPU or one per processor share.

A worker imports torch once and then serves stage after stage. One that dies is replaced; what
becomes of its stage is the driver's business.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from distillbench.boot import command
from distillbench.errors import NotSupported
from distillbench.plan.stage import Stage
from distillbench.run.environment import worker_environment
from distillbench.run.executor import Assignment, Result, width

__all__ = ["LocalExecutor", "shared"]

CHILD = "distillbench.run.child:main"  # what a worker process calls
_START_SECONDS = 120.0
_SHARE = "@"


def shared(gpus: tuple[str, ...], stages: int) -> tuple[str, ...]:
    """Slots of GPUs that several stages share; the stages spread over the GPUs first."""
    if stages == 1:
        return gpus
    return tuple(f"{gpu}{_SHARE}{share}" for share in range(stages) for gpu in gpus)


class _Worker:
    """One child process, the slots it occupies and the stage it runs."""

    def __init__(self, slots: tuple[str, ...], device: str, threads: int) -> None:
        self.slots = slots
        self.job: Assignment | None = None
        self.greeting: dict[str, Any] | None = None
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        environment = {**os.environ, **worker_environment(threads)}
        if device != "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(
                dict.fromkeys(slot.partition(_SHARE)[0] for slot in slots)
            )
        self.process = subprocess.Popen(
            command(CHILD, device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            start_new_session=True,
            text=True,
        )

    def send(self, message: Any) -> None:
        """Write one line; a worker that just died is noticed by its reader instead."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def kill(self) -> None:
        """End the process and every process it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def exit_reason(self) -> str:
        """How it ended, with the last line it wrote to standard error."""
        code = self.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"worker process {self.process.pid} ended by {how}" + (f": {last}" if last else "")


class LocalExecutor:
    """Worker processes on this machine.

    Args:
        store_root: the store's folder.
        slots: what workers share out: GPU ids or `shared` ones, or any distinct names for
            processor shares.
        run: names the driver, for the stages' leases.
        device: "cpu" or "cuda".
        threads: threads a worker starts with.
    """

    def __init__(
        self,
        store_root: Path | str,
        *,
        slots: tuple[str, ...],
        run: str = "",
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._store = str(Path(store_root).resolve())
        self._slots = slots
        self._run = run
        self._device = device
        self._threads = threads
        self._workers: list[_Worker] = []
        self._inbox: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._check_start()

    @property
    def capacity(self) -> int:
        """All slots."""
        return len(self._slots)

    @property
    def widest(self) -> int:
        """All slots: they are on one machine."""
        return len(self._slots)

    @property
    def room(self) -> str:
        """The slots by name."""
        return f"{len(self._slots)} slot(s) on this machine"

    @property
    def free(self) -> int:
        """Slots without a running stage."""
        return len(self._free_slots())

    def submit(self, stage: Stage, *, attempt: int) -> None:
        """Hand the stage to an idle worker, started now if need be."""
        worker = self._worker_for(width(stage))
        job = Assignment(stage, self._store, self._run, self._device, attempt)
        worker.job = job
        worker.send(job.to_json())

    def poll(self, timeout: float) -> list[Result]:
        """Collect the answers and deaths of workers."""
        results: list[Result] = []
        try:
            message = self._inbox.get(timeout=timeout)
            while True:
                results.extend(self._read(*message))
                message = self._inbox.get_nowait()
        except queue.Empty:
            return results

    def stop(self) -> None:
        """Ask every worker to bring its stage to a checkpoint and end it."""
        for worker in self._workers:
            worker.send("stop")

    def kill(self, key: str) -> None:
        """Kill the worker that runs the stage, and its process group."""
        for worker in [w for w in self._workers if w.job and w.job.stage.key == key]:
            worker.job = None
            self._drop(worker)

    def close(self) -> None:
        """Kill all workers; a stage that still ran keeps its checkpoints."""
        for worker in list(self._workers):
            self._drop(worker)

    def _check_start(self) -> None:
        """Start the first worker and wait for its greeting, to know at once of a broken machine."""
        worker = self._start(self._slots[:1])
        try:
            self.poll(_START_SECONDS)
        except BaseException:
            self.close()
            raise
        greeting = worker.greeting
        if greeting is None or not greeting["ready"]:
            self.close()
            reason = greeting["error"] if greeting else worker.exit_reason()
            raise NotSupported(f"workers cannot start: {reason}")

    def _worker_for(self, slots: int) -> _Worker:
        free = self._free_slots()
        idle = [w for w in self._workers if w.job is None]
        for worker in idle:
            if len(worker.slots) == slots:
                return worker
        chosen = free[:slots]
        for worker in idle:  # they hold memory on the devices the new one gets
            if set(worker.slots) & set(chosen):
                self._drop(worker)
        return self._start(chosen)

    def _free_slots(self) -> tuple[str, ...]:
        busy = {slot for worker in self._workers if worker.job for slot in worker.slots}
        return tuple(slot for slot in self._slots if slot not in busy)

    def _start(self, slots: tuple[str, ...]) -> _Worker:
        worker = _Worker(slots, self._device, self._threads)
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self._inbox.put((worker, json.loads(line)))
        self._inbox.put((worker, None))

    def _read(self, worker: _Worker, message: dict[str, Any] | None) -> list[Result]:
        if worker not in self._workers:  # dropped on purpose
            return []
        job = worker.job
        if message is None:
            worker.job = None
            self._drop(worker)
            return [Result(job.stage.key, "died", error=worker.exit_reason())] if job else []
        if "ready" in message:
            worker.greeting = message
            return []
        worker.job = None
        result = Result(**message)
        # What a failed allocation leaves behind is not trusted; a stopped worker stays stopped.
        if result.status in ("oom", "stopped"):
            self._drop(worker)
        return [result]

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.kill()
