"""The student's own few-step ODE trajectory, and the solver step that leads on from any of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distillbench.core.lazy import torch
from distillbench.core.process import NoiseProcess, per_sample
from distillbench.core.solve import ddim

__all__ = ["Solver", "Trajectory", "roll_out"]

Solver = Literal["ddim", "dpmsolver++"]


@dataclass(frozen=True)
class Trajectory:
    """States x_u of the student and its predictions there, each (K, B, ...), at the K nodes u."""

    process: NoiseProcess
    solver: Solver
    nodes: torch.Tensor
    x: torch.Tensor
    x0: torch.Tensor
    eps: torch.Tensor

    def at(self, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(x_u, x0, eps) of node k[b] for each sample b."""
        b = torch.arange(len(k), device=k.device)
        return self.x[k, b], self.x0[k, b], self.eps[k, b]

    def step_eps(
        self, k: torch.Tensor, m: torch.Tensor, x0: torch.Tensor, eps: torch.Tensor
    ) -> torch.Tensor:
        """The noise with which `ddim(x0, eps, m)` is this solver's step from node k to time m.

        DDIM's is the predicted one. DPM-Solver++(2M) (arXiv 2211.01095) is a DDIM step with the
        prediction extrapolated from the last node's, which carries no gradient. As in sampling,
        the first step, the step of the last node and a step to CLEAN are first order.

        Args:
            k: (B,) node of each sample, m (B,) the time its step ends at.
            x0, eps: (B, ...) prediction at node k, which may carry gradient.
        """
        if self.solver == "ddim":
            return eps
        last = (k - 1).clamp(min=0)
        x_u, x0_last = self.at(k)[0], self.at(last)[1]
        times = (self.nodes[last], self.nodes[k], m)
        (a_l, s_l), (a_u, s_u), (a_m, s_m) = (self.process.alpha_sigma(t, x0) for t in times)
        lam_l, lam_u, lam_m = (a_l / s_l).log(), (a_u / s_u).log(), (a_m / s_m).log()
        first = per_sample((k == 0) | (k == len(self.nodes) - 1) | (m < 0), x0) > 0
        share = (lam_m - lam_u) / (2 * (lam_l - lam_u))  # 1 / 2r
        shift = torch.where(first, torch.zeros_like(share), share) * (x0_last - x0)
        second = (x_u - a_u * (x0 + shift)) / s_u + a_m / s_m.clamp(min=1e-6) * shift
        return torch.where(first, eps, second)


def roll_out(
    process: NoiseProcess,
    solver: Solver,
    nodes: Sequence[int],
    predict: Callable[[torch.Tensor, torch.Tensor], Any],
    x: torch.Tensor,
) -> Trajectory:
    """Run the solver from noise x through the nodes, first to last, without gradient.

    `predict` takes (x, t) and gives a prediction (x0, eps). The states are those of `OdeSampler`.
    """
    times = torch.tensor(nodes, device=x.device)
    states: list[tuple[torch.Tensor, ...]] = []
    with torch.no_grad():
        for i, u in enumerate(times):
            if states:
                path, k = _path(process, solver, times, states), torch.full_like(times[:1], i - 1)
                _, x0, eps = states[-1]
                eps = path.step_eps(k.expand(len(x)), u.expand(len(x)), x0, eps)
                x = ddim(x0, eps, *process.alpha_sigma(u, x))
            pred = predict(x, u.expand(len(x)))
            states.append((x, pred.x0, pred.eps))
    return _path(process, solver, times, states)


def _path(process: NoiseProcess, solver: Solver, nodes: torch.Tensor, states: Any) -> Trajectory:
    return Trajectory(process, solver, nodes, *map(torch.stack, zip(*states, strict=True)))
