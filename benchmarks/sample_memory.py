"""Peak memory of scoring a stored sample set from disk, beside scoring it in memory.

    python benchmarks/sample_memory.py [--samples 1024] [--side 512] [--metric aes]

Each way runs in a process of its own; what is printed is its peak resident memory above what
loading the metric takes, in MiB and in sizes of the samples, its CPU seconds, and whether all
values are the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score.evaluate import evaluate
from distillbench.store.samples import SampleWriter, load_samples, open_samples


def few(folder: Path) -> Samples:
    """One batch of the set: what the imports, the network and a batch take."""
    samples = open_samples(folder)
    return dataclasses.replace(
        samples, data=samples.data[:32], prompts=samples.prompts[:32],
        categories=samples.categories[:32], key="",
    )  # fmt: skip


WAYS = {"one batch": few, "in memory": load_samples, "from disk": open_samples}


def high_water() -> int:
    """KiB of this process at its peak (Linux); getrusage would count its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured(way: str, folder: Path, metric: str) -> dict[str, Any]:
    """Peak, CPU seconds and values, of this process."""
    torch.set_num_threads(1)
    samples = WAYS[way](folder)
    scores = evaluate(build_metric(metric, {}), samples)
    used = resource.getrusage(resource.RUSAGE_SELF)
    values = [dict(scores.aggregate), {k: list(v) for k, v in scores.per_sample.items()}]
    return {"peak": 1024 * high_water(), "cpu": used.ru_utime + used.ru_stime, "values": values}


def apart(way: str, folder: Path, metric: str) -> dict[str, Any]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), "--metric", metric]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(said)
    return found


def write(folder: Path, samples: int, side: int) -> int:
    """A sample set of noise; returns its bytes."""
    writer, rng = SampleWriter(folder), torch.Generator().manual_seed(0)
    for start in range(0, samples, 64):
        shape = (min(64, samples - start), side, side, 3)
        writer.add(torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8))
    writer.close(["red circle"] * samples, [""] * samples, 0)
    return samples * side * side * 3


def main() -> None:
    """Print the table, or measure one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--metric", default="aes", help="one that compares with nothing")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measured(options.way, options.folder, options.metric)))
        return
    with TemporaryDirectory() as name:
        size = write(Path(name), options.samples, options.side)
        found = {way: apart(way, Path(name), options.metric) for way in WAYS}
    least = found.pop("one batch")["peak"]
    print(f"{options.samples} samples of {options.side} px, {size / 2**20:.0f} MiB")
    for way, told in found.items():
        more = told["peak"] - least
        print(f"{way}: {more / 2**20:.0f} MiB more than a batch ({more / size:.2f} times the set), "
              f"{told['cpu']:.1f} CPU s")  # fmt: skip
    print("all values are the same:", found["in memory"]["values"] == found["from disk"]["values"])


if __name__ == "__main__":
    main()
