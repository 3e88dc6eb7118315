"""TSCD: trajectory consistency within segments of time, whose number falls from stage to stage."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from distillbench.core.lazy import torch
from distillbench.errors import NotSupported
from distillbench.sample.schedules import lcm_grid
from distillbench.sample.solvers import GammaSampler, OdeSampler
from distillbench.train.method import Losses, NetSpec

from ._adversary import Adversary, balanced
from ._matching import check_recomputation
from ._trajectory import Trajectory, TrajectoryConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distillbench.train.method import Batch
    from distillbench.train.nets import NetHandle

    from ._consistency import Pair

__all__ = ["TSCD", "TSCDConfig"]

Weight = Annotated[float, Field(ge=0)]


class TSCDConfig(TrajectoryConfig):
    """TSCD's settings (Hyper-SD, arXiv 2404.13686, section 3.1).

    The paper gives the stages, an averaged target, noise with an offset, and a distance that goes
    from squared error to adversarial. It does not give their strengths, the grid or the guidance;
    those are our choices.

    Attributes:
        solver_steps: N. 40 puts the edges of 8, 4, 2 segments on the times DDIM's "trailing"
            spacing stops at; on a grid of 50 they would lie up to 15 times away.
        guidance: of the teacher, which is the original model in all stages.
        target: "ema" as published.
        segments: of the stages, each starting from the weights of the one before.
        stage_steps: share of the training's steps that each stage takes, as numbers of steps or in
            any other unit; None shares them equally. Stages after `stop_at_segments` have none.
        stop_at_segments: the last stage; its segments are the least number of sampling steps.
        w_mse, w_adv: weights of the two distances, one per entry of `segments`; (1, 1, .5, .1)
            with (0, .1, .5, 1) shifts them as the paper describes. Zeros, the default, train no
            discriminator, as its published strength is unknown.
        disc_lr: of the discriminator's head.
        offset_noise: standard deviation of noise that is constant over each channel and added to
            the noise of training.
        gamma: stochasticity of sampling (TCD's; the paper's unified student uses that scheduler)
            after a last stage of one segment; None samples with DDIM.
    """

    solver_steps: PositiveInt = 40
    guidance: tuple[float, float] = (7.5, 7.5)
    target: Literal["ema", "stopgrad"] | None = "ema"
    segments: tuple[PositiveInt, ...] = (8, 4, 2, 1)
    stage_steps: tuple[PositiveInt, ...] | None = None
    stop_at_segments: PositiveInt = 1
    w_mse: tuple[Weight, ...] = (1.0, 1.0, 1.0, 1.0)
    w_adv: tuple[Weight, ...] = (0.0, 0.0, 0.0, 0.0)
    disc_lr: float = Field(1e-4, gt=0)
    offset_noise: float = Field(0.05, ge=0)
    gamma: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _stages_fit(self) -> TSCDConfig:
        if not self.segments or any(a <= b for a, b in pairwise(self.segments)):
            raise ValueError("segments must be a falling list of at least one")
        if wrong := [k for k in self.segments if self.solver_steps % k]:
            raise ValueError(f"{wrong[0]} segments do not divide {self.solver_steps} solver_steps")
        if self.stop_at_segments not in self.segments:
            stages = ", ".join(map(str, self.segments))
            raise ValueError(f"stop_at_segments {self.stop_at_segments} is not one of {stages}")
        if self.stage_steps is not None and len(self.stage_steps) != self.stages:
            raise ValueError(f"stage_steps must have one entry for each of {self.stages} stages")
        if len(self.segments) != len(self.w_mse) or len(self.segments) != len(self.w_adv):
            raise ValueError("w_mse and w_adv must have one entry for each entry of segments")
        if any(not mse and not adv for mse, adv in zip(self.w_mse, self.w_adv, strict=True)):
            raise ValueError("a stage with both w_mse and w_adv 0 trains nothing")
        if self.gamma and self.stop_at_segments > 1:
            raise ValueError("gamma needs stop_at_segments 1: its jumps cross the edges")
        return self

    @property
    def stages(self) -> int:
        """Number of stages that are trained."""
        return self.segments.index(self.stop_at_segments) + 1

    @property
    def adversarial(self) -> bool:
        """Whether any of them has a discriminator."""
        return any(self.w_adv[: self.stages])


class TSCD(Trajectory):
    """Trajectory segmented consistency distillation (arXiv 2404.13686, alg. 1).

    d(f(x_t, t -> s), sg f_ema(x_u, u -> s)) with s drawn from the lower edge of t's segment to u
    (eq. 13, with edges on the solver grid). One segment is TCD; s at the edge would be PCM.
    """

    Config = TSCDConfig
    title = "TSCD"
    paper = "Hyper-SD (arXiv 2404.13686)"

    def nets(self) -> dict[str, NetSpec]:
        """The student, and the discriminator's head where a stage needs it."""
        roles = super().nets()
        if self.config.adversarial:
            optim = self.config.role(lr=self.config.disc_lr).optim
            roles["disc"] = NetSpec(optim, "head")
        return roles

    def make_head(self, name: str) -> torch.nn.Module:
        """The discriminator's head."""
        return Adversary(self.backbone).make_head()

    def bind(self, nets: Mapping[str, NetHandle]) -> None:
        """Refuses recomputed activations where the adversarial distance needs gradients of them."""
        super().bind(nets)
        if self.config.adversarial:
            check_recomputation(self.backbone, self.config.nets, "the adversarial distance")

    def sampler(self, nfe: int) -> OdeSampler | GammaSampler:
        """DDIM on the solver grid, 999, 749, 499, 249 for 4 steps, or TCD's with `gamma`.

        Steps stop at every edge, so their number is a multiple of the last stage's segments.
        """
        config, total = self.config, self.backbone.num_timesteps
        if total % config.solver_steps:
            raise NotSupported(f"{config.solver_steps} solver steps do not divide {total} times")
        if nfe % config.stop_at_segments or not 0 < nfe <= config.solver_steps:
            raise NotSupported(
                f"{self.name} trained down to {config.stop_at_segments} segments takes multiples "
                f"of {config.stop_at_segments} up to {config.solver_steps} steps, not {nfe}"
            )
        times = lcm_grid(nfe, config.solver_steps, total)
        scale = config.sample_guidance if config.embeds else None
        if config.gamma is None:
            return OdeSampler(timesteps=times, embed_scale=scale)
        return GammaSampler(timesteps=times, gamma=config.gamma, embed_scale=scale)

    # ---- stages ---------------------------------------------------------------------------

    def stage(self, step: int) -> int:
        """Which stage a step belongs to, by the shares of the whole training."""
        shares = self.config.stage_steps or (1,) * self.config.stages
        ends = [self.total_steps * part // sum(shares) for part in accumulate(shares)]
        return min(bisect_right(ends, step), len(shares) - 1) if self.total_steps else 0

    def segments(self, step: int) -> int:
        """The segments of the step's stage."""
        return int(self.config.segments[self.stage(step)])

    def turns(self, step: int) -> tuple[str, ...]:
        """The student, then the discriminator in stages that have one."""
        return ("student", "disc") if self.config.w_adv[self.stage(step)] else ("student",)

    # ---- losses ---------------------------------------------------------------------------

    def noise(self, batch: Batch) -> torch.Tensor:
        """With an offset that is constant over each channel."""
        noise, strength = super().noise(batch), float(self.config.offset_noise)
        if not strength:
            return noise
        offset = torch.randn(noise.shape[:2], generator=batch.rng("offset")).to(noise.device)
        return noise + strength * offset.reshape(*offset.shape, *[1] * (noise.ndim - 2))

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """The stage's mixture of squared error and adversary, or the discriminator's loss."""
        stage = self.stage(step)
        w_mse, w_adv = self.config.w_mse[stage], self.config.w_adv[stage]
        if turn == "disc":
            return self._disc(batch, step)
        pair, end = self._jump_times(batch, step)
        pred, target = self.both(pair, end, batch)
        batch.once("tscd jumps", lambda: (pred.detach(), target))
        if not w_adv:
            return Losses(w_mse * self.distance(pred, target))

        def fooled(x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.softplus(-self._logits(x, pair, end, batch)).mean()

        mse, adversary = balanced(pred, lambda x: self.distance(x, target), fooled)
        total = w_mse * mse + w_adv * adversary
        return Losses(total, {"mse": mse, "adversary": adversary})

    def _disc(self, batch: Batch, step: int) -> Losses:
        """Non-saturating loss on logits: the target's jumps are real, the student's are not."""
        pair, end = self._jump_times(batch, step)
        with torch.no_grad():
            pred, target = batch.once("tscd jumps", lambda: self.both(pair, end, batch))
        softplus = torch.nn.functional.softplus
        real = self._logits(target, pair, end, batch)
        fake = self._logits(pred, pair, end, batch)
        return Losses(
            softplus(-real).mean() + softplus(fake).mean(),
            {"real": real.mean(), "fake": fake.mean()},
        )

    def _jump_times(self, batch: Batch, step: int) -> tuple[Pair, torch.Tensor]:
        def draw() -> tuple[Pair, torch.Tensor]:
            pair = self.solver_step(batch)
            return pair, self.end_time(batch, pair, step)

        return batch.once("tscd times", draw)  # type: ignore[no-any-return]

    def _logits(self, x: torch.Tensor, pair: Pair, end: torch.Tensor, batch: Batch) -> torch.Tensor:
        adversary = Adversary(self.backbone, self.net["disc"].module)
        return adversary.logits(x, end, pair.x_t, pair.t, batch.cond)
