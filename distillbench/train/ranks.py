"""The processes of one training run: one by default, or several that share each update.

Ranks draw different micro-batches and average the gradients of the turn's role by hand. Roles
that are adapters on one base need no wrapper round the network that way, and two processes do what
one process does with twice the accumulation.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from distillbench.boot import command
from distillbench.core.parts import is_dealt
from distillbench.errors import NotSupported, StageFailed
from distillbench.train.work import TrainWork

__all__ = ["Team", "buckets", "team"]

BUCKET = 25 << 20
"""Bytes of gradients that travel together, as many as in torch's own data parallelism."""


class Team:
    """This process among the ranks of a run, with its device and its loss scaler."""

    def __init__(self, size: int, device: str, precision: str) -> None:
        from accelerate import Accelerator, InitProcessGroupKwargs

        if precision == "float16" and device == "cpu":
            raise NotSupported("float16 training needs a GPU", hint="use float32 or bfloat16")
        mixed = "fp16" if precision == "float16" else "no"
        patience = InitProcessGroupKwargs(timeout=timedelta(minutes=10))
        self._accelerator = Accelerator(
            cpu=device == "cpu", mixed_precision=mixed, kwargs_handlers=[patience]
        )
        self.size, self.rank = size, self._accelerator.process_index
        self.device = device if size == 1 else str(self._accelerator.device)
        self.scaler: Any = self._accelerator.scaler

    def average(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over ranks; small ones travel together.

        Those of dealt parameters are means already.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None and not is_dealt(p)]
        for bucket in buckets(gradients):
            joined = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(joined)
            joined /= self.size
            parts = torch.split(joined, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any rank."""
        return bool(self.total([float(flag)])[0])

    def least(self, number: int) -> int:
        """The least of the ranks' numbers."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
        return int(tensor)

    def total(self, values: list[float]) -> list[float]:
        """Sums over ranks."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(v) for v in tensor.tolist()]

    def leave(self) -> None:
        """End the process group, so that this process can train another run."""
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def buckets(gradients: Iterable[torch.Tensor], size: int = BUCKET) -> Iterator[list[torch.Tensor]]:
    """Gradients in their order, of one dtype and at most so many bytes together; larger ones alone.

    An adapter has a thousand of them, and each message has its price.
    """
    bucket: list[torch.Tensor] = []
    held = 0
    for gradient in gradients:
        if bucket and (held + gradient.nbytes > size or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(gradient)
        held += gradient.nbytes
    if bucket:
        yield bucket


@contextmanager
def team(work: TrainWork) -> Iterator[Team]:
    """Start the other ranks of a run, join them as rank 0, and see them end.

    Raises:
        StageFailed: another rank ended with an error.
    """
    size, precision = work.spec.train.processes, work.spec.train.precision
    device = work.context.device
    if size == 1:
        member = Team(1, device, precision)
        try:
            yield member
        finally:
            member.leave()
        return
    names = _rendezvous(size)
    others = [_start(work, {**names, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(1, size)]
    try:
        with _environment({**names, "RANK": "0", "LOCAL_RANK": "0"}):
            member = Team(size, device, precision)
        try:
            yield member
        finally:
            member.leave()
        codes = [other.wait(timeout=60) for other in others]
    except BaseException:
        for other in others:
            other.kill()
        raise
    if any(codes):
        raise StageFailed(f"training processes ended with exit codes {codes}")


def _rendezvous(size: int) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size)}  # fmt: skip


def _start(work: TrainWork, names: Mapping[str, str]) -> subprocess.Popen[bytes]:
    started = command("distillbench.train.follower:main", work.to_json())
    return subprocess.Popen(started, env={**os.environ, **names})


@contextmanager
def _environment(names: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
