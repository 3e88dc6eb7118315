"""Fine-tuning: a teacher's own training, continued on real latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from distillbench.backbones.base import Cond
from distillbench.core.lazy import torch
from distillbench.train.method import Batch, Losses, Method, NetSpec

from ._denoising import any_time, denoising_loss
from ._nets import NetConfig
from ._ode import OdeConfig, ode_sampler

if TYPE_CHECKING:
    from distillbench.sample.solvers import OdeSampler

__all__ = ["SFT", "SFTConfig"]


class SFTConfig(NetConfig, OdeConfig):
    """Settings of the training, and of sampling as the teacher's.

    Attributes:
        drop_prompt: share of samples trained without their prompt, so that guidance still works.
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    drop_prompt: float = Field(0.1, ge=0, le=1)
    ema: float | None = Field(None, ge=0, lt=1)


class SFT(Method):
    """The ordinary denoising loss at uniform times; what comes out is a teacher again.

    TDM-unify-SFT (arXiv 2503.06674) distils such a one, fine-tuned on images that people like.
    Times and prompt dropout (arXiv 2207.12598) are our choice; the paper does not say.
    """

    Config = SFTConfig
    needs = frozenset({"prompts", "latents"})
    title = "Fine-tuning"
    paper = "TDM-unify-SFT (arXiv 2503.06674)"
    denoises: ClassVar[bool] = True

    def nets(self) -> dict[str, NetSpec]:
        """The network that is fine-tuned."""
        return {"student": self.config.role(ema=self.config.ema)}

    def sampler(self, nfe: int) -> OdeSampler:
        """With many steps and guidance, exactly as the method `teacher` samples."""
        return ode_sampler(self.config, self.backbone, nfe)

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Squared error of the network's own output."""
        assert batch.latents is not None, "fine-tuning needs real latents"
        t, noise = any_time(self.backbone, batch, "noise"), batch.randn("noise")
        cond = dropped(batch, self.config.drop_prompt)
        net = self.net["student"]
        return Losses(denoising_loss(self.backbone, net, batch.latents, t, noise, cond))


def dropped(batch: Batch, share: float) -> Cond:
    """The conditions with a random `share` of them replaced by the unconditional one."""
    drop, null = batch.rand("drop") < share, batch.uncond.expand(len(batch)).tensors
    return Cond({
        name: torch.where(drop.reshape(-1, *[1] * (value.ndim - 1)), null[name], value)
        for name, value in batch.cond.tensors.items()
    })  # fmt: skip
