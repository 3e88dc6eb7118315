"""A role that is what another was when a phase of the training began, and is not trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillbench.api.nets import NetHandle

__all__ = ["take"]


def take(into: NetHandle, of: NetHandle, *, now: bool) -> None:
    """Copy the weights of a role `now`, in the phase's first step, before it is updated there.

    Checkpoints keep the copy, so that a resumed run goes on with it; taken twice in one step, as
    with several micro-batches, it is the same.
    """
    if now:
        into.load_tensors(of.named())
