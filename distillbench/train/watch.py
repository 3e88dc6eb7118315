"""Numbers that are not finite, found without holding up a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from distillbench.errors import NonFiniteLoss
from distillbench.train.ranks import Team

__all__ = ["Watch"]

EVERY = 10
"""Steps between two looks at a GPU's numbers: each waits for all that was launched before it."""


@dataclass
class Watch:
    """Collects whether losses and gradients are finite and raises where some are not.

    On a processor it looks before every update, so that nothing is changed by a bad one. On a GPU
    that would be a synchronisation for each; it looks every few steps and before every checkpoint,
    and names the first bad step. Until then the weights may take in what is not finite, and no
    checkpoint does.

    Attributes:
        method: its name, for the error.
        every: steps between two looks; 0 looks at every update.
    """

    method: str
    team: Team
    every: int
    _seen: list[tuple[int, str, torch.Tensor]] = field(default_factory=list)

    @staticmethod
    def of(method: str, team: Team) -> Watch:
        """The watch that suits the team's device."""
        return Watch(method, team, EVERY if team.device.startswith("cuda") else 0)

    def see(self, step: int, turn: str, good: Sequence[torch.Tensor], saved_at: str) -> None:
        """Note a turn's losses and gradients, two booleans, whether each kind is finite.

        Raises:
            NonFiniteLoss: one is not, in any rank; `saved_at` is named as the last checkpoint.
        """
        self._seen.append((step, turn, torch.stack(list(good))))
        if not self.every:
            self.look(saved_at)

    def stepped(self, step: int, saved_at: str) -> None:
        """Look where it is time to; raises as `see`."""
        if self.every and step % self.every == 0:
            self.look(saved_at)

    def look(self, saved_at: str) -> None:
        """Wait for all that was noted; raises as `see`."""
        seen, self._seen = self._seen, []
        if not seen:
            return
        rows = torch.stack([good for _, _, good in seen]).tolist()
        bad = next((i for i, row in enumerate(rows) if not all(row)), len(rows))
        # Every rank has as many rows, and the first bad one of any counts.
        bad = self.team.least(bad)
        if bad == len(rows):
            return
        step, turn, _ = seen[bad]
        what = "loss" if not rows[bad][0] else "gradient"
        raise NonFiniteLoss(
            f"{self.method}: {what} of turn {turn!r} is not finite at step {step + 1}; last good "
            f"checkpoint: {saved_at}",
            hint="lower train.lr_scale or train in float32",
        )
