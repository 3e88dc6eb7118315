"""The segments of TDM's trajectory: between its nodes, and the times drawn inside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillbench.core.grid import lower_bounds, tau_ranges, uniform_int
from distillbench.core.lazy import torch
from distillbench.core.process import CLEAN
from distillbench.core.schedules import tdm_nodes
from distillbench.errors import NotSupported

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone
    from distillbench.api.method import Batch

    from ..settings.tdm import MatchingConfig

__all__ = ["Segments"]


@dataclass(frozen=True)
class Segments:
    """Segment k lies between the node u_k, where the student predicts, and the next one below."""

    config: MatchingConfig
    backbone: Backbone

    def nodes(self, steps: int) -> tuple[int, ...]:
        """Input times u_{K-1} > .. > u_0 of K steps."""
        horizon = self.config.horizon
        return tdm_nodes(steps, horizon) if horizon else self.backbone.nodes(steps)

    def times(
        self, nodes: Sequence[int], k: torch.Tensor, batch: Batch, turn: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The matched time m and the re-noising time tau >= m, (B,), in segment k[b] of each."""
        config, exact = self.config, self.backbone.process_kind == "flow"
        ranges = torch.tensor(tau_ranges(nodes, config.tau, exact=exact), device=k.device)[k]
        low, high = ranges[:, 0], ranges[:, 1]
        m = torch.tensor(lower_bounds(nodes, exact=exact), device=k.device)[k]
        if config.random_matching_time:
            u = torch.tensor(nodes, device=k.device)[k]
            m = uniform_int(batch.rand(turn, "m"), m, u - 20)
            low = torch.maximum(low, m)
        if config.match == "clean":
            m, low = torch.full_like(m, CLEAN), torch.full_like(low, 20)
            high = torch.full_like(high, nodes[0] + (0 if exact else 1) - 10)
        share = batch.rand(turn, "tau")
        return m, (low + share * (high - low) if exact else uniform_int(share, low, high))

    def check(self, steps: int, name: str) -> None:
        """Refuse, before anything is loaded, what would fail at the first batch of K `steps`.

        Raises:
            NotSupported: a horizon above the training times or where a family shifts its times, or
                segments too short to draw from.
        """
        config, nodes, total = self.config, self.nodes(steps), self.backbone.num_timesteps
        exact = self.backbone.process_kind == "flow"
        if config.horizon and config.horizon > total:
            raise NotSupported(f"horizon {config.horizon} is above the {total} training times")
        if config.horizon and self.backbone.nodes(steps) != tdm_nodes(steps, total):
            what, others = "evenly spaced", f"{self.backbone.name} shifts its own"
            if exact and self.backbone.time_shift == 1:
                what, others = "integer", f"those of {self.backbone.name} are real"
            raise NotSupported(f"horizon is for {what} times, and {others}")
        try:
            tau_ranges(nodes, config.tau, exact=exact)
        except ValueError:
            short = True
        else:
            lows = lower_bounds(nodes, exact=exact)
            short = config.random_matching_time and any(
                u - 20 <= m for u, m in zip(nodes, lows, strict=True)
            )
        if short:
            raise NotSupported(
                f"{steps} steps are too many for {name}: a segment would have no times",
                hint="train fewer steps",
            )
