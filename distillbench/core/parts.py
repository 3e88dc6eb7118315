"""Tensors of which each process of a training holds a part: some of the rows, as FSDP2 deals them.

Rank r of n holds rows r ceil(R / n) up to the next rank's, so that the last parts may be shorter or
empty. What takes a whole tensor here takes any, and leaves it as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distillbench.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["is_dealt", "joined", "mine", "part", "put"]


def is_dealt(tensor: Tensor) -> bool:
    """Whether other processes hold other rows of it."""
    return hasattr(tensor, "placements")


def part(tensor: Tensor) -> Tensor:
    """The rows that this process holds, in the same memory and without gradient; else itself."""
    dealt: Any = tensor
    return dealt.detach().to_local() if is_dealt(tensor) else tensor


def mine(whole: Tensor, like: Tensor) -> Tensor:
    """Those rows of a whole tensor that this process holds of one of its shape."""
    if not is_dealt(like):
        return whole
    dealt: Any = like
    rows = -(-len(whole) // dealt.device_mesh.size())
    start = dealt.device_mesh.get_local_rank() * rows
    return whole[start : start + rows]


def put(into: Tensor, value: Tensor) -> None:
    """Copy a whole tensor, or one that is dealt alike, into a tensor."""
    rows = part(value) if is_dealt(value) else mine(value, into)
    with torch.no_grad():
        part(into).copy_(rows)


def joined(rows: Tensor, like: Tensor) -> Tensor:
    """All rows of a tensor that is dealt as `like`, copied to the CPU.

    All processes call it in the same order; those above 0 take part and get an empty tensor, as a
    copy for each would fill a machine.
    """
    dealt: Any = like
    if not is_dealt(like):
        return rows.detach().to("cpu", copy=True).contiguous()
    from torch.distributed.tensor import DTensor

    mesh, shape = dealt.device_mesh, dealt.shape
    whole = DTensor.from_local(
        rows.detach(), mesh, dealt.placements, shape=shape, stride=dealt.stride()
    ).full_tensor()
    if mesh.get_rank():
        return rows.new_empty(0, device="cpu")
    return whole.to("cpu", copy=True).contiguous()
