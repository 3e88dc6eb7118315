"""rCM: consistency with a little distribution matching beside it (arXiv 2510.08431)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distillbench.api.method import Losses, NetSpec
from distillbench.core.lazy import torch

from .lcm import LCM
from .settings.rcm import RCMConfig
from .shared.scores import denoising_loss, dmd_losses, matching_time

if TYPE_CHECKING:
    from distillbench.api.backbone import Prediction
    from distillbench.api.method import Batch

__all__ = ["RCM", "RCMConfig"]


class RCM(LCM):
    """Consistency covers the data's modes, reverse divergence sharpens them.

        student  min_theta  w_c d( f(x_t, t, w), sg f_ema(x_u, u, w) )  +  w_d DMD(x)
        fake     min_psi    | eps_psi(x_t, t) - n |^2,  x_t = alpha x + sigma n

    The first is LCM's on its grid, where the paper goes to the limit of continuous time. DMD(x) has
    the gradient (f_psi - f_phi)(x_tau, tau) / mean |x - f_phi| at x, the student's sample of one
    step, or of up to `rollout`; tau has a long tail of noisy times. Checked against the released
    code: law of tau, normalisation, rollout. Ours: pseudo-Huber in place of its tangent
    normalisation and warm-up, and a fake score that denoises with equal weights of the noise.
    """

    Config = RCMConfig
    title, paper = "rCM", "rCM (arXiv 2510.08431)"

    def nets(self) -> dict[str, NetSpec]:
        """The student, and a fake score where there is a matching."""
        config, student = self.config, {"student": self.student_spec()}
        if not config.w_dmd:
            return student
        conditions = ("guidance",) if config.embeds else ()
        return {"fake": config.role("fake", lr=config.fake_lr, conditions=conditions), **student}

    def turns(self, step: int) -> tuple[str, ...]:
        """R times the fake score, then the student."""
        return (*(self.config.fake_updates * ("fake",) if self.config.w_dmd else ()), "student")

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Denoising; or w_c times LCM's loss and w_d times DMD's."""
        config, scalars, terms = self.config, dict[str, torch.Tensor](), list[torch.Tensor]()
        if turn == "fake":
            with torch.no_grad():
                x0 = self.sample(batch, "fake", step).x0
            return Losses(denoising_loss(self, "fake", x0, batch, "fake"))
        if config.w_consistency:
            scalars["consistency"] = super().loss(turn, batch, step).total
            terms.append(config.w_consistency * scalars["consistency"])
        if config.w_dmd:
            plain = config.teacher_guidance[1] == 1
            pred, scale = self.sample(batch, "student", step), 1.0 if plain else self.scale(batch)
            matching = dmd_losses(self, pred, batch, "student", scale, shift=config.noise_shift)
            scalars |= matching.scalars
            terms.append(config.w_dmd * matching.total)
        return Losses(torch.stack(terms).sum(), scalars)

    def sample(self, batch: Batch, turn: str, step: int) -> Prediction:
        """The student's prediction, after `step` mod N re-noised ones of its own."""
        backbone = self.backbone
        x = batch.randn(turn, "start")
        t = torch.full((len(batch),), backbone.nodes(1)[0], device=batch.device)
        for k in range(step % self.config.rollout):
            stream = f"{turn} rollout {k}"
            with torch.no_grad():
                x0 = self.predict("student", x, t, batch).x0
            drawn = matching_time(backbone, batch, stream, shift=self.config.noise_shift)
            t = torch.minimum(drawn, t.to(drawn.dtype))
            x = backbone.process.add_noise(x0, batch.randn(stream, "noise"), t)
        return self.predict("student", x, t, batch)

    def scale(self, batch: Batch) -> torch.Tensor:
        """(B,) the teacher's guidance scales, those of the consistency loss."""
        low, high = self.config.teacher_guidance
        scale: torch.Tensor = low + (high - low) * batch.rand("guidance")
        return scale

    def conditions(self, batch: Batch) -> dict[str, Any]:
        """The guidance scale, where it is told."""
        return {"embed_scale": self.scale(batch)} if self.config.embeds else {}
