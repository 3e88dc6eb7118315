"""TSCD: trajectory consistency within segments of time, whose number falls from stage to stage."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from distillbench.core.lazy import torch
from distillbench.core.loss import adversarial_loss, discriminator_loss
from distillbench.core.schedules import lcm_grid
from distillbench.errors import NotSupported
from distillbench.sample.solvers import GammaSampler, OdeSampler
from distillbench.train.method import Losses, NetSpec

from ._matching import check_recomputation
from ._one_step import OneStep
from ._pair_discriminator import PairDiscriminator, balanced
from ._trajectory import Trajectory
from ._tscd_config import Stage, TSCDConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distillbench.train.method import Batch
    from distillbench.train.nets import NetHandle

    from ._consistency import Pair

__all__ = ["TSCD", "TSCDConfig"]


class TSCD(Trajectory):
    """Trajectory segmented consistency distillation (arXiv 2404.13686, alg. 1).

    d(f(x_t, t -> s), sg f_ema(x_u, u -> s)) with s drawn from the lower edge of t's segment to u
    (eq. 13, with edges on the solver grid). One segment is TCD; s at the edge would be PCM.

    `one_step` adds the paper's last stage (section 3.3), whose student is used at 1 to 8 steps.
    """

    Config = TSCDConfig
    title = "TSCD"
    paper = "Hyper-SD (arXiv 2404.13686)"

    def nets(self) -> dict[str, NetSpec]:
        """The student; the discriminator's head and the fake score where a stage needs them."""
        config, roles = self.config, super().nets()
        if config.adversarial:
            roles["disc"] = NetSpec(config.role(lr=config.disc_lr).optim, "head")
        if config.matches:
            conditions = ("guidance",) if config.embeds else ()
            roles["fake"] = config.role(lr=config.fake_lr, conditions=conditions)
        return roles

    def make_head(self, name: str) -> torch.nn.Module:
        """The discriminator's head."""
        return PairDiscriminator(self.backbone).make_head()

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

    def stage(self, step: int) -> Stage:
        """The stage a step belongs to, by the shares of the whole training."""
        stages: tuple[Stage, ...] = self.config.stages
        shares = self.config.stage_steps or (1,) * len(stages)
        ends = [self.total_steps * part // sum(shares) for part in accumulate(shares)]
        return stages[min(bisect_right(ends, step), len(stages) - 1) if self.total_steps else 0]

    def segments(self, step: int) -> int:
        """The segments of the step's stage."""
        return self.stage(step).segments

    def turns(self, step: int) -> tuple[str, ...]:
        """The student, then what the step's stage has of fake score and discriminator."""
        stage, config = self.stage(step), self.config
        fake = config.fake_updates * ("fake",) if stage.one_step and config.matches else ()
        return ("student", *fake, *(("disc",) if stage.w_adv else ()))

    # ---- losses ---------------------------------------------------------------------------

    def noise(self, batch: Batch) -> torch.Tensor:
        """With an offset that is constant over each channel of a sample."""
        noise, strength = super().noise(batch), float(self.config.offset_noise)
        if not strength:
            return noise
        channel = 2 if self.backbone.modality == "video" else 1
        shape = [size if i in (0, channel) else 1 for i, size in enumerate(noise.shape)]
        return noise + strength * torch.randn(shape, generator=batch.rng("offset")).to(noise.device)

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """The student's consistency, in the last stage with its one step; or another role's."""
        one_step = OneStep(self.backbone, self.config, self.net)
        if turn != "student":
            return one_step.fake_loss(batch) if turn == "fake" else self._disc(batch, step)
        consistency = self._consistency(batch, step)
        if not self.stage(step).one_step:
            return consistency
        more = one_step.student_loss(batch)
        scalars = {"consistency": consistency.total, **consistency.scalars, **more.scalars}
        return Losses(consistency.total + more.total, scalars)

    def _consistency(self, batch: Batch, step: int) -> Losses:
        """The stage's mixture of squared error and adversary."""
        stage = self.stage(step)
        pair, end = self._jump_times(batch, step)
        pred, target = self.both(pair, end, batch)
        batch.once("tscd jumps", lambda: (pred.detach(), target))
        if not stage.w_adv:
            return Losses(stage.w_mse * self.distance(pred, target))
        mse, adversary = balanced(
            pred,
            lambda x: self.distance(x, target),
            lambda x: adversarial_loss(self._logits(x, pair, end, batch)),
        )
        total = stage.w_mse * mse + stage.w_adv * adversary
        return Losses(total, {"mse": mse, "adversary": adversary})

    def _disc(self, batch: Batch, step: int) -> Losses:
        """The discriminator's loss: the target's jumps are real, the student's are not."""
        pair, end = self._jump_times(batch, step)
        with torch.no_grad():
            pred, target = batch.once("tscd jumps", lambda: self.both(pair, end, batch))
        real, fake = (self._logits(x, pair, end, batch) for x in (target, pred))
        return Losses(discriminator_loss(fake, real), {"real": real.mean(), "fake": fake.mean()})

    def _jump_times(self, batch: Batch, step: int) -> tuple[Pair, torch.Tensor]:
        def draw() -> tuple[Pair, torch.Tensor]:
            pair = self.solver_step(batch)
            return pair, self.end_time(batch, pair, step)

        return batch.once("tscd times", draw)  # type: ignore[no-any-return]

    def _logits(self, x: torch.Tensor, pair: Pair, end: torch.Tensor, batch: Batch) -> torch.Tensor:
        discriminator = PairDiscriminator(self.backbone, self.net["disc"].module)
        return discriminator.logits(x, end, pair.x_t, pair.t, batch.cond)
