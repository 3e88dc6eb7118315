"""Where a student that re-noises its own samples makes its next prediction in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from distillbench.core.lazy import torch

if TYPE_CHECKING:
    from distillbench.core.process import NoiseProcess
    from distillbench.train.method import Batch

__all__ = ["from_data", "simulated"]


def simulated(
    process: NoiseProcess,
    nodes: torch.Tensor,
    batch: Batch,
    turn: str,
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_t, t) by backward simulation (DMD2, arXiv 2405.14867, section 4.5), which sees no data.

    Samples as the student is sampled, with fresh noise at each of its steps, up to ONE of its
    `nodes` (K,) for all samples of an update: the cost is then the same everywhere. `predict`
    takes (x, t) and gives x0.
    """
    x = batch.randn(turn, "start")
    last = batch.shared_randint(0, len(nodes), turn, "steps")
    for i in range(last):
        x0 = predict(x, nodes[i].expand(len(batch)))
        x = process.add_noise(x0, batch.randn(turn, "step", i), nodes[i + 1])
    return x, nodes[last].expand(len(batch))


def from_data(
    process: NoiseProcess, nodes: torch.Tensor, batch: Batch, turn: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noised latents at nodes of their own, but pure noise at the first one, as in sampling."""
    assert batch.latents is not None, "data input needs real latents"
    noise = batch.randn(turn, "start")
    k = batch.randint(0, len(nodes), turn, "node")
    x = process.add_noise(batch.latents, noise, nodes[k])
    return torch.where((k == 0).reshape(-1, *[1] * (x.ndim - 1)), noise, x), nodes[k]
