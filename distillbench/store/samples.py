"""Samples as a stage keeps them: shards of tensors, and one line a sample."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from distillbench.api.metric import Samples
from distillbench.core.lazy import torch
from distillbench.errors import ArtifactError
from distillbench.files.io import write_json
from distillbench.store.record import check_folder
from distillbench.store.rows import StoredRows

__all__ = ["TRAJECTORY", "SampleWriter", "load_samples", "open_samples", "write_trajectory"]

SHARD: Final = 256
SHARD_BYTES: Final = 2**28
TRAJECTORY: Final = "trajectory.safetensors"
"""Clean predictions of the first samples: (samples, evaluations, ...)."""


def open_samples(directory: Path) -> Samples:
    """What a `SampleWriter` wrote, with `store.rows.StoredRows` for data: they stay on disk.

    Raises:
        ArtifactError: files are missing, disagree, or are not as they were committed.
    """
    check_folder(directory)
    try:
        record = json.loads((directory / "samples.json").read_text(encoding="utf-8"))
        lines = (directory / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        data: Any = StoredRows(sorted(directory.glob("samples-*.safetensors")))
        wanted, seed = record["n"], record["seed"]
        prompts, categories = ([row[key] for row in rows] for key in ("prompt", "category"))
    except (OSError, ValueError, KeyError, TypeError, ArtifactError) as error:
        raise ArtifactError(f"{directory}: no readable samples ({error})") from None
    if not len(rows) == len(data) == wanted:
        raise ArtifactError(f"{directory}: {len(data)} samples, {len(rows)} lines")
    return Samples(data, prompts, categories, seed, directory.name)


def load_samples(directory: Path) -> Samples:
    """The same with all data in memory. Raises as `open_samples`."""
    samples = open_samples(directory)
    return dataclasses.replace(samples, data=samples.data[:])


def write_trajectory(out: Path, kept: Sequence[torch.Tensor]) -> None:
    """Write the clean predictions of the first samples, (evaluations, ...) of each."""
    from safetensors.torch import save_file

    save_file({"samples": torch.stack(list(kept))}, out / TRAJECTORY)


class SampleWriter:
    """Writes samples in files of at most `SHARD` and about `SHARD_BYTES`, whatever the batch."""

    def __init__(self, out: Path) -> None:
        self.out, self.count, self.total = out, 0, 0
        self.waiting: list[torch.Tensor] = []

    def add(self, samples: torch.Tensor) -> None:
        """Take some more, in order."""
        self.total += len(samples)
        while len(samples):
            room = self._size(samples) - sum(map(len, self.waiting))
            self.waiting.append(samples[:room])
            samples = samples[room:]
            if len(self.waiting[-1]) == room:
                self._write()

    def close(self, prompts: Sequence[str], categories: Sequence[str], seed: int) -> None:
        """Write what is left, and the prompt and category of every sample."""
        if self.waiting:
            self._write()
        rows = [
            json.dumps({"index": i, "prompt": p, "category": c}) + "\n"
            for i, (p, c) in enumerate(zip(prompts, categories, strict=True))
        ]
        (self.out / "samples.jsonl").write_text("".join(rows), encoding="utf-8")
        record = {"n": self.total, "seed": seed, "shards": self.count}
        write_json(self.out / "samples.json", record)

    @staticmethod
    def _size(samples: torch.Tensor) -> int:
        """Samples of one file."""
        return max(1, min(SHARD, SHARD_BYTES // max(samples[0].nbytes, 1)))

    def _write(self) -> None:
        from safetensors.torch import save_file

        path = self.out / f"samples-{self.count:05d}.safetensors"
        held, self.waiting = torch.cat(self.waiting), []
        save_file({"samples": held}, path)
        self.count += 1
