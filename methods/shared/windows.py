"""Windows of time, and the straight paths within them (PeRFlow, arXiv 2405.07510)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from distillbench.api.samplers import OdeSampler
from distillbench.api.stock_samplers import WindowsSampler
from distillbench.core.lazy import torch
from distillbench.core.process import per_sample
from distillbench.core.windows import factors, on_line, straight
from distillbench.errors import NotSupported

from .scores import velocity

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone, Prediction
    from distillbench.api.method import Batch
    from distillbench.api.sampler import Sampler

    from ..settings.perflow import PeRFlowConfig

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """Window k goes from time s = edges[k] down to e = edges[k + 1].

    Noise is read at times 1 to T, where t stands for index t - 1 of the training times, as
    released; a velocity at the training times themselves, between the family's own nodes.
    """

    config: PeRFlowConfig
    backbone: Backbone

    @property
    def straight(self) -> bool:
        """Whether paths are straight in x / (alpha + sigma), not in x and time."""
        return self.config.reads == "velocity"

    def check(self) -> None:
        """Refuse what no window can be made of, before anything is loaded.

        Raises:
            NotSupported: noise of a flow model; windows that do not divide integer times; solver
                steps that they have not.
        """
        config, total = self.config, self.backbone.num_timesteps
        flow, name = self.backbone.process_kind == "flow", self.backbone.name
        if flow and not self.straight:
            raise NotSupported(
                f"reads: {self.config.reads} is of diffusion, backbone {name} is a flow model",
                hint="set reads: velocity",
            )
        if not flow and total % config.windows:
            raise NotSupported(
                f"{config.windows} windows do not divide the {total} times of backbone {name}",
                hint=f"set windows to a divisor of {total}",
            )
        if not flow and config.solver_steps * config.windows > total:
            raise NotSupported(
                f"{config.solver_steps} solver steps do not fit a window of "
                f"{total // config.windows} times",
                hint="set solver_steps lower",
            )

    def check_signal(self) -> None:
        """Refuse noise readings of a loaded process whose noisiest time has no signal.

        Raises:
            NotSupported: it has none, so that no noise tells the first window's end.
        """
        process = self.backbone.process
        alpha, _ = process.alpha_sigma(process.num_timesteps - 1, torch.zeros(1))
        if not self.straight and not float(alpha):
            raise NotSupported(
                f"reads: {self.config.reads} needs signal at the first time, and backbone "
                f"{self.backbone.name} starts without",
                hint="set reads: velocity",
            )

    def edges(self) -> tuple[float, ...]:
        """First to last, W + 1; the last is where samples end."""
        if self.straight:
            return (*self.backbone.nodes(self.config.windows), self.backbone.process.final)
        count = self.config.windows
        return (*WindowsSampler.times(count, count, self.backbone.num_timesteps), 0)

    def draw(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(t, s, e), each (B,): s >= t > e, times uniform on all windows but for `start_share`."""
        edges = torch.tensor(self.edges(), device=batch.device)
        first, last = self.edges()[0], self.edges()[-1]
        if self.backbone.process_kind == "flow":
            t = first - batch.rand("time") * (first - last)
            edges = edges.to(t.dtype)
        else:
            t = int(first) - batch.randint(0, int(first - last), "time")
        k = (t[:, None] <= edges[None, 1:]).sum(1)
        s = edges[k].to(t.dtype)
        if self.config.start_share:
            t = torch.where(batch.rand("at start") < self.config.start_share, s, t)
        return t, s, edges[k + 1].to(t.dtype)

    def index(self, t: torch.Tensor) -> torch.Tensor:
        """The training times that times of windows stand for."""
        return t if self.straight else (t - 1).clamp(min=0)

    def parts(self, s: torch.Tensor, e: torch.Tensor, count: int) -> list[torch.Tensor]:
        """The training times of `count` solver steps from s to e, (B,) each."""
        high, low = self.index(s), self.index(e)
        times = [high - (high - low) * (i / count) for i in range(count + 1)]
        return times if high.is_floating_point() else [t.round().long() for t in times]

    def point(
        self, x_s: torch.Tensor, x_e: torch.Tensor, t: torch.Tensor, s: torch.Tensor,
        e: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """x_t on the straight path, and what the network is to read there, (B, ...) each."""
        process, ends = self.backbone.process, (self.index(s), self.index(e))
        if self.straight:
            (c_t, at_t), (c_s, at_s), (c_e, at_e) = (straight(process, v, x_s) for v in (t, s, e))
            v = (x_s / c_s - x_e / c_e) / (at_s - at_e)
            return c_t * (x_e / c_e + (at_t - at_e) * v), v
        reads: Any = self.config.reads
        ratio, n = factors(reads, *(process.alpha_sigma(v, x_s) for v in ends))
        times = (per_sample(v, x_s) for v in (s, e, t))
        return on_line(x_s, x_e, *times), (x_e - ratio * x_s) / n

    def read(self, pred: Prediction) -> torch.Tensor:
        """What the network says."""
        return velocity(pred) if self.straight else pred.eps

    def sampler(self, nfe: int) -> Sampler:
        """Straight steps, each window cut into equal ones.

        Raises:
            NotSupported: fewer steps than windows, or more than there are times.
        """
        count, total = self.config.windows, self.backbone.num_timesteps
        try:
            times = WindowsSampler.times(nfe, count, total)
        except ValueError as error:
            raise NotSupported(str(error)) from None
        if len(set(times)) < nfe or times[-1] < 1:
            raise NotSupported(f"{nfe} steps are more than the {total} times")
        if not self.straight:
            reads: Any = self.config.reads
            return WindowsSampler(timesteps=times, windows=count, reads=reads)
        return OdeSampler(timesteps=self._inside(nfe), solver="ddim")

    def _inside(self, nfe: int) -> tuple[float, ...]:
        """The times of `nfe` steps between the family's nodes."""
        count, flow = self.config.windows, self.backbone.process_kind == "flow"
        edges, found = (*self.backbone.nodes(count), 0 if flow else -1), list[float]()
        for k, (s, e) in enumerate(pairwise(edges)):
            steps = nfe // count + (k < nfe % count)
            times = [s - i * (s - e) / steps for i in range(steps)]
            found += times if flow else [round(t) for t in times]
        return tuple(found)
