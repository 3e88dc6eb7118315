"""The interface of a few-step sampler: a recipe that is stored with the weights it belongs to."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from distillbench.core.lazy import torch

if TYPE_CHECKING:
    from distillbench.api.backbone import Prediction
    from distillbench.core.process import NoiseProcess

__all__ = ["Denoiser", "SampleTimes", "Sampler", "StepNoise", "Time", "at_time", "unguided"]

StepNoise = Callable[[int], "torch.Tensor"]
"""Fresh standard noise (B, *latent_shape) of the i-th step, one generator per sample."""


def _one_spelling(given: Any) -> Any:
    """A whole time is an integer, so that equal recipes have equal keys."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(f"{given!r} is not a time, a finite number")
    return int(given) if given == int(given) else float(given)


Time = Annotated[int | float, BeforeValidator(_one_spelling)]
"""A sampling time: an integer of diffusion, 1000 sigma of flow models, integer where whole."""


def unguided(scale: float | None) -> str:
    """What is wrong with a guidance scale that others write for none, "" for nothing."""
    if scale is None or scale >= 1:
        return ""
    what = f"a guidance scale of {scale:g} weakens the prompt, and 0 leaves it out"
    return f"{what}; for no guidance, which others write as 0, say 1"


def _decreasing(times: tuple[float, ...]) -> tuple[float, ...]:
    if not times or any(a <= b for a, b in pairwise(times)) or times[-1] < 0:
        raise ValueError("sampling times must be a falling list of at least one, none below 0")
    return times


SampleTimes = Annotated[tuple[Time, ...], AfterValidator(_decreasing)]


def at_time(t: float, x: torch.Tensor) -> torch.Tensor:
    """The time of each sample of a batch."""
    dtype = torch.long if isinstance(t, int) else x.dtype
    return torch.full((len(x),), t, device=x.device, dtype=dtype)


class Denoiser(Protocol):
    """A network with its conditions already bound: (x_t, t) -> Prediction."""

    def __call__(
        self, x_t: torch.Tensor, t: torch.Tensor, *, end_t: torch.Tensor | None = None
    ) -> Prediction: ...


class Sampler(BaseModel, ABC):
    """One sampling recipe: solver, times and guidance. Serialisable; holds no tensors.

    Attributes:
        processes: kinds of noise process that it solves.
        offset: by how much its times are above the indices of the training times.
        kind: which recipe this is; the tag it is stored under.
        timesteps: input times, first to last; one network evaluation each.
        guidance_scale: usual convention, 1 = none (evaluates no second branch).
        embed_scale: guidance scale fed to a net that embeds it; None for nets that do not.
        steps_k: K fed to a net conditioned on its number of steps; None for nets that are not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    processes: ClassVar[tuple[str, ...]] = ("vp", "flow")
    offset: ClassVar[int] = 0

    kind: str
    timesteps: tuple[Time, ...]
    guidance_scale: float = 1.0
    embed_scale: float | None = None
    steps_k: int | None = None

    @property
    def nfe(self) -> int:
        """Network evaluations per sample (a guided evaluation of both branches counts as one)."""
        return len(self.timesteps)

    @abstractmethod
    def sample(
        self, denoise: Denoiser, x: torch.Tensor, process: NoiseProcess, noise: StepNoise
    ) -> torch.Tensor:
        """Turn noise `x` (B, *latent_shape) at the first time into x0 of the same shape."""
