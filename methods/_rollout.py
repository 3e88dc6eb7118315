"""The student's own trajectory in training, and the solver step that leads on from any of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from distillbench.core.lazy import torch
from distillbench.core.solve import ddim

if TYPE_CHECKING:
    from distillbench.core.process import NoiseProcess

__all__ = ["Rollout", "Solver", "roll_out", "step_eps"]

Solver = Literal["ddim", "dpmsolver++"]


@dataclass(frozen=True)
class Rollout:
    """The student's trajectory: its inputs x and predictions at the K nodes, each (K, B, ...)."""

    x: torch.Tensor
    x0: torch.Tensor
    eps: torch.Tensor

    def at(self, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(x_u, x0, eps) of node k[b] for each sample b."""
        b = torch.arange(len(k), device=k.device)
        return self.x[k, b], self.x0[k, b], self.eps[k, b]

    def x0_before(self, k: torch.Tensor) -> torch.Tensor:
        """x0 of the node before k[b]; of the first node its own."""
        return self.x0[(k - 1).clamp(min=0), torch.arange(len(k), device=k.device)]


def roll_out(
    process: NoiseProcess,
    predict: Callable[[torch.Tensor, torch.Tensor], Any],
    nodes: torch.Tensor,
    x: torch.Tensor,
    solver: Solver,
) -> Rollout:
    """Run the solver from noise x through `nodes` (K,), first to last, without gradient.

    `predict` takes (x, t) and gives a Prediction. The states are those of `OdeSampler`.
    """
    states: list[tuple[torch.Tensor, ...]] = []
    with torch.no_grad():
        for i, u in enumerate(nodes):
            if states:
                done, k = _stacked(states), torch.full((len(x),), i - 1, device=x.device)
                eps = step_eps(process, solver, nodes, done, k, u.expand(len(x)), *states[-1])
                x = ddim(states[-1][1], eps, *process.alpha_sigma(u, x))
            pred = predict(x, u.expand(len(x)))
            states.append((x, pred.x0, pred.eps))
    return _stacked(states)


def _stacked(states: list[tuple[torch.Tensor, ...]]) -> Rollout:
    return Rollout(*(torch.stack(part) for part in zip(*states, strict=True)))


def step_eps(
    process: NoiseProcess,
    solver: Solver,
    nodes: torch.Tensor,
    rollout: Rollout,
    k: torch.Tensor,
    m: torch.Tensor,
    x_u: torch.Tensor,
    x0: torch.Tensor,
    eps: torch.Tensor,
) -> torch.Tensor:
    """The noise with which `ddim(x0, eps, m)` is this solver's step from node k to time m.

    DDIM's is the predicted one. DPM-Solver++(2M) (arXiv 2211.01095) is a DDIM step with the
    prediction extrapolated from the last node's, which is data here: no gradient flows into the
    history. As in sampling, the first step and the step of the last node are first order.

    Args:
        nodes: (K,) times, first to last.
        k: (B,) node of each sample, m (B,) its end; CLEAN is first order.
        x_u, x0, eps: state and prediction at node k, (B, ...).
    """
    if solver == "ddim":
        return eps

    def shaped(value: torch.Tensor) -> torch.Tensor:
        return value.reshape(-1, *[1] * (x0.ndim - 1))

    u, before = nodes[k], nodes[(k - 1).clamp(min=0)]
    (alpha_u, sigma_u), (alpha_m, sigma_m) = (process.alpha_sigma(t, x0) for t in (u, m))
    log_snr = [(a / s).log() for a, s in (process.alpha_sigma(t, x0) for t in (before, u, m))]
    first_order = shaped((k == 0) | (k == len(nodes) - 1) | (m < 0))
    share = (log_snr[2] - log_snr[1]) / (2 * (log_snr[0] - log_snr[1]))  # 1 / 2r
    share = torch.where(first_order, torch.zeros_like(share), share)
    shift = share * (rollout.x0_before(k) - x0)
    second = (x_u - alpha_u * (x0 + shift)) / sigma_u + alpha_m / sigma_m.clamp(min=1e-6) * shift
    return torch.where(first_order, eps, second)
