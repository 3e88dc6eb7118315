"""TDM's Fisher divergence and its DPM-Solver++ trajectories."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from distillbench.api import registry
from distillbench.api.samplers import OdeSampler
from distillbench.core.matching import fisher_surrogate
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import ddim
from distillbench.core.trajectory import Trajectory
from distillbench.errors import NotSupported
from distillbench.methods.settings.tdm import TDMConfig
from distillbench.methods.tdm import TDM

NODES = (999, 749, 499, 249)


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


def tdm(toy: Any, make_role: Any, gain: float, **config: Any) -> Any:
    """A TDM on the toy, whose student is the teacher plus `gain` x and whose fake the teacher."""
    method = TDM(TDMConfig(**config), toy(output))
    method.gain = torch.tensor(gain, dtype=torch.float64, requires_grad=True)
    student = make_role("student", lambda x, t, c: output(x, t, c) + method.gain * x)
    method.bind({"student": student, "fake": make_role("fake", output)})
    return method


# ---- Fisher -------------------------------------------------------------------------------


def test_fisher_has_half_the_divergences_gradient_for_gaussians() -> None:
    # Teacher N(mu, s2), student x0 = m + d z, x_tau = a x0 + s n, both scores exact. At a fixed
    # law of x_tau, d/dm E (f_real - f_fake)^2 = 2 (m - mu) (1 - a G) (1 - a g), and accordingly
    # for d; G and g are the slopes of the two posterior means.
    a, s, mu, s2 = 0.8, 0.6, 0.3, 0.5
    rng = torch.Generator().manual_seed(0)
    z, n = torch.randn(2, 400_000, 1, generator=rng, dtype=torch.float64)
    m, d = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.7, 0.6))

    def posterior(x: torch.Tensor, mean: Any, variance: Any) -> torch.Tensor:
        return mean + a * variance / (a**2 * variance + s**2) * (x - a * mean)

    x0 = m + d * z
    x_tau = a * x0 + s * n
    real, fake = posterior(x_tau, mu, s2), posterior(x_tau, 0.7, 0.36)  # frozen weights
    found = torch.autograd.grad(fisher_surrogate(x0, real, fake, None), (m, d))

    fixed = x_tau.detach()
    gap = posterior(fixed, mu, s2) - posterior(fixed, m, d**2)
    exact = torch.autograd.grad((gap**2).mean(), (m, d))
    slopes = a * s2 / (a**2 * s2 + s**2), a * 0.36 / (a**2 * 0.36 + s**2)
    assert float(exact[0]) == pytest.approx(
        2 * 0.4 * (1 - a * slopes[0]) * (1 - a * slopes[1]), abs=3e-3
    )
    for ours, wanted in zip(found, exact, strict=True):
        assert 2 * float(ours) == pytest.approx(float(wanted), abs=6e-3)
    assert abs(float(exact[1])) > 0.02


def test_fisher_leaves_a_student_of_equal_scores_alone(toy: Any, make_role: Any) -> None:
    method = tdm(toy, make_role, 0.1, divergence="fisher", teacher_guidance=1.0)
    total = method.loss("student", method.backbone.batch(), 0).total
    total.backward()
    assert total == 0
    assert abs(float(method.gain.grad)) < 1e-14  # rounding of two equal terms


def test_fisher_flows_through_both_scores(toy: Any, make_role: Any) -> None:
    method = tdm(toy, make_role, 0.1, divergence="fisher", steps=2)
    batch = method.backbone.batch()
    total = method.loss("student", batch, 0).total
    calls = Counter(method.backbone.calls)
    assert calls["teacher", True] == calls["fake", True] == calls["student", True] == 1
    (slope,) = torch.autograd.grad(total, method.gain)
    # finite differences, with rollout and normaliser held as the gradient holds them
    rollout, step = method.rollout(batch), 1e-6
    assert slope != 0

    def moved(by: float) -> float:
        with torch.no_grad():
            method.gain += by
        fresh = method.backbone.batch()
        fresh.once("rollout", lambda: rollout)
        value = method.loss("student", fresh, 0).total.item()
        with torch.no_grad():
            method.gain -= by
        return value

    method.config = method.config.model_copy(update={"normalizer": "none"})
    fresh = method.backbone.batch()
    fresh.once("rollout", lambda: rollout)
    (slope,) = torch.autograd.grad(method.loss("student", fresh, 0).total, method.gain)
    difference = (moved(step) - moved(-step)) / (2 * step)
    assert float(slope) == pytest.approx(difference, rel=1e-5)


def test_fisher_trains_its_fake_score_unweighted(toy: Any, make_role: Any) -> None:
    method = tdm(toy, make_role, 0.1, divergence="fisher")
    assert float(method.loss("fake", method.backbone.batch(), 0).scalars["weight"]) == 1
    for other in ({"fake_sampling": "clean"}, {"fake_target": "dsm"}):
        with pytest.raises(ValidationError, match="fisher needs"):
            TDMConfig(divergence="fisher", **other)


ACROSS: dict[str, dict[str, Any]] = {
    "tdm": {"divergence": "fisher"},
    "tdm_unify": {"adversarial_weight": 0.1},
    "dmd2": {"adversarial_weight": 0.1},
    "tscd": {"w_adv": (0.0, 0.0, 0.0, 0.1)},
}


@pytest.mark.parametrize("name", sorted(ACROSS))
@pytest.mark.parametrize("nets", ["lora", {"student": "copy", "fake": "lora"}])
def test_recomputing_adapters_is_refused_where_gradients_cross_roles(name: str, nets: Any) -> None:
    if name == "tscd" and nets != "lora":
        nets = {"student": "lora", "fake": "copy"}  # without its one step there is no fake score
    backbone = registry.build_backbone("tiny-sd", {"gradient_checkpointing": True})
    for params in ({"nets": nets}, {**ACROSS[name], "nets": "copy"}):
        registry.build_method(name, params, backbone)
    with pytest.raises(NotSupported, match="gradient_checkpointing"):
        registry.build_method(name, {**ACROSS[name], "nets": nets}, backbone)
    plain = registry.build_backbone("tiny-sd", {})
    registry.build_method(name, {**ACROSS[name], "nets": nets}, plain)


# ---- DPM-Solver++ -------------------------------------------------------------------------


def test_the_rollout_is_the_samplers_trajectory(toy: Any, make_role: Any) -> None:
    method = tdm(toy, make_role, 0.1, train_solver="dpmsolver++")
    batch = method.backbone.batch()
    rollout = method.rollout(batch)
    states: list[torch.Tensor] = []

    def denoise(x: torch.Tensor, t: torch.Tensor, **_: Any) -> Any:
        states.append(x)
        return method.backbone.predict(method.net["student"], x, t, batch.cond)

    sampler = OdeSampler(timesteps=NODES, solver="dpmsolver++", end="clean")
    sampler.sample(denoise, batch.randn("start").double(), method.backbone.process, lambda i: x)
    for x, expected in zip(rollout.x, states, strict=True):
        torch.testing.assert_close(x.double(), expected, rtol=1e-6, atol=1e-6)
    first_order = tdm(toy, make_role, 0.1).rollout(method.backbone.batch())
    assert float((rollout.x[2] - first_order.x[2]).abs().max()) > 1e-3


def linear(process: NoiseProcess, seed: int = 0) -> Trajectory:
    rng = torch.Generator().manual_seed(seed)
    x, x0 = torch.randn(2, 4, 6, 2, generator=rng, dtype=torch.float64)
    alpha, sigma = process.alpha_sigma(torch.tensor(NODES), torch.zeros(4, 1, 1).double())
    eps = (x - alpha * x0) / sigma
    return Trajectory(process, "dpmsolver++", torch.tensor(NODES), x, x0, eps)


@pytest.mark.parametrize("m", [520, 500, 499])
def test_a_step_is_second_order_to_any_time_of_its_segment(m: int) -> None:
    from distillbench.core.solve import second_order_step

    process = NoiseProcess.scaled_linear()
    rollout, k = linear(process), torch.full((6,), 1)
    eps = rollout.step_eps(k, torch.full((6,), m), *rollout.at(k)[1:])
    at = [process.alpha_sigma(t, rollout.x[0]) for t in (749, 999, m)]
    expected = second_order_step(rollout.x[1], rollout.x0[1], rollout.x0[0], *at)
    torch.testing.assert_close(ddim(rollout.x0[1], eps, *at[2]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("k", "m"), [(0, 750), (3, 0), (1, CLEAN)])
def test_first_last_and_clean_steps_are_first_order(k: int, m: int) -> None:
    process = NoiseProcess.scaled_linear()
    rollout, index = linear(process), torch.full((6,), k)
    state = rollout.at(index)
    eps = rollout.step_eps(index, torch.full((6,), m), *state[1:])
    assert torch.equal(eps, state[2])


@pytest.mark.parametrize("divergence", ["kl", "fisher"])
@pytest.mark.parametrize("process", [NoiseProcess.flow(), NoiseProcess.scaled_linear()])
def test_gradients_stay_finite_at_the_clean_end(
    toy: Any, make_role: Any, divergence: str, process: NoiseProcess
) -> None:
    method = tdm(toy, make_role, 0.1, train_solver="dpmsolver++", divergence=divergence)
    method.backbone.process = process
    method.loss("student", method.backbone.batch(), 0).total.backward()
    assert bool(method.gain.grad.isfinite())
    assert method.gain.grad != 0


def test_the_vector_form_is_not_normalised_unless_asked() -> None:
    assert TDMConfig(huber_form="vector").normalizer == "none"
    assert TDMConfig(huber_form="vector", normalizer="dmd").normalizer == "dmd"
    assert TDMConfig().normalizer == "dmd"
