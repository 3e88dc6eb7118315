"""SiD: score identity distillation (arXiv 2404.04057; few steps: 2505.12674)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillbench.api.method import Batch, Losses
from distillbench.core.loss import abs_mean_normalizer, sample_mean
from distillbench.core.matching import fisher_surrogate

from .dmd2 import DMD2
from .settings.sid import SiDConfig
from .shared.scores import matching_point

if TYPE_CHECKING:
    from distillbench.api.backbone import Prediction
    from distillbench.core.lazy import torch

__all__ = ["SiD", "SiDConfig"]


class SiD(DMD2):
    """DMD2's turns and samples; the student lowers the Fisher divergence, not Kullback-Leibler's.

    x = f_theta(x_u, u) at one of K nodes u, x_t = alpha_t x + sigma_t n.

        fake     min_psi    | eps_psi(x_t, t) - n |^2
        student  min_theta  <f_phi - f_psi, f_phi - x - alpha (f_phi - f_psi)> / mean |x - f_phi|

    f_phi: guided teacher; f_psi: fake score, guided by a scale of its own; both at (x_t, t), with
    gradient through both and x_t. alpha = 1 is TDM's Fisher form. Checked against the released code
    (SiD-LSG): both forms of the loss, its weight without gradient, guidance in both turns. There
    the fake score is trained once an update of the student (`fake_updates: 1`), before it.
    """

    Config = SiDConfig
    title, paper = "SiD", "SiD (arXiv 2404.04057)"

    @property
    def crosses_roles(self) -> str:
        """The student's gradient goes through both scores."""
        return "sid"

    def matching(self, pred: Prediction, u: torch.Tensor, batch: Batch) -> Losses:
        """<f_phi - f_psi, f_phi - x - alpha (f_phi - f_psi)> / mean |x - f_phi|."""
        x_t, t = matching_point(self, pred, batch, "student")
        f_phi = self.teacher(x_t, t, batch, self.config.teacher_guidance).x0
        f_psi = self.predict("fake", x_t, t, batch).x0
        weight = 1 / abs_mean_normalizer(pred.x0, f_phi)
        loss = fisher_surrogate(pred.x0, f_phi, f_psi, weight, self.config.alpha)
        return Losses(loss, {"gap": sample_mean((f_phi - f_psi).abs()).mean()})

    def predict(self, role: str, x: torch.Tensor, t: torch.Tensor, batch: Batch) -> Prediction:
        """The fake score is guided by its own scale."""
        scale = self.config.fake_guidance
        if role != "fake" or scale == 1:
            return super().predict(role, x, t, batch)
        return self.backbone.predict(
            self.net["fake"], x, t, batch.cond, guidance_scale=scale, uncond=batch.uncond
        )
