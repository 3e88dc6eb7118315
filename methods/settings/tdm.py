"""TDM's settings, and those its variants share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from distillbench.api.fields import SAMPLING, renamed
from distillbench.core.loss import pseudo_huber, squared_error
from distillbench.core.trajectory import Solver

from .gan import GanConfig
from .nets import RolesConfig

if TYPE_CHECKING:
    import torch

__all__ = ["MatchingConfig", "TDMConfig", "TDMUnifyConfig"]


class MatchingConfig(RolesConfig):
    """What TDM and its variants share. Defaults follow the released code where the paper differs,
    but for betas, guidance and `tau`, which are the paper's (the code's demonstration: .95, 4.5 and
    "terminal" unless a flag is set).

    Published full fine-tuning: student 2e-6 (SDXL 1e-6), fake 2e-5 (SDXL 5e-6), AdamW betas
    (0, .999), guidance 3.5 (SDXL 8). Such rates leave an adapter where it is, so ours are higher.

    Attributes:
        horizon: T of the nodes, None for the backbone's own; the released PixArt student starts
            from pure noise at time 899 (900).
        teacher_guidance: scale, usual convention; the student is sampled without.
        fake_lr: of the fake score, which has to keep up with the student.
        fake_updates: of the fake score for one of the student, each on samples of its own; 1 as
            published. A step of training is one update of the student.
        tau: re-noise up to the segment's own node ("disjoint") or anywhere up to T ("terminal").
        random_matching_time: draw the matched time m inside the segment, not at its lower end.
        match: match the noisy states x_m, or ("clean") the clean predictions, as an ablation.
        fake_sampling: draw the fake score's inputs with importance weights "near_trajectory", or
            from "clean" predictions.
        fake_target: "x0" as published, or "dsm", the unbiased score of the re-noised states.
        divergence: "kl" (reverse), or "fisher", with gradients through both scores and x_tau; then
            the fake score is trained without importance weights and `loss` has no meaning.
        loss: pseudo-Huber or squared error to the moved prediction.
        huber_form, huber_c: per element with c = 1e-3 (released code), or of the whole "vector",
            whose published c, 0.00054 sqrt(d), has to be given: .069 for SD's 16,384 numbers.
        normalizer: divide each sample's loss by mean |x0 - x0_real| as DMD does, or not; "none"
            where the "vector" form is asked for and nothing else is said, as in the paper.
        train_solver, test_solver: of the rollout in training, and of sampling.
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    betas: tuple[float, float] = (0.0, 0.999)
    horizon: PositiveInt | None = None
    teacher_guidance: Annotated[float, renamed("guidance_scale")] = Field(3.5, ge=1)
    fake_lr: PositiveFloat = 5e-4
    fake_updates: PositiveInt = 1
    tau: Literal["disjoint", "terminal"] = "disjoint"
    random_matching_time: Annotated[bool, renamed("randmid")] = False
    match: Literal["noisy", "clean"] = "noisy"
    fake_sampling: Annotated[
        Literal["near_trajectory", "clean"], renamed(near="near_trajectory")
    ] = "near_trajectory"
    fake_target: Literal["x0", "dsm"] = "x0"
    divergence: Literal["kl", "fisher"] = "kl"
    loss: Literal["huber", "mse"] = "huber"
    huber_form: Literal["element", "vector"] = "element"
    huber_c: PositiveFloat = 1e-3
    normalizer: Literal["dmd", "none"] = "dmd"
    train_solver: Solver = "ddim"
    test_solver: Annotated[Solver, SAMPLING] = "dpmsolver++"
    ema: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _vector_form_is_not_normalised(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("huber_form") == "vector":
            return {"normalizer": "none", **given}
        return given

    @model_validator(mode="after")
    def _fisher_needs_its_own_score(self) -> Self:
        own = (self.fake_sampling, self.fake_target) == ("near_trajectory", "x0")
        if self.divergence == "fisher" and not own:
            what = "divergence fisher needs fake_sampling near_trajectory and fake_target x0"
            raise ValueError(what)
        return self

    def distance(
        self, x0: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """d(x0, target), a scalar; `weight` (B, 1, ..) multiplies each sample's."""
        if self.loss == "mse":
            return squared_error(x0, target, weight)
        return pseudo_huber(x0, target, self.huber_c, form=self.huber_form, weight=weight)


class TDMConfig(MatchingConfig):
    """TDM's settings.

    Attributes:
        steps: K, the nodes of the student's sampler.
    """

    steps: PositiveInt = 4


def _distinct(steps: tuple[int, ...]) -> tuple[int, ...]:
    if not steps or len(set(steps)) < len(steps):
        raise ValueError("steps_support must name at least one number of steps, each once")
    return steps


class TDMUnifyConfig(MatchingConfig, GanConfig):
    """TDM's settings, those of a GAN (TDM-unify-GAN), and what is varied over the steps.

    `loss: mse` is our reading of "without the surrogate objective" in table 5, as the paper does
    not say what takes its place. Head and weights of the paper's GAN are unpublished. Ours is
    DMD2's, so on latents of its size its weights are where to start: `adversarial_weight` 1e-3 to
    5e-3.

    Attributes:
        steps_support: the numbers of steps K, drawn uniformly, one for all samples of an update.
        steps_drawn: "one" K for an update as published, or "all": the mean of the losses of every K
            on the same prompts and noise, at the cost of them all.
        condition: tell student and fake score K, through an embedding that starts at zero; without,
            the shared fake score sees the mixture of all K's samples (eq. 9). One K alone is
            never told. How K enters the networks is our choice; the paper does not say.
    """

    steps_support: Annotated[tuple[PositiveInt, ...], AfterValidator(_distinct)] = (1, 2, 4)
    steps_drawn: Literal["one", "all"] = "one"
    condition: bool = True
    loss: Annotated[
        Literal["huber", "mse"], renamed("surrogate", note="`surrogate: false` was `loss: mse`")
    ] = "huber"

    @property
    def tells_steps(self) -> bool:
        """Whether student and fake score are told K."""
        return self.condition and len(self.steps_support) > 1
