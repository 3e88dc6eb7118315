"""TSCD's settings, and the table of phases that they ask for."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from distillbench.api.fields import ADDED, SAMPLING, renamed
from distillbench.errors import NotSupported

from .consistency import ScaleOrRange, TrajectoryConfig
from .nets import RolesConfig

__all__ = ["Phase", "TSCDConfig"]

Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Phase:
    """What is trained in one phase: the segments, the weights of both distances, the one step."""

    segments: int
    w_mse: float
    w_adv: float
    one_step: bool = False


class TSCDConfig(RolesConfig, TrajectoryConfig):
    """TSCD's settings (Hyper-SD, arXiv 2404.13686, section 3.1; `one_step`: section 3.3).

    The paper gives the phases, an averaged target, noise with an offset, and a distance that goes
    from squared error to adversarial. It does not give their strengths, the grid or the guidance;
    those are our choices.

    Attributes:
        solver_steps: N. 40 puts the edges of 8, 4, 2 segments on the times DDIM's "trailing"
            spacing stops at; on a grid of 50 they would lie up to 15 times away.
        teacher_guidance: scale of the teacher, which is the original model in all phases.
        target: "ema" as published.
        segments: of the phases, each starting from the weights of the one before.
        phase_updates: share of the training's updates that each phase takes, as their numbers or in
            any other unit; None shares them equally. Phases after `stop_at_segments` have none,
            `one_step` has the last.
        stop_at_segments: the last phase; its segments are the least number of sampling steps.
        ends: draw where jumps end on the "grid" between the segment's lower edge and u, or take the
            "edge" always, which is PCM (arXiv 2405.18407): `segments: [4]`, `stop_at_segments: 4`,
            `distance: huber`, no
            offset noise, guidance 5 to 6 (its w from 4 to 5) on SD v1.5.
        w_mse, w_adv: weights of the two distances, one per entry of `segments`. The paper lowers
            the one and raises the other from phase to phase. The adversary's gradient is scaled to
            the squared error's length, so 1 is strong: keep w_mse, which holds the student to its
            trajectory, well above it. Zeros, the default, train no discriminator, as its published
            strength is unknown.
        disc_lr: of the discriminator's head.
        offset_noise: standard deviation of noise that is constant over each channel and added to
            the noise of training.
        gamma: stochasticity of sampling (TCD's; the paper's unified student uses that scheduler,
            with 1 for one step and less for more) after a last phase of one segment; None samples
            with DDIM.
        one_step: a last phase that goes on with the loss of one segment, which keeps 2 to 8 steps
            working, and matches the teacher's distribution in one step from pure noise.
        w_dmd: weight of that matching (DMD, arXiv 2311.18828); 0 trains no fake score. Its gradient
            is normalised to about 1, the consistency loss's is that of neighbours' small distance;
            more weight is a better single step and worse 2 to 8 (our choice, as of the next).
        w_one_step_mse: weight of the squared error to the teacher's ODE from the same noise. The
            paper has such a term "for stability" and does not say to what.
        one_step_solver_steps: of that ODE.
        one_step_teacher_guidance: scale in that phase; None takes `teacher_guidance`.
        fake_lr: of the fake score, which starts as the teacher and is never guided.
        fake_updates: of the fake score for one of the student, 1 as in DMD.
    """

    solver_steps: PositiveInt = 40
    teacher_guidance: ScaleOrRange = (7.5, 7.5)
    target: Literal["ema", "stopgrad"] | None = "ema"
    segments: tuple[PositiveInt, ...] = (8, 4, 2, 1)
    phase_updates: Annotated[tuple[PositiveInt, ...] | None, renamed("stage_steps")] = None
    stop_at_segments: PositiveInt = 1
    ends: Annotated[Literal["grid", "edge"], ADDED] = "grid"
    w_mse: tuple[Weight, ...] = (1.0, 1.0, 1.0, 1.0)
    w_adv: tuple[Weight, ...] = (0.0, 0.0, 0.0, 0.0)
    disc_lr: float = Field(1e-4, gt=0)
    offset_noise: float = Field(0.05, ge=0)
    gamma: Annotated[float | None, SAMPLING] = Field(None, ge=0, le=1)
    one_step: bool = False
    w_dmd: Weight = 0.01
    w_one_step_mse: Weight = 0.01
    one_step_solver_steps: PositiveInt = 8
    one_step_teacher_guidance: Annotated[float | None, renamed("one_step_guidance")] = Field(
        None, ge=1
    )
    fake_lr: PositiveFloat = 1e-4
    fake_updates: PositiveInt = 1

    @model_validator(mode="after")
    def _phases_fit(self) -> TSCDConfig:
        if not self.segments or any(a <= b for a, b in pairwise(self.segments)):
            raise ValueError("segments must be a falling list of at least one")
        if wrong := [k for k in self.segments if self.solver_steps % k]:
            raise ValueError(f"{wrong[0]} segments do not divide {self.solver_steps} solver_steps")
        if self.stop_at_segments not in self.segments:
            phases = ", ".join(map(str, self.segments))
            raise ValueError(f"stop_at_segments {self.stop_at_segments} is not one of {phases}")
        if len(self.segments) != len(self.w_mse) or len(self.segments) != len(self.w_adv):
            raise ValueError("w_mse and w_adv must have one entry for each entry of segments")
        if any(not mse and not adv for mse, adv in zip(self.w_mse, self.w_adv, strict=True)):
            raise ValueError("a phase with both w_mse and w_adv 0 trains nothing")
        if self.phase_updates is not None and len(self.phase_updates) != len(self.phases):
            last = ", the one step included" if self.one_step else ""
            raise ValueError(
                f"phase_updates must have one entry for each of {len(self.phases)} phases{last}"
            )
        return self

    @model_validator(mode="after")
    def _one_segment(self) -> TSCDConfig:
        if self.gamma and self.stop_at_segments > 1:
            raise ValueError("gamma needs stop_at_segments 1: its jumps cross the edges")
        if self.one_step and self.stop_at_segments > 1:
            raise ValueError("one_step needs stop_at_segments 1: it jumps across all segments")
        if self.one_step and not self.w_dmd and not self.w_one_step_mse:
            raise ValueError("one_step with both w_dmd and w_one_step_mse 0 trains nothing")
        return self

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that are trained, first to last."""
        rows = zip(self.segments, self.w_mse, self.w_adv, strict=True)
        phases = [Phase(*row) for row in rows if row[0] >= self.stop_at_segments]
        last = [replace(phases[-1], one_step=True)] if self.one_step else []
        return (*phases, *last)

    @property
    def adversarial(self) -> bool:
        """Whether any phase has a discriminator."""
        return any(phase.w_adv for phase in self.phases)

    @property
    def matches(self) -> bool:
        """Whether there is a fake score to match distributions with."""
        return self.one_step and self.w_dmd > 0

    def check_steps(self, nfe: int, name: str) -> None:
        """Refuse sampling steps that do not stop at every edge of the last phase's segments.

        Raises:
            NotSupported: no such times on the solver grid.
        """
        least = self.stop_at_segments
        if nfe % least or not 0 < nfe <= self.solver_steps:
            raise NotSupported(
                f"{name} trained down to {least} segments takes multiples of {least} up to "
                f"{self.solver_steps} steps, not {nfe}"
            )

    def phase(self, step: int, total_steps: int) -> Phase:
        """The phase of a step in a training of `total_steps`; of 0, the first."""
        shares = self.phase_updates or (1,) * len(self.phases)
        ends = [total_steps * part // sum(shares) for part in accumulate(shares)]
        return self.phases[min(bisect_right(ends, step), len(ends) - 1) if total_steps else 0]
