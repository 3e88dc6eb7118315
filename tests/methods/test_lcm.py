"""LCM's loss: boundary, target, guidance and what it calls."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from distillbench.api import registry
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import consistency_function, ddim
from distillbench.errors import NotSupported
from distillbench.methods.lcm import LCM, LCMConfig


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x


def lcm(toy: Any, make_role: Any, student: Any = output, **config: Any) -> Any:
    method = LCM(LCMConfig(**config), toy(output, config.pop("process", None)))
    method.bind({"student": make_role("student", student)})
    return method


def test_solver_step_is_guided_ddim_on_the_grid(toy: Any, make_role: Any) -> None:
    method = lcm(toy, make_role, teacher_guidance=(3.0, 15.0))
    batch, backbone = method.backbone.drawn(), method.backbone
    pair = method.solver_step(batch, batch.randn("noise"))
    assert ((pair.t + 1) % 20 == 0).all()
    assert (pair.u == (pair.t - 20).clamp(min=0)).all()
    assert ((pair.scale >= 3) & (pair.scale <= 15)).all()
    free = backbone.predict(None, pair.x_t, pair.t, batch.uncond.expand(len(batch)))
    cond = backbone.predict(None, pair.x_t, pair.t, batch.cond)
    scale = pair.scale.double()[:, None]
    w = scale - 1  # the paper's convention
    x0 = cond.x0 + w * (cond.x0 - free.x0)
    eps = cond.eps + w * (cond.eps - free.eps)
    expected = ddim(x0, eps, *backbone.process.alpha_sigma(pair.u, x0))
    torch.testing.assert_close(pair.x_u, expected, rtol=1e-9, atol=1e-9)


def test_the_jump_is_the_identity_at_the_end_and_x0_elsewhere(toy: Any, make_role: Any) -> None:
    method = lcm(toy, make_role)
    batch = method.backbone.drawn(3)
    x, net = torch.randn(3, 2, dtype=torch.float64), method.net["student"]
    scale = torch.ones(3)
    for end in (0, CLEAN):
        t = torch.full((3,), end)
        torch.testing.assert_close(method.f(net, x, t, batch, scale), x)
    t = torch.full((3,), 259)
    x0 = method.backbone.predict(net, x, t, batch.cond).x0
    torch.testing.assert_close(method.f(net, x, t, batch, scale), x0, rtol=1e-6, atol=1e-6)


def test_the_wrong_time_unit_would_be_seen(toy: Any, make_role: Any) -> None:
    # t / 1000 * 10 instead of t * 10 trains without error and ruins the samples.
    method = lcm(toy, make_role)
    batch, t = method.backbone.drawn(3), torch.full((3,), 19)
    x, scale = torch.randn(3, 2, dtype=torch.float64), torch.ones(3)
    net = method.net["student"]
    x0 = method.backbone.predict(net, x, t, batch.cond).x0
    wrong = consistency_function(x, x0, t, timestep_scaling=0.01)
    gap = [float((y - x0).abs().max()) for y in (method.f(net, x, t, batch, scale), wrong)]
    assert gap[0] < 1e-4 < 0.1 < gap[1]


def test_zero_initialised_student_has_a_finite_positive_loss(toy: Any, make_role: Any) -> None:
    gain = torch.zeros((), dtype=torch.float64, requires_grad=True)
    method = lcm(
        toy, make_role, lambda x, t, c: output(x, t, c) + gain * x, teacher_guidance=(1, 1)
    )
    loss = method.loss("student", method.backbone.drawn(), 0).total
    loss.backward()
    assert 0 < float(loss.detach()) < math.inf
    assert gain.grad is not None
    assert 0 < abs(float(gain.grad)) < math.inf


def test_target_without_gradient_comes_before_the_student(toy: Any, make_role: Any) -> None:
    method = lcm(toy, make_role)
    method.loss("student", method.backbone.drawn(), 0)
    calls = method.backbone.calls
    assert calls == [("teacher", False), ("student", False), ("student", True)]


def test_the_average_is_the_target_in_full_copies(toy: Any, make_role: Any) -> None:
    method = lcm(toy, make_role, nets="copy")
    method.net["student"].ema = make_role("average", output)
    method.loss("student", method.backbone.drawn(), 0)
    assert Counter(method.backbone.calls)["average", False] == 1
    assert Counter(method.backbone.calls)["student", True] == 1


def test_exact_consistency_has_no_loss(toy: Any, make_role: Any) -> None:
    # Data at one point: eps = (x - alpha mu) / sigma makes every jump land on mu.
    process, mu = NoiseProcess.scaled_linear(final=CLEAN), 0.3

    def point(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        alpha, sigma = process.alpha_sigma(t, x)
        return (x - alpha * mu) / sigma

    method = LCM(LCMConfig(teacher_guidance=(1, 1), distance="l2"), toy(point, process))
    method.bind({"student": make_role("student", point)})
    assert float(method.loss("student", method.backbone.drawn(), 0).total) < 1e-9


@pytest.mark.parametrize(
    ("config", "ema", "conditions"),
    [
        ({}, None, ()),
        ({"nets": "copy"}, 0.95, ("guidance",)),
        ({"nets": "copy", "teacher_guidance": (7.5, 7.5)}, 0.95, ()),
        ({"nets": "copy", "target": "stopgrad"}, None, ("guidance",)),
        ({"target": "ema", "ema_decay": 0.99}, 0.99, ()),
    ],
)
def test_nets_of_adapters_and_full_copies(config: Any, ema: Any, conditions: Any) -> None:
    method = registry.build_method("lcm", config, registry.build_backbone("gmm", {}))
    spec = method.nets()["student"]
    assert spec.ema == ema
    assert spec.opts.get("conditions", ()) == conditions
    scale = 8.0 if conditions else None
    assert method.sampler(4).embed_scale == scale


def test_sampling_times() -> None:
    method = registry.build_method("lcm", {}, registry.build_backbone("gmm", {}))
    assert method.sampler(4).timesteps == (999, 759, 499, 259)
    assert method.sampler(1).timesteps == (999,)
    with pytest.raises(NotSupported, match="60 times"):
        method.sampler(60)


def test_guidance_below_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="two rising ones"):
        LCMConfig(teacher_guidance=(0.0, 3.0))
