"""The forward noise process x_t = alpha_t x0 + sigma_t eps of a diffusion or flow model.

One record serves variance-preserving diffusion (tables over integer times, interpolated between
them) and rectified flow (alpha = 1 - sigma, sigma = t / T); both take real-valued times. Tables are
float64; what a caller gets is float32 unless it works in float64 itself, never half precision,
because reading x0 as (x - sigma eps) / alpha multiplies sigma's error by 1 / alpha_999 = 14.6 on
Stable Diffusion's schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from distillbench.core.between import between
from distillbench.core.lazy import torch

__all__ = ["CLEAN", "NoiseProcess", "per_sample"]

CLEAN = -1
"""Time index of the exact data end: alpha 1, sigma 0."""

_Tables = tuple["torch.Tensor", "torch.Tensor"]


def per_sample(value: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    """A scalar or (B,) `value` as (1 or B, 1, .., 1), in the device and precision of `like`."""
    tensor = torch.as_tensor(value, dtype=_precision(like), device=like.device)
    return tensor.reshape(-1, *[1] * (like.ndim - 1))


def _precision(like: torch.Tensor) -> torch.dtype:
    return torch.float64 if like.dtype == torch.float64 else torch.float32


@dataclass(frozen=True, eq=False)
class NoiseProcess:
    """alpha_t and sigma_t of one model.

    Attributes:
        kind: "vp" (alpha^2 + sigma^2 = 1) or "flow" (alpha + sigma = 1).
        num_timesteps: T; the noisiest time is T - 1 for "vp" and T for "flow".
        alphas, sigmas: float64 (T,), the values at times 0..T-1.
        final: time that a deterministic sampler ends at: 0 where the schedule stops at its first
            training time (diffusers' set_alpha_to_one=False), CLEAN where it reaches the data. For
            "flow" time 0 is the data itself.
    """

    kind: Literal["vp", "flow"]
    num_timesteps: int
    alphas: torch.Tensor
    sigmas: torch.Tensor
    final: int = 0
    _moved: dict[tuple[torch.dtype, torch.device], _Tables] = field(
        default_factory=dict, repr=False, init=False
    )

    # ---- constructors -------------------------------------------------------------------

    @staticmethod
    def scaled_linear(
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        num_timesteps: int = 1000,
        *,
        final: int = 0,
    ) -> NoiseProcess:
        """Stable Diffusion's schedule: sqrt(beta) linear in t."""
        roots = torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float64)
        return NoiseProcess.from_betas(roots**2, final=final)

    @staticmethod
    def from_betas(betas: torch.Tensor | Sequence[float], *, final: int = 0) -> NoiseProcess:
        """The process of DDPM betas: alpha_t^2 = prod_{i <= t} (1 - beta_i)."""
        betas = torch.as_tensor(betas, dtype=torch.float64)
        return NoiseProcess.from_alphas_cumprod(torch.cumprod(1.0 - betas, 0), final=final)

    @staticmethod
    def from_alphas_cumprod(
        alphas_cumprod: torch.Tensor | Sequence[float], *, final: int = 0
    ) -> NoiseProcess:
        """The process of alpha_t^2, as shifted or zero-terminal-SNR schedules state it."""
        squared = torch.as_tensor(alphas_cumprod, dtype=torch.float64)
        return NoiseProcess("vp", len(squared), squared.sqrt(), (1.0 - squared).sqrt(), final)

    @staticmethod
    def flow(num_timesteps: int = 1000) -> NoiseProcess:
        """Rectified flow x_t = (1 - sigma) x0 + sigma eps with sigma = t / T."""
        sigmas = torch.arange(num_timesteps, dtype=torch.float64) / num_timesteps
        return NoiseProcess("flow", num_timesteps, 1.0 - sigmas, sigmas, final=0)

    # ---- use ----------------------------------------------------------------------------

    def alpha_sigma(
        self, t: torch.Tensor | float, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """alpha_t and sigma_t shaped (B, 1, .., 1) to multiply `like`; differentiable in real t.

        Args:
            t: (B,) times or one time for all; 1000 sigma for "flow". CLEAN and all below give
                (1, 0). Real times of "vp" are read between the integers, see `between`; one that is
                whole has the integer's very values.
            like: gives rank, device and precision (float64 stays, all else is float32).

        Raises:
            IndexError: a "vp" time beyond T - 1.
        """
        if self.kind == "flow":
            time = per_sample(t, like)
            # Not by clamp, whose derivative at its bound is zero.
            sigma = torch.where(time < 0, 0.0, time) / self.num_timesteps
            return 1.0 - sigma, sigma
        t = torch.as_tensor(t, device=like.device)
        real = t.is_floating_point()
        alphas, sigmas = self._tables(torch.float64 if real else _precision(like), like.device)
        place = (t.double() if real else t) - CLEAN
        place = torch.where(place < 0, 0, place)
        found = between(alphas, sigmas, place) if real else (alphas[place], sigmas[place])
        return per_sample(found[0], like), per_sample(found[1], like)

    def add_noise(
        self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor | float
    ) -> torch.Tensor:
        """x_t = alpha_t x0 + sigma_t eps."""
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * x0 + sigma * eps

    def snr(self, t: torch.Tensor) -> torch.Tensor:
        """alpha_t^2 / sigma_t^2, (B,) float32; infinite at CLEAN."""
        alpha, sigma = self.alpha_sigma(t, torch.empty(0, dtype=torch.float64, device=t.device))
        return ((alpha / sigma) ** 2).reshape(-1).float()

    def halfway(self, t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Times strictly between s < t at the middle in half log-SNR, for "vp" the nearest integer.

        Used by the second-order trajectory function (TCD, arXiv 2402.19159, section 4.1). Where
        there is no such time (of integers, where t - s = 1) t itself is returned; s must not be
        CLEAN. Half log-SNR is infinite without signal and without noise: a time without signal
        (zero terminal SNR) counts as the noisiest one that has some, T of "flow" as T - 1, and its
        time 0 as T / 50, about where Stable Diffusion's time 0 has its noise (our choice).

        Raises:
            TypeError: real-valued times of "vp".
        """
        if self.kind == "flow":
            return self._halfway_of_flow(t, s)
        if t.is_floating_point() or s.is_floating_point():
            raise TypeError("the time halfway is defined between integer times")
        lambdas = (self.alphas / self.sigmas).log().to(t.device)
        lambdas = lambdas.clamp(min=float(lambdas[lambdas.isfinite()].min()))
        middle = (lambdas[t] + lambdas[s]) / 2
        nearest = (lambdas[None, :] - middle[:, None]).abs().argmin(1)
        inside = torch.minimum(torch.maximum(nearest, s + 1), t - 1)
        return torch.where(t - s > 1, inside, t)

    def _halfway_of_flow(self, t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Where sigma / alpha is the geometric mean of those at both ends."""
        total = self.num_timesteps
        high = t.double().clamp(max=total - 1)
        low = torch.where(s > 0, s, total / 50).double().clamp(max=total - 1)
        mean = (high / (total - high) * low / (total - low)).sqrt()
        middle = total * mean / (1 + mean)
        return torch.minimum(torch.maximum(middle, s.double()), t.double()).to(t.dtype)

    def _tables(self, dtype: torch.dtype, device: torch.device) -> _Tables:
        # Entry i holds time i - 1, so that CLEAN is entry 0. Kept per device: a copy to the GPU
        # at every call would stall it.
        key = (dtype, device)
        if key not in self._moved:
            one, zero = self.alphas.new_ones(1), self.alphas.new_zeros(1)
            alphas, sigmas = torch.cat([one, self.alphas]), torch.cat([zero, self.sigmas])
            self._moved[key] = (alphas.to(dtype).to(device), sigmas.to(dtype).to(device))
        return self._moved[key]
