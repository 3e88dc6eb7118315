"""Data noised to times of other laws than the uniform one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from distillbench.core.lazy import torch
from distillbench.core.process import per_sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distillbench.api.method import Batch, Method

__all__ = ["drawn_node", "logit_normal_noised", "noised_nodes", "simulated_nodes"]


def drawn_node(nodes: Sequence[int], batch: Batch, stream: str) -> torch.Tensor:
    """(B,) which of the nodes each sample of a stream is at."""
    return batch.randint(0, len(nodes), stream, "node")


def noised_nodes(
    method: Method, x0: torch.Tensor, nodes: Sequence[int], batch: Batch, stream: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_u, u): x0 at one of a student's input times, pure noise at the first, as in sampling."""
    times, start = torch.tensor(nodes, device=batch.device), batch.randn(stream, "start")
    k = drawn_node(nodes, batch, stream)
    x = method.backbone.process.add_noise(x0, start, times[k])
    return torch.where(per_sample(k == 0, x) > 0, start.to(x.dtype), x), times[k]


def simulated_nodes(
    method: Method, nodes: Sequence[int], batch: Batch, stream: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_u, u): as `noised_nodes`, but of the student's own samples of the steps before."""
    times, x = torch.tensor(nodes, device=batch.device), batch.randn(stream, "start")
    k, states = drawn_node(nodes, batch, stream), [x]
    with torch.no_grad():
        for i, (u, to) in enumerate(pairwise(times)):
            x0 = method.predict("student", x, u.expand(len(batch)), batch).x0
            x = method.backbone.process.add_noise(x0, batch.randn(stream, "step", i), to)
            states.append(x)
    return torch.stack(states)[k, torch.arange(len(batch), device=batch.device)], times[k]


def logit_normal_noised(
    method: Method, x0: torch.Tensor, batch: Batch, stream: str, mean: float, std: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_t, t): x0 at times T sigmoid(mean + std n), with fresh noise."""
    process = method.backbone.process
    n = torch.randn(len(batch), generator=batch.rng(stream, "time")).to(batch.device)
    t = process.num_timesteps * (mean + std * n).sigmoid()
    t = t if process.kind == "flow" else t.long().clamp(max=process.num_timesteps - 1)
    return process.add_noise(x0, batch.randn(stream, "noise"), t), t
