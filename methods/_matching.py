"""What distribution-matching methods share: re-noising, the two scores, the fake score's loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from distillbench.core.lazy import torch
from distillbench.core.loss import (
    abs_mean_normalizer,
    gradient_surrogate,
    importance_weight,
    min_snr,
    sample_mean,
    squared_error,
)
from distillbench.core.matching import Renoised, renoised
from distillbench.core.process import CLEAN
from distillbench.errors import NotSupported

from ._denoising import time_between

if TYPE_CHECKING:
    from distillbench.backbones.base import Backbone, Prediction
    from distillbench.train.method import Batch
    from distillbench.train.nets import NetHandle

__all__ = ["check_recomputation", "dmd_loss", "fake_loss", "real_and_fake"]


def real_and_fake(
    backbone: Backbone,
    fake: NetHandle,
    at: Renoised,
    batch: Batch,
    guidance_scale: float | torch.Tensor,
    *,
    grad: bool = False,
    **conditions: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x0 of the guided teacher and of the fake score at (x_tau, tau), without gradient by default.

    Their difference D = x0_real - x0_fake is the way a sample should move: it is sigma^2 / alpha
    times the difference of the scores. The fake score is never guided. `conditions` (steps_k,
    embed_scale) go to the fake score alone.
    """
    with torch.set_grad_enabled(grad):
        real = backbone.predict(
            None, at.x_tau, at.tau, batch.cond, guidance_scale=guidance_scale, uncond=batch.uncond
        )
        model = backbone.predict(fake, at.x_tau, at.tau, batch.cond, **conditions)
    return real.x0, model.x0


def dmd_loss(
    backbone: Backbone,
    fake: NetHandle,
    pred: Prediction,
    batch: Batch,
    stream: str,
    guidance_scale: float | torch.Tensor,
    **conditions: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """DMD's surrogate for a student's prediction, and the mean |x0_real - x0_fake|.

    x = pred.x0 is noised to a time of 2 % to 98 %; the gradient at x is x0_fake - x0_real, divided
    by mean |x - x0_real| and the number of elements (DMD, arXiv 2311.18828, eqs. 7 and 8).
    """
    low = backbone.num_timesteps // 50
    tau = time_between(backbone, batch, stream, low, backbone.num_timesteps - low + 1)
    clean = torch.full((len(batch),), CLEAN, device=batch.device)
    noise = batch.randn(stream, "noise")
    at = renoised(backbone.process, pred.x0, pred.eps, clean, tau, noise)
    real, model = real_and_fake(backbone, fake, at, batch, guidance_scale, **conditions)
    grad = (model - real) / abs_mean_normalizer(pred.x0, real)
    return gradient_surrogate(pred.x0, grad), sample_mean((real - model).abs()).mean()


def fake_loss(
    backbone: Backbone,
    fake: NetHandle,
    at: Renoised,
    x0: torch.Tensor,
    batch: Batch,
    *,
    target: Literal["x0", "dsm"] = "x0",
    weighted: bool = True,
    conditions: Mapping[str, Any] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The fake score's regression at (x_tau, tau), and its mean importance weight.

    "x0" (TDM, arXiv 2503.06674, eq. 7): importance weight times min(SNR, 5) times the squared error
    to the student's clean prediction; equal to min(1, 5 / SNR) times the error of eps against
    eps_mix. Without the SNR weight the loss is dominated by the cleanest times and fails visibly.
    "dsm": denoising score matching under the kernel q(x_tau | x_m), whose minimiser is the exact
    score of the re-noised student; (b / sigma)^2 times the error against sigma n / b.

    `weighted` False leaves the importance weight out: E[x0 | x_tau] under the sampled law.
    """
    pred = backbone.predict(fake, at.x_tau, at.tau, batch.cond, **(conditions or {}))
    snr = backbone.process.snr(at.tau)
    if target == "dsm":
        loss = squared_error(at.share * pred.eps, at.noise, min_snr(snr) / snr)
        return loss, torch.ones_like(loss)
    weight = importance_weight(at.eps_mix, at.noise) if weighted else torch.ones_like(snr)
    return squared_error(pred.x0, x0.detach(), weight * min_snr(snr)), weight.mean()


def check_recomputation(backbone: Backbone, nets: str, what: str) -> None:
    """Refuse gradients through other roles of a shared base whose activations are recomputed.

    Recomputation runs in backward, when the base acts as the role being trained.

    Raises:
        NotSupported: roles are adapters and the backbone checkpoints its layers.
    """
    if nets == "lora" and getattr(backbone.config, "gradient_checkpointing", False):
        raise NotSupported(
            f"{what} needs gradients through other roles, which gradient_checkpointing of a "
            "shared base would compute with the wrong adapter",
            hint="set nets: copy, or gradient_checkpointing: false on the backbone",
        )
