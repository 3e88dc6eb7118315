"""Peak memory of reading a stored sample set, beside reading all shards and joining them.

    python benchmarks/sample_memory.py [--samples 1024] [--side 512]

Each way runs in a process of its own; what is printed is its peak resident memory above what the
imports take, in sizes of the samples.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from distillbench.store.samples import SampleWriter, load_samples


def ours(folder: Path) -> int:
    """Read it as the score stage does."""
    return len(load_samples(folder))


def joined(folder: Path) -> int:
    """Read every shard, then join them."""
    from safetensors.torch import load_file

    shards = sorted(folder.glob("*.safetensors"))
    return len(torch.cat([load_file(path)["samples"] for path in shards]))


def nothing(folder: Path) -> int:
    """What the imports take."""
    return len(list(folder.glob("*.json")))


WAYS = {"nothing": nothing, "ours": ours, "joined": joined}


def high_water() -> int:
    """KiB of this process at its peak (Linux); getrusage would count its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak(way: str, folder: Path) -> float:
    """Bytes, in a fresh process."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def write(folder: Path, samples: int, side: int) -> int:
    """A sample set of noise; returns its bytes."""
    writer, rng = SampleWriter(folder), torch.Generator().manual_seed(0)
    for start in range(0, samples, 64):
        shape = (min(64, samples - start), side, side, 3)
        writer.add(torch.randint(0, 256, shape, generator=rng).to(torch.uint8))
    writer.close([""] * samples, [""] * samples, 0)
    return samples * side * side * 3


def main() -> None:
    """Print the table, or measure one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.way:
        WAYS[options.way](options.folder)
        print(1024 * high_water())
        return
    with TemporaryDirectory() as name:
        size = write(Path(name), options.samples, options.side)
        least = peak("nothing", Path(name))
        print(f"{options.samples} samples of {options.side} px, {size / 2**20:.0f} MiB")
        for way in ("joined", "ours"):
            print(f"{way}: {(peak(way, Path(name)) - least) / size:.2f} times that at the peak")


if __name__ == "__main__":
    main()
