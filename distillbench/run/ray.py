"""The Ray runner: one Ray Core task per stage, here or on a cluster that shares the results folder.

Ray only places processes. Its retries are off (ours know what a stage is), its return values are
never taken for success (the commit marker on the disk is), and nothing but keys and paths travels
through it.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from distillbench.api.registry import PLUGINS_VARIABLE
from distillbench.boot import remote_call
from distillbench.errors import BadInput, NotSupported, StageFailed
from distillbench.files.io import storage_guard
from distillbench.plan.stage import Stage
from distillbench.run.environment import worker_environment
from distillbench.run.executor import Assignment, Result, width
from distillbench.run.trackers import TRACKERS_VARIABLE
from distillbench.run.worker import run_stage

# Read by Ray when it is imported; a benchmark reports to nobody.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
try:
    import ray
    from ray.exceptions import OutOfMemoryError, RayError
except ImportError as error:
    raise NotSupported(
        f"the ray runner needs Ray ({error})", hint='Run: pip install "distillbench[ray]"'
    ) from error

__all__ = ["RayExecutor", "run_job"]

JOB = "distillbench.run.ray:run_job"  # what a task calls in its worker
_FOLDER = "distillbench-ray-"
_LOOK_EVERY = 0.5
# The object store carries a few hundred bytes a stage; this is about the least Ray accepts.
_OBJECT_STORE_BYTES = 100 * 2**20


def run_job(raw: Mapping[str, Any], folder: str, stop_file: str) -> dict[str, Any]:
    """Run one job in a Ray worker (imported there by name) and return its result."""
    with suppress(OSError):  # relative paths of the experiment; another node may lack the folder
        os.chdir(folder)
    job = Assignment.from_json(raw)
    result = run_stage(
        job.stage,
        store_root=job.store,
        run=job.run,
        device=job.device,
        should_stop=_asked_to_stop(stop_file),
        attempt=job.attempt,
    )
    return asdict(result)


def _asked_to_stop(stop_file: str) -> Callable[[], bool]:
    looked, found = 0.0, False

    def should_stop() -> bool:
        nonlocal looked, found
        if not found and time.monotonic() - looked > _LOOK_EVERY:
            looked, found = time.monotonic(), os.path.exists(stop_file)
        return found

    return should_stop


class RayExecutor:
    """Stages as Ray tasks.

    Args:
        store_root: the store's folder, at the same path on every node.
        run: names the driver, for the stages' leases.
        address: a cluster's address; "" starts a Ray of our own on this machine.
        cpus, gpus: what our own Ray is told this machine has.
        limit: slots to use at most; None is all.
        per_gpu: stages that share a GPU.
        device: "cpu", "cuda", or "" for the GPUs of a cluster that has any.
        threads: processors a stage takes on a cpu.
    """

    def __init__(
        self,
        store_root: Path | str,
        *,
        run: str = "",
        address: str = "",
        cpus: int = 1,
        gpus: int = 0,
        limit: int | None = None,
        device: str = "cpu",
        threads: int = 1,
        per_gpu: int = 1,
    ) -> None:
        self._store = str(Path(store_root).resolve())
        self._limit = limit or sys.maxsize
        self._run = run
        self._threads, self._per_gpu = threads, per_gpu
        self._stop_file = str(Path(self._store) / f".stop-{run or secrets.token_hex(6)}")
        self._running: dict[Any, Stage] = {}
        self._temp: str | None = None
        self._ours = not ray.is_initialized()
        if self._ours:
            self._connect(address, cpus, gpus)
        self._device = device or ("cuda" if "GPU" in ray.cluster_resources() else "cpu")
        self._task = self._make_task()
        if self.capacity < 1:
            asked = f"{threads} CPU" if self._device == "cpu" else "1 GPU"
            room, where = self.room, f" {address}" if address else ""
            self.close()
            raise BadInput(
                f"--runner ray: a stage needs {asked} on a node; the cluster{where} has {room}",
                hint="Start nodes that have it, or choose with --gpus N (0: processors)",
            )

    @property
    def capacity(self) -> int:
        """Slots of all nodes that are up, within the limit."""
        return min(self._limit, sum(map(self._slots, self._nodes())))

    @property
    def widest(self) -> int:
        """Slots of the largest node: a stage never spans nodes."""
        return min(self._limit, max(map(self._slots, self._nodes()), default=0))

    @property
    def room(self) -> str:
        """The nodes that are up and what stages can use of them."""
        nodes = [node["Resources"] for node in self._nodes()]
        have = (f"{node.get('CPU', 0):g} CPU + {node.get('GPU', 0):g} GPU" for node in nodes)
        return f"{len(nodes)} node(s): {', '.join(have) or 'none'}"

    @property
    def free(self) -> int:
        """Slots that we do not use."""
        return self.capacity - sum(width(stage) for stage in self._running.values())

    def submit(self, stage: Stage, *, attempt: int) -> None:
        """Hand the stage to Ray."""
        job = Assignment(stage, self._store, self._run, self._device, attempt)
        share = width(stage)
        needs: dict[str, Any] = {"num_cpus": share * self._threads}
        if self._device != "cpu":
            needs = {"num_cpus": 0, "num_gpus": share / self._per_gpu}
        task = self._task.options(**needs, name=f"{stage.kind} {stage.key}")
        with _cluster_alive():
            self._running[self._remote(task, job)] = stage

    def poll(self, timeout: float) -> list[Result]:
        """Collect tasks that ended."""
        if not self._running:
            time.sleep(timeout)
            return []
        with _cluster_alive():
            first, rest = ray.wait(list(self._running), num_returns=1, timeout=timeout)
            more = ray.wait(rest, num_returns=len(rest), timeout=0)[0] if first and rest else []
            return [self._result(ref) for ref in [*first, *more]]

    def stop(self) -> None:
        """Ask all running stages to write a checkpoint and end."""
        with storage_guard(Path(self._stop_file)):
            Path(self._stop_file).touch()

    def kill(self, key: str) -> None:
        """Cancel the task by force and forget it."""
        for ref, stage in list(self._running.items()):
            if stage.key == key:
                del self._running[ref]
                with suppress(RayError):  # its node, or all of the cluster, is gone
                    ray.cancel(ref, force=True)

    def close(self) -> None:
        """End all tasks, and Ray itself where we started it."""
        for stage in list(self._running.values()):
            self.kill(stage.key)
        if self._ours:
            ray.shutdown()
        if self._temp:
            shutil.rmtree(self._temp, ignore_errors=True)
        Path(self._stop_file).unlink(missing_ok=True)

    def _connect(self, address: str, cpus: int, gpus: int) -> None:
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address:
            try:
                ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())[:300]
                raise BadInput(f"--address {address}: cannot join the cluster: {reason}") from error
            return
        try:
            self._start(cpus, gpus, quiet)
        except StageFailed:  # on a busy machine its half minute for starting may be too short
            self._start(cpus, gpus, quiet)

    def _start(self, cpus: int, gpus: int, quiet: Mapping[str, Any]) -> None:
        # A folder of our own: a plain ray.init() would join whatever cluster was here last.
        self._temp = _own_folder()
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=self._temp,
                **quiet,
            )
        except Exception as error:  # Ray has no class of its own for this
            self.close()
            raise StageFailed(
                f"Ray did not start on this machine: {_first_line(error)}",
                hint="Try again when it is less busy, or use --runner local",
            ) from error

    def _make_task(self) -> Any:
        """The remote function; workers find this package by its place."""
        function, self._boot = remote_call()
        variables = worker_environment(self._threads)
        told = (PLUGINS_VARIABLE, TRACKERS_VARIABLE)
        variables |= {name: os.environ[name] for name in told if name in os.environ}
        calls = {} if self._device == "cpu" else {"max_calls": 1}  # frees the GPU's memory
        return ray.remote(max_retries=0, runtime_env={"env_vars": variables}, **calls)(function)

    def _remote(self, task: Any, job: Assignment) -> Any:
        where = (os.getcwd(), self._stop_file)
        return task.remote(*self._boot, JOB, job.to_json(), *where)

    def _nodes(self) -> list[Mapping[str, Any]]:
        """The nodes that are up. Raises StageFailed when the cluster does not answer."""
        with _cluster_alive():
            return [node for node in ray.nodes() if node["Alive"]]

    def _slots(self, node: Mapping[str, Any]) -> int:
        have = node["Resources"].get("CPU" if self._device == "cpu" else "GPU", 0)
        return int(have // self._threads if self._device == "cpu" else have * self._per_gpu)

    def _result(self, ref: Any) -> Result:
        stage = self._running.pop(ref)
        try:
            return Result(**ray.get(ref))
        except OutOfMemoryError as error:
            return Result(stage.key, "oom", error=_first_line(error))
        except RayError as error:
            return Result(stage.key, "died", error=_first_line(error))


@contextmanager
def _cluster_alive() -> Iterator[None]:
    """Turn what Ray raises when its head or our own node is gone into a StageFailed."""
    try:
        yield
    except (RayError, ConnectionError, TimeoutError, RuntimeError) as error:
        raise StageFailed(
            f"the Ray cluster is gone ({_first_line(error)})",
            hint="The same command resumes; finished stages are kept",
        ) from error


def _own_folder() -> str:
    """A folder for Ray's sockets and logs; those of runs that were killed are removed."""
    temp = Path(tempfile.gettempdir())
    for old in temp.glob(f"{_FOLDER}*"):
        owner = old.name.removeprefix(_FOLDER).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            _end_orphans(old)
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-")


def _end_orphans(folder: Path) -> None:
    """Kill what a killed run's own Ray left running: processes whose command names its folder."""
    for process in psutil.process_iter(["cmdline", "uids"]):
        ours = process.info["uids"] and process.info["uids"].real == os.getuid()
        if ours and any(str(folder) in word for word in process.info["cmdline"] or ()):
            with suppress(psutil.Error):
                process.kill()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:500]
