"""The one training loop of the tiny world: warm-up and cosine, EMA, exact resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from distillbench.tiny_training.optimizers import Optimizers

Loss = Callable[[int, torch.Generator], Tensor]
_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Job:
    """How one model is trained; boxed by steps so that the load of the machine changes nothing.

    Attributes:
        lr, muon_lr: see `Optimizers`.
        ema: decay of the averaged weights; 0 keeps none.
    """

    name: str
    out: Path
    steps: int
    lr: float
    seed: int = 0
    device: str = "cpu"
    muon_lr: float = 0.0
    warmup: int = 100
    ema: float = 0.0
    save_every: int = 500
    log_every: int = 100

    @property
    def folder(self) -> Path:
        """Where the job keeps its checkpoint and its log."""
        return self.out / self.name


@dataclass
class _State:
    step: int
    seconds: float


def fit(job: Job, module: _Module, loss_of: Loss) -> _Module:
    """Train `module` in place and return it with its averaged weights (if the job keeps them).

    `loss_of(step, generator)` builds the loss of one step; the generator's state depends on
    (job.seed, step) alone. The same call resumes from the last checkpoint.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    params: dict[str, Tensor] = dict(module.named_parameters())
    average = {k: p.detach().clone() for k, p in params.items()} if job.ema else {}
    optimizers = Optimizers(params, lr=job.lr, muon_lr=job.muon_lr)
    state = _resume(job, module, optimizers, average)
    module.train()
    start, recent = time.monotonic() - state.seconds, []
    for step in range(state.step, job.steps):
        generator = torch.Generator().manual_seed(job.seed * 1_000_003 + step)
        loss = loss_of(step, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(params.values(), 1.0)
        optimizers.step(schedule(step, job))
        _average(average, params, job.ema, step)
        recent.append(float(loss.detach()))
        done = _State(step + 1, time.monotonic() - start)
        if done.step % job.log_every == 0:
            _log(job, done, sum(recent) / len(recent))
            recent.clear()
        if done.step % job.save_every == 0 or done.step == job.steps:
            _save(job, module, optimizers, average, done)
    with torch.no_grad():
        for key, value in average.items():
            params[key].copy_(value)
    return module.eval()


@contextmanager
def bfloat16_products(device: str) -> Iterator[None]:
    """Products in bfloat16; on a CPU attention too, whose fused form is slow backwards in it."""
    attention = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
    with attention, torch.autocast(torch.device(device).type, torch.bfloat16):
        yield


def schedule(step: int, job: Job) -> float:
    """Linear warm-up, then a cosine from 1 to 0.02."""
    if step < job.warmup:
        return (step + 1) / job.warmup
    share = (step - job.warmup) / max(1, job.steps - job.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def _average(
    average: dict[str, Tensor], params: dict[str, Tensor], decay: float, step: int
) -> None:
    if average:
        rate = 1 - min(decay, (1 + step) / (10 + step))
        keys = list(average)
        torch._foreach_lerp_([average[k] for k in keys], [params[k] for k in keys], rate)


def _log(job: Job, state: _State, loss: float) -> None:
    line = {"step": state.step, "loss": round(loss, 5), "seconds": round(state.seconds, 1)}
    with (job.folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(job.name, line, flush=True)


def _save(
    job: Job,
    module: nn.Module,
    optimizers: Optimizers,
    average: dict[str, Tensor],
    state: _State,
) -> None:
    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in average.items()}
    tensors |= dict(optimizers.tensors())
    whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    partial = job.folder / "checkpoint.tmp"
    save_file(whole, str(partial), metadata={"step": str(state.step)})
    partial.replace(job.folder / "checkpoint.safetensors")
    note = {
        "step": state.step,
        "seconds": round(state.seconds, 1),
        "seed": job.seed,
        "device": job.device,
    }
    (job.folder / "checkpoint.json").write_text(json.dumps(note))


def _resume(
    job: Job, module: nn.Module, optimizers: Optimizers, average: dict[str, Tensor]
) -> _State:
    if not (job.folder / "checkpoint.json").exists():
        return _State(0, 0.0)
    tensors = load_file(str(job.folder / "checkpoint.safetensors"), device=job.device)
    module.load_state_dict(_part(tensors, "model."))
    average.update(_part(tensors, "ema."))
    optimizers.load(tensors)
    note = json.loads((job.folder / "checkpoint.json").read_text())
    return _State(int(note["step"]), float(note["seconds"]))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
