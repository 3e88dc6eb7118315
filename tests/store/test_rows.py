"""Rows on disk are the rows of the whole tensor, however they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from distillbench.errors import ArtifactError
from distillbench.store import samples as stored
from distillbench.store.rows import StoredRows
from distillbench.store.samples import SampleWriter, load_samples, open_samples

ASKED: list[Callable[[Any], torch.Tensor]] = [
    lambda x: x[:],
    lambda x: x[3:4],
    lambda x: x[6:15],
    lambda x: x[15:6],
    lambda x: x[-3:],
    lambda x: x[90:99],
    lambda x: x[1:20:5],
    lambda x: x[4],
    lambda x: x[-1],
    lambda x: x[[11, 0, 11]],
    lambda x: x[torch.tensor([2, 9])],
    lambda x: torch.stack(list(x)),
]


def written(folder: Path, data: torch.Tensor, batch: int = 4) -> StoredRows:
    writer = SampleWriter(folder)
    for part in data.split(batch):
        writer.add(part)
    writer.close([""] * len(data), [""] * len(data), 0)
    rows: Any = open_samples(folder).data
    return rows


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "SHARD", 7)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("shape", [(20, 2), (20, 4, 5, 3), (20, 3, 4, 5, 3)])
def test_rows_are_those_of_the_tensor(
    asked: Callable[[Any], torch.Tensor], shape: tuple[int, ...], tmp_path: Path
) -> None:
    data = torch.arange(20 * 180).remainder(251)[: 20 * torch.Size(shape[1:]).numel()]
    data = data.reshape(shape).to(torch.uint8 if len(shape) > 2 else torch.float32)
    rows = written(tmp_path, data)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == (data.shape, data.dtype, data.ndim, 20)
    assert torch.equal(asked(rows), asked(data))
    if data.ndim == 5:
        assert torch.equal(asked(rows.flatten(0, 1)), asked(data.flatten(0, 1)))


def test_what_rows_on_disk_cannot_do_is_an_error(tmp_path: Path) -> None:
    rows: Any = written(tmp_path, torch.zeros(20, 2))
    for wrong in ((0, 1), torch.ones(20, dtype=torch.bool)):
        with pytest.raises(TypeError, match="a number, a slice or a list"):
            rows[wrong]
    with pytest.raises(IndexError):
        rows[20]
    with pytest.raises(TypeError, match="videos alone"):
        rows.flatten(0, 1)
    with pytest.raises(AttributeError):
        rows.float()


def test_a_shard_holds_no_more_bytes_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "SHARD_BYTES", 2 * 48)
    data = torch.arange(20 * 48).remainder(256).to(torch.uint8).reshape(20, 4, 4, 3)
    rows = written(tmp_path, data, batch=5)
    assert len(rows.shards) == 10
    assert torch.equal(load_samples(tmp_path).data, data)


@pytest.mark.parametrize("damage", ["type", "bytes", "gone"])
def test_damage_between_opening_and_reading_is_a_line(damage: str, tmp_path: Path) -> None:
    rows = written(tmp_path, torch.zeros(20, 2))
    last = rows.shards[-1]
    if damage == "type":
        save_file({"samples": torch.zeros(6, 2, dtype=torch.float64)}, last)
        with pytest.raises(ArtifactError, match="another shape or type"):
            open_samples(tmp_path)
        return
    last.unlink() if damage == "gone" else last.write_bytes(b"\0" * 20)
    with pytest.raises(ArtifactError, match=last.name):
        rows[15:]
