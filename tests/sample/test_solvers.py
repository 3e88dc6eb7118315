"""The samplers against diffusers' schedulers, their counts of network calls, and their noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
)

from distillbench.api.backbone import Prediction
from distillbench.api.sampler import Sampler
from distillbench.api.samplers import GammaSampler, OdeSampler, RenoiseSampler, from_recipe
from distillbench.core.grid import gamma_end
from distillbench.core.noise import sample_noise
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.schedules import lcm_times, trailing
from distillbench.errors import BadInput

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = NoiseProcess.scaled_linear()
SHAPE = (3, 4, 4)


class Net:
    """An eps network that is neither linear nor the same at all times; counts its calls."""

    def __init__(self, process: NoiseProcess = SD) -> None:
        self.process = process
        self.times: list[int] = []
        self.end_times: list[torch.Tensor | None] = []

    def __call__(
        self, x_t: torch.Tensor, t: torch.Tensor, *, end_t: torch.Tensor | None = None
    ) -> Prediction:
        self.times.append(int(t[0]))
        self.end_times.append(end_t)
        alpha, sigma = self.process.alpha_sigma(t, x_t)
        eps = 0.9 * sigma * x_t + 0.1 * torch.sin(3 * x_t) + 0.05 * alpha
        return Prediction(x0=(x_t - sigma * eps) / alpha, eps=eps, raw=eps)


def start(seed: int = 0) -> torch.Tensor:
    return sample_noise(seed, range(5), SHAPE, "init").double()


def forbidden(step: int) -> torch.Tensor:
    raise AssertionError(f"noise was drawn at step {step}")


def run(sampler: Sampler, noise: Any = forbidden, process: NoiseProcess = SD) -> torch.Tensor:
    return sampler.sample(Net(process), start(), process, noise)


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 2e-6) -> bool:
    return bool(((ours - theirs).norm() / theirs.norm()) < tolerance)


def diffusers_sample(scheduler: Any, times: tuple[int, ...], x: torch.Tensor) -> torch.Tensor:
    """What a pipeline does, in the scheduler's own scaling of x."""
    net = Net()
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        eps = net(scaled, torch.full((len(x),), int(t))).eps
        x = scheduler.step(eps, t, x, return_dict=False)[0]
    assert tuple(net.times) == times
    return x


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 10])
def test_ddim_equals_diffusers_and_ends_at_index_0(steps: int) -> None:
    scheduler = DDIMScheduler(
        **BETAS, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(steps)
    times = trailing(steps)
    ours = run(OdeSampler(timesteps=times))
    assert close(ours, diffusers_sample(scheduler, times, start()), 1e-6)


def test_clean_end_returns_the_last_x0() -> None:
    net = Net()
    t = torch.full((5,), 999)
    clean = OdeSampler(timesteps=(999,), end="clean").sample(net, start(), SD, forbidden)
    assert torch.equal(clean, net(start(), t).x0)
    process = NoiseProcess.scaled_linear(final=CLEAN)
    assert torch.equal(run(OdeSampler(timesteps=(999,)), process=process), clean)
    assert not torch.equal(run(OdeSampler(timesteps=(999,))), clean)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_euler_equals_diffusers(steps: int) -> None:
    scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    alpha, _ = SD.alpha_sigma(999, start())
    theirs = diffusers_sample(scheduler, trailing(steps), start() / alpha)
    assert close(run(OdeSampler(timesteps=trailing(steps), solver="euler")), theirs)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 13])
@pytest.mark.parametrize(
    ("solver", "kind"),
    [
        ("dpmsolver++", DPMSolverMultistepScheduler),
        ("dpmsolver++2s", DPMSolverSinglestepScheduler),
    ],
)
def test_dpm_solver_equals_diffusers(steps: int, solver: Any, kind: Any) -> None:
    scheduler = kind(**BETAS, final_sigmas_type="zero", lower_order_final=True)
    scheduler.set_timesteps(timesteps=list(trailing(steps)))
    ours = run(OdeSampler(timesteps=trailing(steps), solver=solver))
    assert close(ours, diffusers_sample(scheduler, trailing(steps), start()), 2e-5)


@pytest.mark.parametrize("solver", ["ddim", "euler", "dpmsolver++", "dpmsolver++2s"])
@pytest.mark.parametrize("process", [SD, NoiseProcess.flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_nfe_is_the_number_of_network_calls(solver: Any, process: Any, steps: int) -> None:
    times = trailing(steps)
    for sampler in (
        OdeSampler(timesteps=times, solver=solver),
        RenoiseSampler(timesteps=times),
        GammaSampler(timesteps=times),
    ):
        net = Net(process)
        x0 = sampler.sample(net, start(), process, lambda i: start(i + 1))
        assert len(net.times) == sampler.nfe == steps
        assert tuple(net.times) == times
        assert x0.isfinite().all()


@pytest.mark.parametrize("solver", ["dpmsolver++", "dpmsolver++2s"])
def test_the_step_from_pure_noise_is_first_order(solver: Any) -> None:
    """Its log-SNR is infinite: second order would be 0 / 0 there."""
    process = NoiseProcess.flow()

    def denoise(x: torch.Tensor, t: torch.Tensor, **conditions: Any) -> Prediction:
        x0 = torch.sin(3 * x)
        alpha, sigma = process.alpha_sigma(t, x)
        return Prediction(x0=x0, eps=(x - alpha * x0) / sigma, raw=x0)

    def end(**settings: Any) -> torch.Tensor:
        sampler = OdeSampler(timesteps=(1000, 500, 250), **settings)
        return sampler.sample(denoise, start(), process, forbidden)

    ours = end(solver=solver)
    assert ours.isfinite().all()
    if solver == "dpmsolver++2s":  # its one pair starts at pure noise
        assert close(ours, end(end="clean"))


def noises(count: int) -> tuple[list[torch.Tensor], torch.Generator]:
    """The draws a diffusers scheduler will make from a generator of seed 7."""
    generator = torch.Generator().manual_seed(7)
    draws = [torch.randn(5, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(count)]
    return draws, torch.Generator().manual_seed(7)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_lcm_equals_diffusers_and_draws_no_last_noise(steps: int) -> None:
    draws, generator = noises(steps - 1)
    spent = torch.Generator().manual_seed(7)
    for _ in draws:
        torch.randn(5, *SHAPE, generator=spent, dtype=torch.float64)
    scheduler = LCMScheduler(**BETAS)
    scheduler.set_timesteps(steps)
    x, net = start(), Net()
    for t in scheduler.timesteps:
        eps = net(x, torch.full((5,), int(t))).eps
        x = scheduler.step(eps, t, x, generator=generator, return_dict=False)[0]
    ours = run(RenoiseSampler(timesteps=lcm_times(steps), boundary=True), draws.__getitem__)
    assert close(ours, x, 1e-6)
    assert torch.equal(generator.get_state(), spent.get_state())  # the last step drew none


def test_dmd2_renoise_rollout_equals_lcm_scheduler() -> None:
    times = (999, 749, 499, 249)
    draws, generator = noises(3)
    scheduler = LCMScheduler(**BETAS)
    scheduler.set_timesteps(timesteps=list(times))
    x, net = start(), Net()
    for t in scheduler.timesteps:
        eps = net(x, torch.full((5,), int(t))).eps
        x = scheduler.step(eps, t, x, generator=generator, return_dict=False)[0]
    assert close(run(RenoiseSampler(timesteps=times), draws.__getitem__), x, 1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_gamma_sampler_equals_tcd_scheduler(gamma: float, steps: int) -> None:
    draws, generator = noises(steps - 1)
    scheduler = TCDScheduler(**BETAS, set_alpha_to_one=False)
    scheduler.set_timesteps(steps)
    x, net = start(), Net()
    for t in scheduler.timesteps:
        eps = net(x, torch.full((5,), int(t))).eps
        x = scheduler.step(eps, t, x, eta=gamma, generator=generator, return_dict=False)[0]
    ours = run(GammaSampler(timesteps=lcm_times(steps), gamma=gamma), draws.__getitem__)
    assert close(ours, x)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 10, 25, 50])
def test_gamma_zero_is_ddim_without_noise(steps: int) -> None:
    """By our own steps at TCD's times, and diffusers' where both have the same times."""
    times = lcm_times(steps)
    gamma = run(GammaSampler(timesteps=times, gamma=0.0))
    assert torch.equal(gamma, run(OdeSampler(timesteps=times)))
    assert (times == trailing(steps)) == (steps not in (4, 8))
    if times != trailing(steps):
        return
    scheduler = DDIMScheduler(
        **BETAS, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(steps)
    assert close(gamma, diffusers_sample(scheduler, times, start()), 1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.3, 0.5, 0.9, 1.0])
def test_a_flow_state_keeps_its_noise_level_for_every_gamma(gamma: float) -> None:
    """TCD's sampling on x = (1 - p) x0 + p eps: to s = (1 - gamma) p, then up to p again.

    a x_s + sqrt(p^2 - a^2 s^2) z with a = (1 - p) / (1 - s) and x_s = x - (t - s) v: our choice, as
    the paper (arXiv 2402.19159) has variance-preserving processes alone.
    """
    flow, states, z = NoiseProcess.flow(), [], start(1)
    x0, eps = start(2), start(3)

    def exact(
        x_t: torch.Tensor, t: torch.Tensor, *, end_t: torch.Tensor | None = None
    ) -> Prediction:
        states.append(x_t)
        return Prediction(x0=x0, eps=eps, raw=eps - x0)

    x = flow.add_noise(x0, eps, torch.full((5,), 900))
    made = GammaSampler(timesteps=(900, 600), gamma=gamma).sample(exact, x, flow, lambda i: z)
    p, s, t = 0.6, (1 - gamma) * 0.6, 0.9
    a = (1 - p) / (1 - s)
    expected = a * (x - (t - s) * (eps - x0)) + max(p**2 - a**2 * s**2, 0.0) ** 0.5 * z
    assert (states[1] - expected).abs().max().item() <= 1e-12
    assert a * (1 - s) == pytest.approx(1 - p, abs=1e-15)  # of the data
    assert (a * s) ** 2 + max(p**2 - a**2 * s**2, 0.0) == pytest.approx(p**2, abs=1e-15)
    assert torch.equal(made, x0)  # the last step ends at the data, without noise


@pytest.mark.parametrize("gamma", [0.1, 0.3, 0.6, 0.7, 0.9])
def test_the_end_of_a_gamma_step_is_floored_after_a_float32_product(gamma: float) -> None:
    """As diffusers' TCDScheduler does, where float64 would sometimes fall one time lower."""
    p = torch.arange(1, 1000)
    ours = gamma_end(p, gamma)
    single, double = (
        torch.floor((1 - gamma) * p.to(d)).long() for d in (torch.float, torch.double)
    )
    assert torch.equal(ours, single)
    assert torch.equal(single, double) == (gamma not in (0.3, 0.9))
    scheduler, x, eps = TCDScheduler(**BETAS), start(), start(1)
    scheduler.set_timesteps(50)
    alphas = scheduler.alphas_cumprod.double()
    for t, s in zip(scheduler.timesteps, gamma_end(scheduler.timesteps[1:], gamma), strict=False):
        theirs = scheduler.step(eps, t, x, eta=gamma, return_dict=False)[1]
        x0 = (x - (1 - alphas[t]).sqrt() * eps) / alphas[t].sqrt()
        assert close(alphas[s].sqrt() * x0 + (1 - alphas[s]).sqrt() * eps, theirs), int(t)


def test_gamma_sampler_tells_the_end_time() -> None:
    net = Net()
    GammaSampler(timesteps=(999, 499), gamma=0.5, embed_end=True).sample(
        net, start(), SD, lambda i: start(i + 1)
    )
    assert [int(end[0]) for end in net.end_times if end is not None] == [249, 0]


@pytest.mark.parametrize("kind", [RenoiseSampler, GammaSampler])
def test_a_sample_does_not_depend_on_its_batch(kind: Any) -> None:
    sampler = kind(timesteps=(999, 749, 499, 249))

    def sample(indices: list[int]) -> torch.Tensor:
        def noise(step: int) -> torch.Tensor:
            return sample_noise(3, indices, SHAPE, f"step{step}").double()

        x = sample_noise(3, indices, SHAPE, "init").double()
        return torch.as_tensor(sampler.sample(Net(), x, SD, noise))

    whole = sample([0, 1, 2, 3, 4])
    parts = torch.cat([sample([0]), sample([1, 2]), sample([3, 4])])
    assert torch.allclose(whole, parts, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", [
    OdeSampler(timesteps=(999, 499), solver="dpmsolver++", guidance_scale=3.5),
    RenoiseSampler(timesteps=(999,), boundary=True, embed_scale=7.5),
    GammaSampler(timesteps=(999, 9), gamma=0.2, steps_k=2),
])  # fmt: skip
def test_a_recipe_survives_json(sampler: Sampler) -> None:
    assert from_recipe(sampler.model_dump(mode="json")) == sampler


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"kind": "od"}, "'od' is not one of ode, renoise, gamma"),
        ({"kind": "ode", "timesteps": [1, 2]}, "falling list"),
        ({"kind": "ode", "timesteps": []}, "falling list"),
        ({"kind": "gamma", "timesteps": [999], "gamma": 1.5}, "gamma: Input should be less"),
        ({"kind": "ode", "timesteps": [999], "eta": 1}, "eta: Extra inputs"),
    ],
)
def test_bad_recipes(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        from_recipe(recipe)
