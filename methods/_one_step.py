"""Hyper-SD's one-step enhancement (arXiv 2404.13686, section 3.3): DMD and a regression.

The student predicts a clean x from pure noise z at the first time T*. Distribution matching (DMD,
arXiv 2311.18828) moves x along real minus fake score, and a squared error holds it to where the
teacher's ODE takes z. The paper's feedback learning needs reward models and is not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error
from distillbench.train.method import Losses

from ._denoising import any_time, denoising_loss
from ._matching import dmd_loss
from ._regression import teacher_samples

if TYPE_CHECKING:
    from distillbench.backbones.base import Backbone, Prediction
    from distillbench.train.method import Batch
    from distillbench.train.nets import NetHandle

    from ._tscd_config import TSCDConfig

__all__ = ["OneStep"]


@dataclass(frozen=True)
class OneStep:
    """The losses of the stage "one step" beside the consistency loss; roles student and fake."""

    backbone: Backbone
    config: TSCDConfig
    net: Mapping[str, NetHandle]

    def student_loss(self, batch: Batch) -> Losses:
        """w_dmd times the matching's surrogate plus w_one_step_mse times the regression."""
        config = self.config
        answer = self._answer(batch) if config.w_one_step_mse else None
        pred = self._predict(batch)
        batch.once("one step", pred.x0.detach)
        terms, scalars = list[torch.Tensor](), dict[str, torch.Tensor]()
        if answer is not None:
            scalars["one_step_mse"] = squared_error(pred.x0, answer)
            terms.append(config.w_one_step_mse * scalars["one_step_mse"])
        if config.matches:
            loss, scalars["gap"] = dmd_loss(
                self.backbone, self.net["fake"], pred, batch, "one step student",
                self._guidance(batch), **self._told(batch),
            )  # fmt: skip
            terms.append(config.w_dmd * loss)
        return Losses(torch.stack(terms).sum(), scalars)

    def fake_loss(self, batch: Batch) -> Losses:
        """Plain denoising of the student's samples at all times."""
        with torch.no_grad():
            x0 = batch.once("one step", lambda: self._predict(batch).x0)
        t = any_time(self.backbone, batch, "one step fake")
        noise = batch.randn("one step fake", "noise")
        loss = denoising_loss(
            self.backbone, self.net["fake"], x0, t, noise, batch.cond, of="eps", **self._told(batch)
        )
        return Losses(loss)

    # ---- parts ----------------------------------------------------------------------------

    def _predict(self, batch: Batch) -> Prediction:
        """The student's prediction at (z, T*)."""
        z = batch.randn("one step", "start")
        t = torch.full((len(batch),), self.backbone.num_timesteps - 1, device=batch.device)
        return self.backbone.predict(self.net["student"], z, t, batch.cond, **self._told(batch))

    def _answer(self, batch: Batch) -> torch.Tensor:
        return teacher_samples(
            self.backbone, batch, batch.randn("one step", "start"),
            steps=self.config.one_step_solver_steps, guidance_scale=self._guidance(batch),
        )  # fmt: skip

    @property
    def _range(self) -> tuple[float, float]:
        fixed = self.config.one_step_guidance
        return self.config.guidance if fixed is None else (fixed, fixed)

    def _scale(self, batch: Batch) -> torch.Tensor:
        """(B,) the teacher's guidance scales, drawn from its range."""
        low, high = self._range
        return low + (high - low) * batch.rand("one step", "guidance")

    def _guidance(self, batch: Batch) -> float | torch.Tensor:
        return 1.0 if self._range[1] == 1 else self._scale(batch)

    def _told(self, batch: Batch) -> dict[str, Any]:
        """Nets that embed the guidance are told it, the fake score too, as samples depend on it."""
        return {"embed_scale": self._scale(batch)} if self.config.embeds else {}
