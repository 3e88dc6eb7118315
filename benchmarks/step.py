"""What a training step costs beside plain torch that does the needed passes and nothing else.

    python benchmarks/step.py [--size mid] [--methods lcm,tscd,tdm,dmd2] [--nets lora,copy]
        [--pairs 7] [--batch 2] [--precision float32] [--device cpu] [--json FILE]

Each method trains a Stable Diffusion of random weights (`random_sd.py`); the minimum is in
`plain_steps.py`. Steps of both are interleaved, in one process and one thread, and the median of
their ratios is given: CPU seconds of the process on a processor, wall seconds between two
synchronisations on a GPU. Passes are counted at the UNet, memory in a process of its own (a GPU's
in this one, weights included). Operations are torch's own, and the numbers that they put out: they
are the same whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from plain_steps import STEPS, Plain
from random_sd import SIZES, TOKENS, make
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from distillbench.api import registry
from distillbench.numerics import Meter, repeatable
from distillbench.specs.context import Runtime, StageContext
from distillbench.specs.stages import TrainSpec
from distillbench.testing.specs import train_spec
from distillbench.train.loop import Trainer
from distillbench.train.ranks import Team
from distillbench.train.work import TrainWork

MIB = 2**20
Step = Callable[[int], None]


@dataclass(frozen=True)
class Case:
    """One method with one kind of nets, and what all of them are measured with."""

    method: str
    nets: str
    told: argparse.Namespace

    @property
    def params(self) -> dict[str, Any]:
        """Of the method: what it has by default, but five turns of a fake score on four nodes."""
        return {"nets": self.nets, **({"rank": self.told.rank} if self.nets == "lora" else {})}

    def ours(self, folder: Path) -> Step:
        """A step of the training loop."""
        told, prompts = self.told, str(folder / "prompts.txt")
        spec = train_spec(
            self.method, self.params, backbone="random-sd", backbone_params={"model": str(folder)},
            prompts=prompts, updates=10**6, batch_size=told.batch, precision=told.precision,
            **json.loads(told.train),
        )  # fmt: skip
        runtime = Runtime(prompts=prompts)
        work = TrainWork(
            TrainSpec.read(spec, of="a step"), StageContext(told.device, runtime=runtime),
            folder, folder,
        )  # fmt: skip
        trainer = Trainer(work, Team(1, told.device, told.precision))
        trainer._set_up()

        def step(number: int) -> None:
            trainer.step = number
            trainer._one_step(logged=False)

        return step

    def plain(self, folder: Path) -> Step:
        """The same passes in plain torch."""
        told, size = self.told, SIZES[self.told.size]
        config = registry.METHODS.get(self.method).Config(**self.params)
        roles = (
            ("student",) if STEPS[self.method].__name__ == "consistency" else ("fake", "student")
        )
        plain = Plain(
            folder, roles, copies=self.nets == "copy", rank=told.rank, batch=told.batch,
            device=told.device, dtype=getattr(torch, told.precision), clip=config.clip_norm,
            average=getattr(config, "averages", False), tokens=(TOKENS, size["text"]),
        )  # fmt: skip
        return lambda number: STEPS[self.method](plain, number)


# ---- measuring --------------------------------------------------------------------------------


def seconds(step: Step, number: int, device: str) -> float:
    """Of one step."""
    gpu = device.startswith("cuda")
    clock = time.perf_counter if gpu else time.process_time
    if gpu:
        torch.cuda.synchronize(device)
    began = clock()
    step(number)
    if gpu:
        torch.cuda.synchronize(device)
    return clock() - began


@contextmanager
def passes(found: Counter[str]) -> Iterator[None]:
    """Count the samples that go through any UNet, with and without gradient, whole and in part."""
    inner: Any = UNet2DConditionModel.forward

    def forward(module: Any, x: torch.Tensor, *args: Any, **options: Any) -> Any:
        kind = "trained" if torch.is_grad_enabled() else "forward"
        found["part"] += len(x)
        output = inner(module, x, *args, **options)
        found["part"] -= len(x)
        found[kind] += len(x)
        return output

    UNet2DConditionModel.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        UNet2DConditionModel.forward = inner  # type: ignore[method-assign]


@contextmanager
def saved_bytes(found: Counter[str]) -> Iterator[None]:
    """Count the bytes that autograd keeps for backward, weights not."""
    seen: set[int] = set()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in seen and not isinstance(tensor, torch.nn.Parameter):
            seen.add(place)
            found["saved"] += tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


class Operations(TorchDispatchMode):
    """Counts torch's operations, and the numbers that they put out or change."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        self.found["operations"] += 1
        put = args[0] if made is None and args else made  # of lists of tensors, changed in place
        self.found["numbers"] += sum(t.numel() for t in tree_iter(put) if isinstance(t, Tensor))
        return made


def looked_at(build: Callable[[], Step], told: argparse.Namespace) -> dict[str, float]:
    """Passes and kept bytes of a sample, and what two steps take of a process's or GPU's memory."""
    gpu = told.device.startswith("cuda")
    meter = Meter(told.device)
    resting = 0 if gpu else meter.totals()["peak_memory_bytes"]
    step, found, kept = build(), Counter[str](), Counter[str]()
    with passes(found):
        step(0)
    step(1)
    peak = (meter.totals()["peak_memory_bytes"] - resting) / MIB
    with saved_bytes(kept):
        step(2)
    with Operations(found):
        step(3)
    counts = {kind: found[kind] / told.batch for kind in ("forward", "trained", "part")}
    return {**counts, "peak_mib": peak, "kept_mib": kept["saved"] / MIB / told.batch,
            "operations": found["operations"], "numbers": found["numbers"]}  # fmt: skip


def apart(build: Callable[[], Step], told: argparse.Namespace) -> dict[str, float]:
    """`looked_at` in a process of its own; a GPU's memory is counted by torch in this one."""
    if told.device.startswith("cuda"):
        torch.cuda.empty_cache()
        return looked_at(build, told)
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=lambda: writer.send(looked_at(build, told))
    )
    process.start()
    writer.close()
    found: dict[str, float] = reader.recv()
    process.join()
    return found


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Both sides of a case."""
    told, builds = case.told, (lambda: case.ours(folder), lambda: case.plain(folder))
    seen = [apart(build, told) for build in builds]
    ours, plain = (build() for build in builds)
    pairs = []
    for number in range(told.pairs + 1):
        sides = (ours, plain) if number % 2 else (plain, ours)
        took = {side: seconds(side, number, told.device) for side in sides}
        pairs.append((took[ours], took[plain]))
    pairs = pairs[1:]  # the first step makes the optimizers' state
    medians = [statistics.median(pair[i] for pair in pairs) / told.batch for i in (0, 1)]
    ratios = [one / two for one, two in pairs]
    return {
        "method": case.method, "nets": case.nets, "seconds": medians, "ratios": ratios,
        "ratio": statistics.median(ratios), "ours": seen[0], "plain": seen[1],
    }  # fmt: skip


# ---- the table --------------------------------------------------------------------------------

HEAD = (
    "| method | nets | ours, s | plain, s | ratio | range | passes | plain | peak MiB | plain "
    "| kept MiB | plain | operations | plain | million numbers | plain |",
    f"|{'---|' * 16}",
)


def row(found: Mapping[str, Any]) -> str:
    """A line of the table; passes are those without gradient + with it (+ parts of a network)."""
    sides = (found["ours"], found["plain"])
    cells = [
        found["method"], found["nets"], *(f"{value:.3f}" for value in found["seconds"]),
        f"{found['ratio']:.3f}", f"{min(found['ratios']):.2f} to {max(found['ratios']):.2f}",
        *(f"{s['forward']:g} + {s['trained']:g} (+ {s['part']:g})" for s in sides),
        *(f"{s['peak_mib']:.0f}" for s in sides), *(f"{s['kept_mib']:.1f}" for s in sides),
        *(f"{s['operations']}" for s in sides), *(f"{s['numbers'] / 1e6:.1f}" for s in sides),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--size", choices=sorted(SIZES), default="mid")
    parser.add_argument("--methods", default="lcm,tscd,tdm,dmd2")
    parser.add_argument("--nets", default="lora,copy")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--train", default="{}", help="more settings of train, as JSON")
    parser.add_argument("--json", default="")
    return parser.parse_args()


def main() -> None:
    """Measure every case and print the table."""
    told = arguments()
    registry.add_plugin(str(Path(__file__).parent / "random_sd.py"))
    rows = []
    print("\n".join(HEAD), flush=True)
    with tempfile.TemporaryDirectory() as name, repeatable(1):
        make(told.size, Path(name))
        for method in told.methods.split(","):
            for nets in told.nets.split(","):
                rows.append(measure(Case(method, nets, told), Path(name)))
                print(row(rows[-1]), flush=True)
    if told.json:
        settings = {**vars(told), "torch": torch.__version__, "machine": os.uname().machine}
        Path(told.json).write_text(
            json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
