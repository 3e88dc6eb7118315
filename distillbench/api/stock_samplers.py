"""Two recipes that published checkpoints are sampled with: Euler's schedulers, piecewise flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from distillbench.api.sampler import Denoiser, Sampler, SampleTimes, StepNoise, at_time
from distillbench.core.lazy import torch
from distillbench.core.process import CLEAN
from distillbench.core.windows import Reads, factors, on_line, window_end

if TYPE_CHECKING:
    from distillbench.core.process import NoiseProcess

__all__ = ["EulerSampler", "WindowsSampler"]


class EulerSampler(Sampler):
    """Euler's method in s = sigma / alpha, plain or ancestral, as two of diffusers' have it.

    x / alpha moves along (x / alpha - x0) / s to s_down and gets s_up of fresh noise, with
    s_up^2 = eta^2 s'^2 (s^2 - s'^2) / s^2 and s_down^2 = s'^2 - s_up^2 (arXiv 2206.00364, and the
    ancestral step of k-diffusion). It ends at the data.

    Attributes:
        eta: 0 is deterministic, 1 ancestral.
        start: "sigma" begins at sigma_T times the noise, as those schedulers do at trailing times;
            "unit" at the noise itself.
    """

    processes: ClassVar[tuple[str, ...]] = ("vp",)
    kind: Literal["euler"] = "euler"
    timesteps: SampleTimes
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    start: Literal["sigma", "unit"] = "sigma"

    def sample(
        self, denoise: Denoiser, x: torch.Tensor, process: NoiseProcess, noise: StepNoise
    ) -> torch.Tensor:
        """Integrate from noise `x`; draws noise where `eta` is above 0."""
        points = [process.alpha_sigma(t, x) for t in (*self.timesteps, CLEAN)]
        if self.start == "sigma":
            x = x * points[0][1]
        for i, t in enumerate(self.timesteps):
            pred = denoise(x, at_time(t, x))
            (alpha, sigma), (alpha_next, sigma_next) = points[i], points[i + 1]
            here, following = sigma / alpha, sigma_next / alpha_next
            up = self.eta * (following**2 * (here**2 - following**2) / here**2).sqrt()
            down = (following**2 - up**2).clamp(min=0).sqrt()
            x = alpha_next * (pred.x0 + down * pred.eps)
            if self.eta > 0 and i + 1 < len(self.timesteps):
                x = x + alpha_next * up * noise(i)
        return x


class WindowsSampler(Sampler):
    """Piecewise rectified flow (PeRFlow, arXiv 2405.07510): a straight path in each time window.

    Time t stands for index t - 1 of the training times. Within the window from s down to e the
    network's noise gives the window's end, and x moves on the straight line to it:

        x_e = [l (e - s) x_t + n (e - t) eps] / [l (t - s) + (e - t)],    l = alpha_e / alpha_s

    Attributes:
        windows: of equal length, each with at least one time.
        reads: "diff_eps", n = -sqrt(l^2 - 1): noise between the window's ends; "ddim_eps",
            n = sigma_e - l sigma_s: the noise of the diffusion.
    """

    processes: ClassVar[tuple[str, ...]] = ("vp",)
    offset: ClassVar[int] = 1
    kind: Literal["windows"] = "windows"
    timesteps: SampleTimes
    windows: PositiveInt = 4
    reads: Reads = "diff_eps"

    @staticmethod
    def times(steps: int, windows: int, num_timesteps: int = 1000) -> tuple[int, ...]:
        """1000, 750, 500, 250 for 4 steps in 4 windows; the first windows take what is left over.

        Raises:
            ValueError: fewer steps than windows.
        """
        if steps < windows:
            raise ValueError(f"{steps} steps for {windows} windows; each takes one at least")
        found = []
        for i in range(windows):
            inside = steps // windows + (i < steps % windows)
            start, width = (windows - i) / windows, 1 / windows / inside
            found += [int((start - j * width) * num_timesteps + 1e-9) for j in range(inside)]
        return tuple(found)

    def sample(
        self, denoise: Denoiser, x: torch.Tensor, process: NoiseProcess, noise: StepNoise
    ) -> torch.Tensor:
        """Move through the windows; draws no noise."""
        total = process.num_timesteps
        following = (*self.timesteps[1:], 0)
        for t, t_next in zip(self.timesteps, following, strict=True):
            eps = denoise(x, at_time(t, x)).eps
            (s, e), now = self._window(t / total), t / total
            ends = (process.alpha_sigma(max(round(time * total) - 1, 0), x) for time in (s, e))
            end = window_end(x, eps, now, s, e, *factors(self.reads, *ends))
            x = on_line(x, end, now, e, t_next / total)
        return x

    def _window(self, time: float) -> tuple[float, float]:
        """Start and end of the window that a time in (0, 1] is in."""
        index = min(int((1 - time) * self.windows + 1e-6), self.windows - 1)
        return 1 - index / self.windows, 1 - (index + 1) / self.windows
