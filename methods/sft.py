"""Fine-tuning: a teacher's own training, continued on real latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from distillbench.api.backbone import Cond
from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error
from distillbench.core.parameterization import raw_output

from .settings.denoiser import SFTConfig
from .shared.scores import any_time

if TYPE_CHECKING:
    from distillbench.api.samplers import OdeSampler

__all__ = ["SFT", "SFTConfig"]


class SFT(Method):
    """The ordinary denoising loss at uniform times; what comes out is a teacher again.

    x_t = alpha x_0 + sigma n,  t ~ U[0, T);  the prompt is dropped from a share of the samples.

        student  min_theta  | F_theta(x_t, t) - F(x_0, n) |^2

    F: what the network puts out (n, alpha n - sigma x_0, x_0, or n - x_0 of flow models).
    TDM-unify-SFT (arXiv 2503.06674) distils such a one, fine-tuned on images that people like.
    Times and prompt dropout (arXiv 2207.12598) are our choice; the paper does not say.
    """

    Config = SFTConfig
    needs = frozenset({"prompts", "latents"})
    title, paper = "Fine-tuning", "TDM-unify-SFT (arXiv 2503.06674)"
    denoises: ClassVar[bool] = True

    def nets(self) -> dict[str, NetSpec]:
        """The network that is fine-tuned."""
        return {"student": self.config.role("student", ema=self.config.ema)}

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """| F_theta(x_t, t) - F(x_0, n) |^2."""
        assert batch.latents is not None, "fine-tuning needs real latents"
        backbone, x_0, n = self.backbone, batch.latents, batch.randn("noise")
        t = any_time(backbone, batch, "noise")
        alpha, sigma = backbone.process.alpha_sigma(t, x_0)
        cond = dropped(batch, self.config.drop_prompt)
        pred = backbone.predict(self.net["student"], alpha * x_0 + sigma * n, t, cond)
        target = raw_output(x_0, n, alpha, sigma, backbone.prediction_type)
        return Losses(squared_error(pred.raw, target))

    def sampler(self, nfe: int) -> OdeSampler:
        """With many steps and guidance, exactly as the method `teacher` samples."""
        return self.config.sampler(self.backbone, nfe)  # type: ignore[no-any-return]


def dropped(batch: Batch, share: float) -> Cond:
    """The conditions with a random `share` of them replaced by the unconditional one."""
    drop, null = batch.rand("drop") < share, batch.uncond.expand(len(batch)).tensors
    return Cond({
        name: torch.where(drop.reshape(-1, *[1] * (value.ndim - 1)), null[name], value)
        for name, value in batch.cond.tensors.items()
    })  # fmt: skip
