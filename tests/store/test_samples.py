"""Samples in shards come back as they were written, and what does not fit is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from distillbench.errors import ArtifactError
from distillbench.store.samples import SHARD, SampleWriter, load_samples


def written(folder: Path, n: int, batch: int) -> torch.Tensor:
    data = torch.randint(0, 256, (n, 2, 3, 3), generator=torch.Generator().manual_seed(n))
    data = data.to(torch.uint8)
    writer = SampleWriter(folder)
    for part in data.split(batch):
        writer.add(part)
    writer.close([f"p{i}" for i in range(n)], [""] * n, 3)
    return data


@pytest.mark.parametrize(("n", "batch"), [(1, 1), (SHARD, 50), (2 * SHARD + 7, 300)])
def test_shards_are_joined_in_their_order(n: int, batch: int, tmp_path: Path) -> None:
    data = written(tmp_path, n, batch)
    found = load_samples(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == -(-n // SHARD)
    assert torch.equal(found.data, data)
    assert found.prompts[-1] == f"p{n - 1}"
    assert found.seed == 3


def test_a_lost_or_foreign_shard_is_no_sample_set(tmp_path: Path) -> None:
    written(tmp_path, 2 * SHARD, 100)
    last = sorted(tmp_path.glob("*.safetensors"))[-1]
    samples = load_file(last)["samples"]
    save_file({"samples": samples[:, :1].contiguous()}, last)
    with pytest.raises(ArtifactError, match="no readable samples"):
        load_samples(tmp_path)
    last.unlink()
    with pytest.raises(ArtifactError, match="256 samples, 512 lines"):
        load_samples(tmp_path)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(ArtifactError, match="there are none"):
        load_samples(tmp_path)
