"""Rows that a process holds of a tensor: as torch deals them, uneven ones too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from distillbench.core.parts import is_dealt, joined, mine, part, put

RANKS = 3
SHAPES = [(6, 2), (7, 2), (2,), (1, 3), (4, 1, 2), (0, 2)]


@pytest.fixture(params=range(RANKS))
def rank(request: pytest.FixtureRequest) -> Iterator[int]:
    """One of three ranks, of which the others are not there."""
    dist.init_process_group("fake", store=FakeStore(), rank=request.param, world_size=RANKS)
    yield request.param
    dist.destroy_process_group()


def dealt(whole: torch.Tensor) -> DTensor:
    mesh = init_device_mesh("cpu", (RANKS,))
    return distribute_tensor(whole, mesh, [Shard(0)], src_data_rank=None)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_those_that_torch_deals(rank: int, shape: tuple[int, ...]) -> None:
    whole = torch.rand(shape)
    made = dealt(whole)
    assert is_dealt(made)
    assert torch.equal(mine(whole, made), made.to_local())
    other = torch.rand(shape)
    put(made, other)  # a whole one
    assert torch.equal(made.to_local(), mine(other, made))
    put(made, dealt(whole))  # and one that is dealt alike
    assert torch.equal(part(made), mine(whole, made))


def test_others_are_left_as_they_are() -> None:
    whole, other = torch.rand(3, 2, requires_grad=True), torch.rand(3, 2)
    assert not is_dealt(whole)
    assert part(whole) is whole
    assert mine(other, whole) is other
    put(whole, other)
    assert torch.equal(whole, other)
    copy = joined(whole, whole)
    assert not copy.requires_grad
    assert copy.data_ptr() != whole.data_ptr()
