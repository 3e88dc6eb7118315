"""Decoupled DMD: guidance and matching at times of their own (arXiv 2511.22677)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.api.method import Batch, Losses
from distillbench.core.lazy import torch

from .dmd2 import DMD2
from .settings.decoupled_dmd import DecoupledDMDConfig
from .shared.gan import Noised
from .shared.scores import matched, matching_point

if TYPE_CHECKING:
    from distillbench.api.backbone import Prediction

    from .settings.decoupled_dmd import Law

__all__ = ["DecoupledDMD", "DecoupledDMDConfig"]


class DecoupledDMD(DMD2):
    """DMD2's turns and samples; its gradient is split in two, each re-noised by its own law.

    x0 = f_theta(x_u, u) at one of K nodes u; x_tau = alpha_tau x0 + sigma_tau n.

        fake     min_psi    | eps_psi(x_t, t) - n |^2,  as DMD2's
        student  gradient at x0:
                 [f_psi - f_cond](x_DM, tau_DM) - (g - 1) [f_cond - f_uncond](x_CA, tau_CA)

    f_psi: fake score; f_cond, f_uncond: teacher without guidance; g: scale. Divided by
    mean |x0 - f|, where f is what x0 is drawn to, as DMD does. Equal laws and one draw are DMD2.
    Checked against accounts of the paper: the split (eq. 6), and tau_CA less noisy than u.
    """

    Config = DecoupledDMDConfig
    title, paper = "Decoupled DMD", "Decoupled DMD (arXiv 2511.22677)"
    version = DMD2.version + 1  # guidance's times are below the node, not above, since 1

    def matching(self, pred: Prediction, u: torch.Tensor, batch: Batch) -> Losses:
        """The surrogate of both parts."""
        config = self.config
        at_dm = self.point(config.matching_times, pred, u, batch, "student")
        with torch.no_grad():
            f_psi = self.predict("fake", *at_dm, batch).x0
            f_phi = self.teacher(*at_dm, batch).x0
            if config.teacher_guidance > 1:
                stream = "student" if config.same_draw else "guidance"
                x_ca, tau = self.point(config.guidance_times, pred, u, batch, stream)
                free = batch.uncond.expand(len(batch))
                f_uncond = self.backbone.predict(None, x_ca, tau, free).x0
                gap = self.teacher(x_ca, tau, batch).x0 - f_uncond
                f_phi = f_phi + (config.teacher_guidance - 1) * gap
        return matched(pred.x0, f_phi, f_psi)

    def point(
        self, law: Law, pred: Prediction, u: torch.Tensor, batch: Batch, stream: str
    ) -> Noised:
        """(x_tau, tau) of a law, (B, ...) and (B,)."""
        return matching_point(self, pred, batch, stream, u if law == "below" else None)
