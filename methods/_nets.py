"""Settings that every trained method shares: what its nets are and how they are optimised."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from distillbench.train.method import NetSpec, Optim

__all__ = ["NetConfig"]


class NetConfig(BaseModel):
    """Nets and AdamW.

    Attributes:
        nets: "lora" makes every role an adapter on one frozen base, "copy" a full copy of it.
        rank, lora_alpha: of the adapters; alpha equal to the rank scales them by 1, and other
            values multiply the effective learning rate, which makes published rates ambiguous.
        lr: of the student. Full fine-tuning wants far less than an adapter.
        betas, weight_decay, clip_norm, warmup_steps: of AdamW, for all roles.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nets: Literal["lora", "copy"] = "lora"
    rank: PositiveInt = 64
    lora_alpha: PositiveFloat = 64.0
    lr: PositiveFloat = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: PositiveFloat | None = 1.0
    warmup_steps: int = Field(0, ge=0)

    def role(
        self,
        *,
        lr: float | None = None,
        clip: bool = True,
        ema: float | None = None,
        conditions: tuple[str, ...] = (),
    ) -> NetSpec:
        """One role with these settings; `lr` None is the student's, `clip` False never clips."""
        optim = Optim(
            lr=self.lr if lr is None else lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm if clip else None,
            warmup_steps=self.warmup_steps,
        )
        opts: dict[str, Any] = {"conditions": conditions} if conditions else {}
        if self.nets == "lora":
            opts |= {"rank": self.rank, "alpha": self.lora_alpha}
        return NetSpec(optim, self.nets, opts, ema)
