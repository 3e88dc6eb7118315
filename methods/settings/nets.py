"""Settings that every trained method shares: what its nets are and how they are optimised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from distillbench.api.method import NetSpec, Optim

__all__ = ["NetConfig", "NetKind", "RoleKinds", "RoleSteps", "RolesConfig"]

NetKind = Literal["lora", "copy"]


class NetConfig(BaseModel):
    """Nets and AdamW.

    Attributes:
        nets: "lora" makes every role an adapter on one frozen base, "copy" a full copy of it.
        rank, lora_alpha: of the adapters; alpha equal to the rank scales them by 1, and other
            values multiply the effective learning rate, which makes published rates ambiguous.
        lr: of the student. Full fine-tuning wants far less than an adapter.
        betas, weight_decay, clip_norm, warmup_steps: of AdamW, for all roles; the rate rises
            linearly over the first updates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nets: NetKind = "lora"
    rank: PositiveInt = 64
    lora_alpha: PositiveFloat = 64.0
    lr: PositiveFloat = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: PositiveFloat | None = 1.0
    warmup_steps: int = Field(0, ge=0)

    def kind(self, role: str) -> NetKind:
        """What the net of a role ("student", "fake") is."""
        return self.nets

    def warmup(self, role: str) -> int:
        """Updates over which the rate of a role rises."""
        return self.warmup_steps

    def optim(
        self,
        role: str,
        *,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        clip: bool = True,
    ) -> Optim:
        """AdamW of a role; `lr` and `betas` None are the student's, `clip` False never clips."""
        return Optim(
            lr=self.lr if lr is None else lr,
            betas=betas or self.betas,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm if clip else None,
            warmup_steps=self.warmup(role),
        )

    def role(
        self,
        name: str,
        *,
        lr: float | None = None,
        clip: bool = True,
        ema: float | None = None,
        conditions: tuple[str, ...] = (),
    ) -> NetSpec:
        """The net of a role, with an average of decay `ema`; see `optim` for `lr` and `clip`."""
        kind, opts = self.kind(name), dict[str, Any]()
        if conditions:
            opts["conditions"] = conditions
        if kind == "lora":
            opts |= {"rank": self.rank, "alpha": self.lora_alpha}
        return NetSpec(self.optim(name, lr=lr, clip=clip), kind, opts, ema)


class RoleKinds(BaseModel):
    """A kind for each role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: NetKind
    fake: NetKind


def _known(given: Any) -> Any:
    """One message for whatever is wrong, where a union has one for each of its members."""
    kinds, roles = get_args(NetKind), set(RoleKinds.model_fields)
    each = isinstance(given, Mapping) and set(given) == roles
    each = each and all(kind in kinds for kind in given.values())
    if given in kinds or isinstance(given, RoleKinds) or each:
        return given
    raise ValueError(
        f"{given!r} is not lora, copy, or a kind for each role: {{student: lora, fake: copy}}"
    )


class RoleSteps(BaseModel):
    """A number of updates for each role; the discriminator's head goes with the fake score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: NonNegativeInt
    fake: NonNegativeInt


def _counted(given: Any) -> Any:
    """As `_known`, for numbers of updates."""
    roles = set(RoleSteps.model_fields)
    each = isinstance(given, Mapping) and set(given) == roles
    numbers = list(given.values()) if each else [given]
    if isinstance(given, RoleSteps) or all(type(n) is int and n >= 0 for n in numbers):
        return given
    raise ValueError(
        f"{given!r} is not a number of updates, or one for each role: {{student: 50, fake: 0}}"
    )


class RolesConfig(NetConfig):
    """Nets and AdamW of a method with a fake score, whose nets may differ in kind.

    Attributes:
        nets: "lora" makes every role an adapter on one frozen base, "copy" a full copy of it; or a
            kind for each role: {student: lora, fake: copy}.
        warmup_steps: updates over which the rate rises, or a number for each role:
            {student: 50, fake: 0}.
    """

    nets: Annotated[NetKind | RoleKinds, BeforeValidator(_known)] = "lora"  # type: ignore[assignment]
    warmup_steps: Annotated[int | RoleSteps, BeforeValidator(_counted)] = 0  # type: ignore[assignment]

    def warmup(self, role: str) -> int:
        """Updates over which the rate of a role rises."""
        if isinstance(self.warmup_steps, RoleSteps):
            steps = self.warmup_steps
            return steps.student if role == "student" else steps.fake
        return self.warmup_steps

    def kind(self, role: str) -> NetKind:
        """What the net of a role is."""
        if isinstance(self.nets, RoleKinds):
            return self.nets.fake if role == "fake" else self.nets.student
        return self.nets
