"""The stock scheduler that takes the very steps of a sampling recipe, found by trial.

Each recipe has a few candidates in diffusers. Each is built from a white list, the numbers of the
noise process and what the recipe needs, never from the teacher's scheduler file: that one's
clipping, thresholding, Karras sigmas or algorithm belong to the teacher's sampler. A candidate is
then stepped beside our own sampler on a made-up network with the same noise, and the first that
arrives at the same place is taken. So a scheduler is never believed, and what none can follow is
named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import diffusers
import numpy as np
import torch

from distillbench.api.sampler import Sampler
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.student.trial import TrialTeacher, distance

__all__ = ["Followed", "follow"]

PROCESS = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "rescale_betas_zero_snr", "snr_shift_scale", "prediction_type", "shift",
)  # fmt: skip
TOLERANCE = 5e-4
# An offset of 1 moves no time here; pipelines of Stable Diffusion set it themselves, warning.
PLAIN = {"clip_sample": False, "thresholding": False, "steps_offset": 1}
DPM = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "lower_order_final": True}
GRIDS = (50, 40, 100, 25, 20)


@dataclass(frozen=True)
class Followed:
    """A scheduler and how it is told the times.

    Attributes:
        times: arguments of the pipeline's call.
        limits: what of the recipe it does not follow, each with the reason; empty when nothing.
        sigmas: of a flow model, the input that gives the recipe's times; None elsewhere.
    """

    scheduler: Any
    times: Mapping[str, Any]
    limits: Mapping[str, str] = field(default_factory=dict)
    sigmas: list[float] | None = None


@dataclass(frozen=True)
class _Candidate:
    """A scheduler class with its settings; `spacings` are ways to make the times from a count."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    spacings: Sequence[Mapping[str, Any]] = ({},)
    clean_start: bool = False


def follow(sampler: Sampler, teacher: TrialTeacher) -> Followed:
    """The first candidate that samples as `sampler` does, else the nearest with its limits."""
    candidates = [_prepared(c, sampler, teacher) for c in _candidates(sampler, teacher)]
    if sampler.nfe != len(sampler.timesteps):
        why = "no scheduler of diffusers evaluates the network twice a step"
        return replace(candidates[0], limits={"sampler.order": why})
    nearest, least = candidates[0], math.inf
    for followed in (c for c in candidates if not c.limits):
        away = distance(followed.scheduler, followed.times, sampler, teacher)
        if away <= TOLERANCE:
            return followed
        if away < least:
            nearest, least = followed, away
    name = type(nearest.scheduler).__name__
    why = f"no scheduler of diffusers takes these steps; {name} comes nearest"
    return replace(nearest, limits=nearest.limits or {"sampler.solver": why})


# ---- candidates ---------------------------------------------------------------------------


def _candidates(sampler: Sampler, teacher: TrialTeacher) -> Iterator[_Candidate]:
    kind = str(getattr(sampler, "solver", sampler.kind))
    if teacher.process.kind == "flow":
        yield from _of_flow(kind)
        return
    to_schedule_end = kind == "gamma" or (
        kind == "ddim" and getattr(sampler, "end", "") == "schedule"
    )
    clean = not to_schedule_end or teacher.process.final == CLEAN
    yield from _of_diffusion(kind, sampler, teacher.family, clean=clean)


def _of_flow(kind: str) -> Iterator[_Candidate]:
    if kind == "renoise":
        yield _Candidate("FlowMatchLCMScheduler")
    else:
        yield _Candidate("FlowMatchEulerDiscreteScheduler")
        if kind == "gamma":  # gamma 1 re-noises from the data
            yield _Candidate("FlowMatchLCMScheduler")


def _of_diffusion(kind: str, sampler: Sampler, family: str, *, clean: bool) -> Iterator[_Candidate]:
    times = sampler.timesteps
    even = [{"timestep_spacing": spacing} for spacing in ("trailing", "linspace")]
    grids = [{"original_inference_steps": n} for n in (*GRIDS, len(times))]
    end = {"set_alpha_to_one": clean}
    final = {**DPM, "final_sigmas_type": "zero" if clean else "sigma_min"}
    if family:
        yield _Candidate(family, {**PLAIN, **end}, even)
    if kind == "renoise":
        # Its boundary scalings vanish as timestep_scaling grows.
        scaling = 10.0 if getattr(sampler, "boundary", False) else 1e8
        yield _Candidate("LCMScheduler", {**PLAIN, **end, "timestep_scaling": scaling}, grids)
    elif kind == "gamma":
        yield _Candidate("TCDScheduler", {**PLAIN, **end}, grids)
        yield _Candidate("TCDScheduler", {**PLAIN, **end}, grids, clean_start=True)
    elif kind == "dpmsolver++":
        yield _Candidate("DPMSolverMultistepScheduler", {**PLAIN, **final, "solver_order": 2}, even)
    elif kind == "dpmsolver++2s":
        yield _Candidate("DPMSolverSinglestepScheduler", {**PLAIN, **final, "solver_order": 2})
    elif sampler.kind == "euler":
        named = "EulerAncestralDiscreteScheduler" if getattr(sampler, "eta", 0.0) else ""
        yield _Candidate(named or "EulerDiscreteScheduler", {}, even)
    elif sampler.kind == "windows":  # nothing of diffusers moves in windows
        yield _Candidate("DDIMScheduler", {**PLAIN, **end}, even)
    if sampler.kind == "ode":  # Euler's too: EulerDiscreteScheduler starts from other noise
        yield _Candidate("DDIMScheduler", {**PLAIN, **end}, even)
        # One step of first order is DDIM's, at times of any kind.
        yield _Candidate("DPMSolverMultistepScheduler", {**PLAIN, **final, "solver_order": 1}, even)


# ---- building -----------------------------------------------------------------------------


def _prepared(candidate: _Candidate, sampler: Sampler, teacher: TrialTeacher) -> Followed:
    """The candidate, told the recipe's times by their number if it can, else one by one."""
    times = list(sampler.timesteps)
    if teacher.process.kind == "flow":
        return _flow(candidate, times, teacher)
    for spacing in candidate.spacings:
        made = _build(candidate, spacing, teacher)
        if _by_number(made, times):
            return Followed(made, {"num_inference_steps": len(times)})
    made = _build(candidate, candidate.spacings[0], teacher)
    if "timesteps" in signature(made.set_timesteps).parameters:
        return Followed(made, {"timesteps": times})
    why = f"{type(made).__name__} makes its times itself: {_taken(made, len(times))}"
    return Followed(made, {"num_inference_steps": len(times)}, {"sampler.timesteps": why})


def _by_number(scheduler: Any, times: Sequence[float]) -> bool:
    try:
        taken = _taken(scheduler, len(times))
    except ValueError:  # more steps than its grid has
        return False
    return len(taken) == len(times) and bool(np.allclose(taken, times, rtol=0, atol=0.01))


def _taken(scheduler: Any, number: int) -> list[float]:
    scheduler.set_timesteps(number)
    return [float(t) for t in scheduler.timesteps]


def _build(candidate: _Candidate, spacing: Mapping[str, Any], teacher: TrialTeacher) -> Any:
    kind = getattr(diffusers, candidate.name)
    known = signature(kind.__init__).parameters
    numbers = {k: teacher.config[k] for k in PROCESS if k in teacher.config}
    wanted = {**numbers, "prediction_type": teacher.prediction_type, **candidate.settings}
    settings = {k: v for k, v in {**wanted, **spacing}.items() if k in known}
    made = kind(**settings)
    if candidate.clean_start or not _same_process(made, teacher.process):
        betas = _betas(teacher.process, clean_start=candidate.clean_start)
        made = kind(**{**settings, "trained_betas": betas})
    return made


def _same_process(scheduler: Any, process: NoiseProcess) -> bool:
    """Whether its alphas are ours; the last may be raised from 0 so that log-SNR is finite."""
    theirs = torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float64)
    same = theirs.shape == process.alphas.shape
    return same and bool(torch.allclose(theirs, process.alphas**2, rtol=1e-3, atol=1e-6))


def _betas(process: NoiseProcess, *, clean_start: bool) -> list[float]:
    """The betas of any process; with `clean_start` its first time is the data itself."""
    squared = process.alphas**2
    if clean_start:
        squared = torch.cat([squared.new_ones(1), squared[1:]])
    before = torch.cat([squared.new_ones(1), squared[:-1]])
    return [float(beta) for beta in 1.0 - squared / before]


# ---- flow ---------------------------------------------------------------------------------


def _flow(candidate: _Candidate, times: Sequence[float], teacher: TrialTeacher) -> Followed:
    """A flow scheduler: its number of steps gives the times where a shift and an end can.

    Its own default takes the last step from time 9 (shift 3), which no student is trained for.
    """
    total, shift = teacher.process.num_timesteps, float(teacher.config.get("shift", 1.0))
    kind = getattr(diffusers, candidate.name)
    fitted = _fitted([t / total for t in times], total)
    if fitted:
        made = kind(num_train_timesteps=total, **fitted)
        if _by_number(made, times):
            inputs = np.linspace(made.sigma_max, made.sigma_min, len(times))
            count = {"num_inference_steps": len(times)}
            return Followed(made, count, sigmas=[float(s) for s in inputs])
    made = kind(num_train_timesteps=total, shift=shift)
    sigmas = [_unshifted(t / total, shift) for t in times]
    return Followed(made, {"sigmas": sigmas}, sigmas=sigmas)


def _fitted(sigmas: Sequence[float], total: int) -> dict[str, float] | None:
    """Shift and end under which evenly spaced inputs become `sigmas`; None where there are none.

    The scheduler shifts linspace(1, sigma_min, n) by S(u) = g u / (1 + (g - 1) u) and stretches
    the result to end at `shift_terminal`. With w = i / (n - 1) that is 1 - sigma_i proportional to
    w / (1 + c (1 - w)), where c = (g - 1)(1 - m) / (1 + (g - 1) m) and m = sigma_min.
    """
    n = len(sigmas)
    if n < 3:
        return {"shift": 1.0} | ({"shift_terminal": sigmas[1]} if n == 2 else {})
    w = 1.0 / (n - 1)
    share = (1.0 - sigmas[1]) / (1.0 - sigmas[-1])
    if share <= 0:
        return None
    c = (w / share - 1.0) / (1.0 - w)
    shift = 1.0 + c
    for _ in range(20):  # m depends on the shift itself, weakly: m = S(1 / T)
        m = shift / total / (1.0 + (shift - 1.0) / total)
        room = 1.0 - m - c * m
        shift = 1.0 + c / room if room > 0 else 0.0
    return {"shift": shift, "shift_terminal": sigmas[-1]} if shift > 0 else None


def _unshifted(sigma: float, shift: float) -> float:
    return sigma / (shift - (shift - 1) * sigma)
