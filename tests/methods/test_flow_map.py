"""Flow maps in float64: exact maps have no loss, constant velocities are mapped in one step."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.backbone import Prediction
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.errors import ConfigError, NotSupported
from distillbench.methods.flow_map import FlowMap, FlowMapConfig

PROCESSES = {
    "vp": NoiseProcess.scaled_linear(),
    "vp clean": NoiseProcess.scaled_linear(final=CLEAN),
    "flow": NoiseProcess.flow(),
}
STD = 0.5
Velocity = Callable[..., torch.Tensor]


def world(toy: Any, kind: str, teacher: Velocity, student: Velocity, **config: Any) -> Any:
    """A flow map whose networks are velocities (process, x, t, r) -> eps - x0."""
    process = PROCESSES[kind]

    class Told(toy):  # type: ignore[misc]
        forward_mode = True

        def predict(
            self, net: Any, x: Any, t: Any, cond: Any, *, end_t: Any = None, **_: Any
        ) -> Prediction:
            u = (net.fn if net else teacher)(process, x.double(), t, end_t)
            alpha, sigma = process.alpha_sigma(t, x.double())
            y, s = x / (alpha + sigma), sigma / (alpha + sigma)
            return Prediction(y - s * u, y + (1 - s) * u, u)

    settings = {"teacher_guidance": 1, "instant_share": 0.25, "end_share": 0.25, **config}
    method: Any = FlowMap(FlowMapConfig(**settings), Told(None, process))
    method.bind({"student": type("Net", (), {"fn": staticmethod(student), "name": "student"})()})
    return method


def batch(method: Any, size: int = 512) -> Any:
    latents = STD * torch.randn(size, 2, generator=torch.Generator().manual_seed(3)).double()
    return method.backbone.batch(size, latents)


def spread(process: Any, x: torch.Tensor, t: Any) -> torch.Tensor:
    alpha, sigma = process.alpha_sigma(t, x)
    return (alpha**2 * STD**2 + sigma**2).sqrt()


def at(process: Any, x: torch.Tensor, t: Any) -> tuple[torch.Tensor, torch.Tensor]:
    alpha, sigma = process.alpha_sigma(t, x)
    return alpha + sigma, sigma / (alpha + sigma)


def gaussian(process: Any, x: torch.Tensor, t: Any, r: Any) -> torch.Tensor:
    """The velocity of N(0, STD^2)'s exact score."""
    alpha, sigma = process.alpha_sigma(t, x)
    return (sigma - alpha * STD**2) * x / spread(process, x, t) ** 2


def exact(process: Any, x: torch.Tensor, t: Any, r: Any) -> torch.Tensor:
    """The average velocity of its ODE, x_r = x_t c_r / c_t."""
    (size, s), (size_r, s_r) = at(process, x, t), at(process, x, r)
    moved = x * spread(process, x, r) / spread(process, x, t) / size_r
    mean = (x / size - moved) / torch.where(s > s_r, s - s_r, 1.0)
    return torch.where(s > s_r, mean, gaussian(process, x, t, r))


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_exact_map_has_no_loss(toy: Any, kind: str) -> None:
    errors = []
    for student, d in ((gaussian, 5), (exact, 8), (exact, 2)):
        method = world(toy, kind, gaussian, student, difference_times=d, adaptive_power=0)
        errors.append(float(method.loss("student", batch(method), 0).total))
    wrong, coarse, fine = errors
    assert coarse < 1e-3 * wrong
    assert fine < coarse / 4


@pytest.mark.parametrize("kind", PROCESSES)
def test_forward_mode_has_no_error_of_a_difference(toy: Any, kind: str) -> None:
    method = world(toy, kind, gaussian, exact, derivative="jvp", adaptive_power=0)
    losses = method.loss("student", batch(method), 0)
    assert float(losses.total) < 1e-18
    method = world(toy, kind, gaussian, gaussian, derivative="jvp", adaptive_power=0)
    near = world(toy, kind, gaussian, gaussian, difference_times=1, adaptive_power=0)
    ours, theirs = (m.loss("student", batch(m), 0).total for m in (method, near))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0)


def test_forward_mode_on_the_exact_worlds_networks() -> None:
    """The gradient of a network's own derivative, beside that of its difference."""
    for name in ("gmm", "gmm-flow"):
        backbone = registry.build_backbone(name, {})
        backbone.load("cpu")
        prompts = ["condition 1", "condition 5"] * 32
        rng = torch.Generator().manual_seed(0)
        latents = backbone.training_latents(prompts, rng)
        slopes = []
        for derivative in ("jvp", "difference"):
            params = {"derivative": derivative, "difference_times": 1, "teacher_guidance": 1}
            method: Any = registry.build_method("flow_map", params, backbone)
            net = backbone.make_net("student", "copy", conditions=("end_t",))
            method.bind({"student": net})
            made = SimpleNamespace(cond=backbone.encode(prompts))
            t = torch.full((64,), 600) if name == "gmm" else torch.full((64,), 600.0)
            v = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
            slopes.append(method.slope(latents, t, t - 300, v, made).detach())
        torch.testing.assert_close(*slopes, rtol=0.05, atol=0.3)


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_constant_velocity_is_its_own_map(toy: Any, kind: str) -> None:
    def constant(process: Any, x: torch.Tensor, t: Any, r: Any) -> torch.Tensor:
        return torch.tensor([0.7, -1.3], dtype=torch.float64).expand_as(x)

    method = world(toy, kind, constant, constant)
    losses = method.loss("student", batch(method), 0)
    assert float(losses.scalars["error"]) < 1e-24
    process, x = method.backbone.process, torch.randn(8, 2).double()
    cond = method.backbone.encode(["a"] * 8)

    def denoise(x: Any, t: Any, *, end_t: Any = None) -> Prediction:
        return method.backbone.predict(method.net["student"], x, t, cond, end_t=end_t)

    ends = [method.sampler(nfe).sample(denoise, x, process, lambda _: x) for nfe in (1, 4)]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_jumps_without_length_learn_the_velocity(toy: Any, kind: str) -> None:
    off = 0.1

    def student(process: Any, x: torch.Tensor, t: Any, r: Any) -> torch.Tensor:
        return gaussian(process, x, t, r) + off

    method = world(toy, kind, gaussian, student, instant_share=1, end_share=0, adaptive_power=0)
    total = method.loss("student", batch(method), 0).total
    torch.testing.assert_close(float(total), off**2, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", PROCESSES)
def test_shares_of_ends(toy: Any, kind: str) -> None:
    method = world(toy, kind, gaussian, exact)
    made = batch(method, 4000)
    t = made.randint(0, 1000, "t")
    t = t.float() if kind == "flow" else t
    r, final = method.end(t, made), method.backbone.process.final
    assert bool(((r >= final) & (r <= t)).all())
    assert abs(float((r == t).double().mean()) - 0.25) < 0.03
    assert abs(float((r == final).double().mean()) - 0.25) < 0.04


def test_settings_that_do_not_fit() -> None:
    backbone = registry.build_backbone("gmm", {})
    for params, what in (
        ({"instant_share": 0.8, "end_share": 0.3}, "more than 1"),
        ({"velocity": "data", "teacher_guidance": 2}, "no guidance"),
    ):
        with pytest.raises(ConfigError, match=what):
            registry.build_method("flow_map", params, backbone)
    registry.build_method("flow_map", {"velocity": "data", "teacher_guidance": 1}, backbone)
    pictures = registry.build_backbone("tiny-sd", {})
    with pytest.raises(NotSupported, match="tiny-sd have no forward mode") as refused:
        registry.build_method("flow_map", {"derivative": "jvp"}, pictures)
    assert "derivative: difference" in str(refused.value.hint)
    registry.build_method("flow_map", {"derivative": "jvp"}, backbone)
