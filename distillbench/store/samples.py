"""Samples as a stage keeps them: shards of tensors, and one line a sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from distillbench.api.metric import Samples
from distillbench.core.lazy import torch
from distillbench.errors import ArtifactError
from distillbench.files.io import write_json
from distillbench.store.record import check_folder

__all__ = ["SampleWriter", "load_samples"]

SHARD: Final = 256


def load_samples(directory: Path) -> Samples:
    """Read back what a `SampleWriter` wrote.

    Raises:
        ArtifactError: files are missing, disagree, or are not as they were committed.
    """
    check_folder(directory)
    try:
        record = json.loads((directory / "samples.json").read_text(encoding="utf-8"))
        lines = (directory / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        shards = sorted(directory.glob("samples-*.safetensors"))
        data = _joined(shards)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ArtifactError(f"{directory}: no readable samples ({error})") from None
    rows = [json.loads(line) for line in lines]
    if not len(rows) == len(data) == record["n"]:
        raise ArtifactError(f"{directory}: {len(data)} samples, {len(rows)} lines")
    prompts, categories = ([row[key] for row in rows] for key in ("prompt", "category"))
    return Samples(data, prompts, categories, record["seed"], directory.name)


def _joined(shards: Sequence[Path]) -> torch.Tensor:
    """The samples of all shards, read one after another into place: in memory once, not twice."""
    from safetensors import safe_open

    kept: torch.Tensor | None = None
    sizes, at = [_rows(path) for path in shards], 0
    for path, rows in zip(shards, sizes, strict=True):
        with safe_open(path, framework="pt") as file:
            part = file.get_tensor("samples")
        kept = part.new_empty((sum(sizes), *part.shape[1:])) if kept is None else kept
        if part.shape[1:] != kept.shape[1:]:  # a copy would repeat what is too small
            raise ValueError(f"{path.name} holds samples of another shape")
        kept[at : at + rows].copy_(part)
        at += rows
    if kept is None:
        raise ValueError("there are none")
    return kept


def _rows(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return int(file.get_slice("samples").get_shape()[0])


class SampleWriter:
    """Writes samples in files of at most `SHARD`, whatever the batch size."""

    def __init__(self, out: Path) -> None:
        self.out, self.count, self.total = out, 0, 0
        self.waiting: torch.Tensor | None = None

    def add(self, samples: torch.Tensor) -> None:
        """Take some more, in order."""
        self.total += len(samples)
        held = samples if self.waiting is None else torch.cat([self.waiting, samples])
        while len(held) >= SHARD:
            self._write(held[:SHARD])
            held = held[SHARD:]
        self.waiting = held

    def close(self, prompts: Sequence[str], categories: Sequence[str], seed: int) -> None:
        """Write what is left, and the prompt and category of every sample."""
        if self.waiting is not None and len(self.waiting):
            self._write(self.waiting)
        rows = [
            json.dumps({"index": i, "prompt": p, "category": c}) + "\n"
            for i, (p, c) in enumerate(zip(prompts, categories, strict=True))
        ]
        (self.out / "samples.jsonl").write_text("".join(rows), encoding="utf-8")
        record = {"n": self.total, "seed": seed, "shards": self.count}
        write_json(self.out / "samples.json", record)

    def _write(self, samples: torch.Tensor) -> None:
        from safetensors.torch import save_file

        path = self.out / f"samples-{self.count:05d}.safetensors"
        save_file({"samples": samples.contiguous()}, path)
        self.count += 1
