"""Settings of the consistency family: LCM, TCD, and what TSCD shares with them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from distillbench.api.fields import ADDED, SAMPLING, renamed

from .nets import NetConfig

__all__ = ["ConsistencyConfig", "LCMConfig", "ScaleOrRange", "TCDConfig", "TrajectoryConfig"]


def _range(given: Any) -> Any:
    """One scale is a range whose ends are equal."""
    return (given, given) if isinstance(given, int | float) else given


ScaleOrRange = Annotated[tuple[float, float], BeforeValidator(_range), renamed("guidance")]


class ConsistencyConfig(NetConfig):
    """Settings of the consistency family.

    Attributes:
        solver_steps: N, the teacher's DDIM grid; one solver step spans T / N times. Real times of
            flow models, T S(j / N) with the family's time shift S, may have any N up to T.
        teacher_guidance: scale, or the range it is drawn from, usual convention g = w + 1.
        embed_guidance: feed the drawn scale to the student; None embeds it in full copies only, an
            adapter averages over the range.
        target: "ema" compares with an averaged student, "stopgrad" with the student itself; None
            takes "ema" for full copies. The averaged student is also the one that is sampled.
        ema_decay: of that average.
        distance: pseudo-Huber per element with `huber_c`, as LCM's scripts are run, or the mean
            squared error of its paper.
    """

    solver_steps: PositiveInt = 50
    teacher_guidance: ScaleOrRange = (3.0, 15.0)
    embed_guidance: bool | None = None
    target: Literal["ema", "stopgrad"] | None = None
    ema_decay: float = Field(0.95, gt=0, lt=1)
    distance: Literal["huber", "l2"] = "huber"
    huber_c: PositiveFloat = 1e-3

    @model_validator(mode="after")
    def _ordered(self) -> ConsistencyConfig:
        if not 1 <= self.teacher_guidance[0] <= self.teacher_guidance[1]:
            what = "a scale of at least 1 (1 = none), or two rising ones"
            raise ValueError(f"teacher_guidance must be {what}")
        return self

    @property
    def embeds(self) -> bool:
        """Whether the student is told the guidance scale."""
        varies = self.teacher_guidance[0] < self.teacher_guidance[1]
        full = self.kind("student") == "copy"
        return full and varies if self.embed_guidance is None else self.embed_guidance

    @property
    def averages(self) -> bool:
        """Whether an averaged student gives the targets."""
        return (self.target or ("ema" if self.kind("student") == "copy" else "stopgrad")) == "ema"


class LCMConfig(ConsistencyConfig):
    """LCM's settings; the defaults are LCM-LoRA (arXiv 2311.05556) with the paper's range.

    The paper writes guidance as w = g - 1 and draws w from [2, 14], i.e. g from 3 to 15 (the
    public training scripts: w in [5, 15] for SD, [3, 15] for SDXL; LCM-LoRA's authors: w = 7.5).
    Full fine-tuning: nets "copy", which embeds the guidance and averages the target; its published
    rates are 8e-6 (paper) and 1e-6 (scripts), the average's decay .999943 and .95.

    Attributes:
        sample_guidance: scale that a student with embedded guidance is asked for.
    """

    sample_guidance: Annotated[float, SAMPLING] = Field(8.0, ge=1)


class TrajectoryConfig(ConsistencyConfig):
    """Settings of trajectory consistency; the published distance is the mean squared error.

    Attributes:
        sample_guidance: scale that a student with embedded guidance is asked for.
    """

    distance: Literal["huber", "l2"] = "l2"
    sample_guidance: Annotated[float, SAMPLING] = Field(8.0, ge=1)


class TCDConfig(TrajectoryConfig):
    """TCD's settings (arXiv 2402.19159, section 5.1 and appendix C).

    The paper: AdamW at 4.5e-6 with weight decay 1e-2, w = g - 1 from [2, 14], 3000 steps of SDXL.
    Such a rate leaves an adapter where it is, so ours is higher. The authors released inference
    only, so "code" below means their scheduler.

    Attributes:
        tcf: the trajectory function: "1" first order (the paper's best, and ours), "2" second order
            (twice the evaluations), "S+" first order with a network that is told its end time.
        ends: draw s on the solver "grid" (students are sampled on it, and a network that is not
            told s has fewer ends to average over), or among all "integers" of [end, u] as in the
            paper, for a flow model all "reals". "S+" profits from the latter, since sampling asks
            for ends between grid times.
        gamma: share of stochasticity in sampling; 0.3 as in the released scheduler, the paper's
            text has 0.2. More steps want more of it.
        soft_steps: M, the most solver steps from t to u. An update takes one m of 1 to M with
            chance m / (1 + .. + M) for all of its samples, which end at the grid's if m reaches
            beyond (CTM's soft target, arXiv 2310.02279); 1 is TCD.
        w_score: weight of CTM's score matching beside, | eps_theta(x_t, t) - n |^2 on real latents
            at any time ("S+": with s = t). The latents know no guidance: a student that embeds it
            is told 1, another is drawn away from its guided teacher. CTM's GAN and its balance of
            weights are not offered.
    """

    tcf: Literal["1", "2", "S+"] = "1"
    ends: Literal["grid", "integers", "reals"] = "grid"
    gamma: Annotated[float, SAMPLING] = Field(0.3, ge=0, le=1)
    soft_steps: Annotated[PositiveInt, ADDED] = 1
    w_score: Annotated[float, ADDED] = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _soft_steps_fit(self) -> Self:
        if self.soft_steps > self.solver_steps:
            raise ValueError(
                f"soft_steps {self.soft_steps} are more than {self.solver_steps} solver_steps"
            )
        return self
