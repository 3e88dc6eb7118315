"""What networks of scorers compute in: float32, or bfloat16 where a metric's setting says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict

from distillbench.api.fields import ADDED
from distillbench.core.lazy import torch

__all__ = ["Precision", "PrecisionConfig", "computing_in", "current", "forward", "precision_of"]

Precision = Literal["float32", "bfloat16"]

_current: ContextVar[Precision] = ContextVar("precision", default="float32")


class PrecisionConfig(BaseModel):
    """Settings of a metric whose network can compute in less than float32.

    Attributes:
        precision: float32 | bfloat16: what the network's products are in. Values differ in the
            third digit, so that the two have keys and columns of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Annotated[Precision, ADDED] = "float32"


def precision_of(config: BaseModel) -> Precision:
    """What a metric's networks compute in."""
    return config.precision if isinstance(config, PrecisionConfig) else "float32"


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Run every `forward` inside the block in this precision."""
    token = _current.set(precision)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Precision:
    """That of the block we are in."""
    return _current.get()


def forward(device: str) -> AbstractContextManager[None]:
    """A network's forward pass: under autocast below float32, untouched otherwise.

    What goes in is float32, and what comes out may be less: callers continue with `.float()`.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=current() != "float32")
