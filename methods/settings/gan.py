"""Settings of the GAN of distribution matching."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

__all__ = ["GanConfig"]


class GanConfig(BaseModel):
    """Settings of the GAN. It needs latents; a real latent goes with its own prompt.

    Attributes:
        adversarial_weight: w_g of the student's GAN loss, 0 = no GAN (DMD2: 1e-3 on SD v1.5, 5e-3
            on SDXL). The matching's gradient is divided by a latent's size d and the GAN's is not,
            so its share falls with sqrt(d): 1e-3 is some thousandth of the student's gradient at
            d = 512 and less in the plane. DMD2's authors advise to make both alike in length.
        discriminator_weight: w_d of the GAN loss of head and fake score.
        adversarial_features: the head reads the bottleneck of the "fake" score, which learns from
            it too, or of the frozen "teacher".
        disc_lr, disc_betas: of the head's AdamW; None takes the fake score's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adversarial_weight: float = Field(0.0, ge=0)
    discriminator_weight: float = Field(1e-2, ge=0)
    adversarial_features: Literal["fake", "teacher"] = "fake"
    disc_lr: PositiveFloat | None = None
    disc_betas: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _head_is_trained(self) -> Self:
        if self.adversarial_weight and not self.discriminator_weight:
            raise ValueError("adversarial_weight needs a discriminator_weight above 0")
        return self
