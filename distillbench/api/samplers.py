"""The sampling recipes by kind: ODE solvers, re-noising at every step, TCD's mixture of both.

Those that published checkpoints need beside them are in `stock_samplers`. All evaluate the
network once per entry of `timesteps` (twice in TCD's second order), so `nfe` is exact for
second-order solvers too. Importable and constructible without torch, as planning needs the recipes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from distillbench.api.sampler import Denoiser, Sampler, SampleTimes, StepNoise, at_time
from distillbench.api.stock_samplers import EulerSampler, WindowsSampler
from distillbench.core.grid import gamma_end
from distillbench.core.lazy import torch
from distillbench.core.process import CLEAN
from distillbench.core.solve import (
    consistency_function,
    ddim,
    renoise,
    second_order_jump,
    second_order_step,
    transition,
)
from distillbench.errors import BadInput

if TYPE_CHECKING:
    from distillbench.core.process import NoiseProcess

__all__ = ["SAMPLERS", "GammaSampler", "OdeSampler", "RenoiseSampler", "crossed", "from_recipe"]


class OdeSampler(Sampler):
    """Deterministic solution of the probability-flow ODE.

    Attributes:
        solver: "ddim" (first order); "euler" (Euler's method in sigma / alpha, the same step, but
            ending at the data like diffusers' EulerDiscreteScheduler); "dpmsolver++" (2M) and
            "dpmsolver++2s" (2S, pairs of times), both of arXiv 2211.01095, first order in the
            step to the data; 2S also from times without signal (zero terminal SNR).
        end: where DDIM ends: "schedule" at the process's own final time, "clean" at the data. The
            other solvers always end at the data.
    """

    kind: Literal["ode"] = "ode"
    timesteps: SampleTimes
    solver: Literal["ddim", "euler", "dpmsolver++", "dpmsolver++2s"] = "ddim"
    end: Literal["schedule", "clean"] = "schedule"

    def sample(
        self, denoise: Denoiser, x: torch.Tensor, process: NoiseProcess, noise: StepNoise
    ) -> torch.Tensor:
        """Integrate from noise `x` to the end; draws no noise."""
        to_schedule_end = self.solver == "ddim" and self.end == "schedule"
        times = (*self.timesteps, process.final if to_schedule_end else CLEAN)
        points = [process.alpha_sigma(t, x) for t in times]
        x_last, x0_last = x, x
        for i, t in enumerate(self.timesteps):
            pred = denoise(x, at_time(t, x))
            here, following = points[i], points[i + 1]
            if not self._second_order(i, points):
                x_next = ddim(pred.x0, pred.eps, *following)
            elif self.solver == "dpmsolver++":
                x_next = second_order_step(x, pred.x0, x0_last, here, points[i - 1], following)
            else:
                x_next = second_order_step(x_last, x0_last, pred.x0, points[i - 1], here, following)
            x, x_last, x0_last = x_next, x, pred.x0
        return x

    def _second_order(self, i: int, points: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> bool:
        # No second order over a step of infinite length in log-SNR: to the data, from pure noise.
        if not self.solver.startswith("dpmsolver++") or i == len(self.timesteps) - 1:
            return False
        if self.solver == "dpmsolver++":
            return i > 0
        return i % 2 == 1 and bool((points[i - 1][0] > 0).all())


class RenoiseSampler(Sampler):
    """Predict the data, noise it afresh to the next time (LCM, arXiv 2310.04378, alg. 3; DMD2).

    Attributes:
        boundary: apply LCM's c_skip and c_out; without, the plain x0 prediction (DMD2).
    """

    kind: Literal["renoise"] = "renoise"
    timesteps: SampleTimes
    boundary: bool = False

    def sample(
        self, denoise: Denoiser, x: torch.Tensor, process: NoiseProcess, noise: StepNoise
    ) -> torch.Tensor:
        """Alternate denoising and noising; the last prediction is returned as it is."""
        for i, t in enumerate(self.timesteps):
            times = at_time(t, x)
            x0 = denoise(x, times).x0
            x = consistency_function(x, x0, times) if self.boundary else x0
            if i + 1 < len(self.timesteps):
                x = process.add_noise(x, noise(i), self.timesteps[i + 1])
        return x


class GammaSampler(Sampler):
    """Strategic stochastic sampling (TCD, arXiv 2402.19159, alg. 4).

    Go below the next time p to s = (1 - gamma) p, then noise from s up to p, with the kernel that
    gives p its alpha and sigma whatever the process. The last step goes to the process's final time
    and adds no noise.

    Attributes:
        gamma: 0 is deterministic, 1 re-noises from the data end.
        order: 2 takes TCF(2), with a second evaluation inside each step.
        embed_end: tell the net its end time s, for nets made with the "end_t" condition.
    """

    kind: Literal["gamma"] = "gamma"
    timesteps: SampleTimes
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.3
    order: Literal[1, 2] = 1
    embed_end: bool = False

    @property
    def nfe(self) -> int:
        """One evaluation a step, or two."""
        return self.order * len(self.timesteps)

    def sample(
        self, denoise: Denoiser, x: torch.Tensor, process: NoiseProcess, noise: StepNoise
    ) -> torch.Tensor:
        """Alternate trajectory steps and noising."""
        following = (*self.timesteps[1:], process.final)
        dtype = x.dtype if process.kind == "flow" else torch.long
        for i, (t, p) in enumerate(zip(self.timesteps, following, strict=True)):
            s = gamma_end(at_time(p, x).to(dtype), self.gamma)
            x = self._jump(denoise, x, at_time(t, x), s, process)
            if self.gamma > 0 and i + 1 < len(self.timesteps):
                at_s, at_p = process.alpha_sigma(s, x), process.alpha_sigma(p, x)
                x = renoise(x, noise(i), *transition(*at_s, *at_p))
        return x

    def _jump(
        self, denoise: Denoiser, x: torch.Tensor, t: torch.Tensor, s: torch.Tensor,
        process: NoiseProcess,
    ) -> torch.Tensor:  # fmt: skip
        end_t = s if self.embed_end else None
        pred = denoise(x, t, end_t=end_t)
        if self.order == 1:
            return ddim(pred.x0, pred.eps, *process.alpha_sigma(s, x))
        return second_order_jump(
            process, x, pred.x0, pred.eps, t, s, lambda x_m, m: denoise(x_m, m, end_t=end_t).x0
        )


SAMPLERS: dict[str, type[Sampler]] = {
    "ode": OdeSampler,
    "renoise": RenoiseSampler,
    "gamma": GammaSampler,
    "euler": EulerSampler,
    "windows": WindowsSampler,
}


def from_recipe(recipe: Mapping[str, Any]) -> Sampler:
    """The sampler that `Sampler.model_dump(mode="json")` described.

    Raises:
        BadInput: unknown kind or fields.
    """
    kind = recipe.get("kind")
    if kind not in SAMPLERS:
        raise BadInput(f"sampler kind {kind!r} is not one of {', '.join(SAMPLERS)}")
    try:
        return SAMPLERS[kind].model_validate(dict(recipe))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise BadInput(f"sampler {kind!r}: {'; '.join(lines)}") from None


def crossed(sampler: Sampler, kind: str) -> Sampler:
    """The recipe of another kind at the same times and scales; what else it has is its default.

    Raises:
        BadInput: unknown kind.
    """
    cls = SAMPLERS.get(kind)
    if cls is None:
        raise BadInput(f"sampler kind {kind!r} is not one of {', '.join(SAMPLERS)}")
    shared = Sampler.model_fields.keys() - {"kind"}
    given = sampler.model_dump()
    return cls(**{name: given[name] for name in shared})
