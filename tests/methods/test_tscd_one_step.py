"""Hyper-SD's one-step stage: its place in the table, its losses in closed form, its isolation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError

from distillbench.api import registry
from distillbench.errors import Interrupted
from distillbench.methods.settings.tscd import Phase, TSCDConfig
from distillbench.methods.tscd import TSCD
from distillbench.testing.method import MethodContract, train, train_spec

LAST = 999_999  # a step of the last stage, whatever the training's length
UNIFIED: dict[str, Any] = {
    "segments": (1,), "w_mse": (1.0,), "w_adv": (0.0,), "teacher_guidance": (1.0, 1.0),
    "target": "stopgrad", "one_step": True,
}  # fmt: skip


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def tscd(toy: Any, make_role: Any, *, gain: float = 0.0, shift: float = 0.0, **config: Any) -> Any:
    """Student and fake are the teacher plus `gain` x and plus `shift`; in its last stage."""
    method: Any = TSCD(TSCDConfig(**{**UNIFIED, **config}), toy(output))
    method.gain, method.shift, method.total_steps = scalar(gain), scalar(shift), 10
    method.bind({
        "student": make_role("student", lambda x, t, c: output(x, t, c) + method.gain * x),
        "fake": make_role("fake", lambda x, t, c: output(x, t, c) + method.shift),
    })  # fmt: skip
    return method


def student_x0(method: Any, batch: Any) -> Any:
    z, top = batch.randn("one step", "start"), torch.full((len(batch),), 999)
    return method.backbone.predict(method.net["student"], z, top, batch.cond).x0.detach()


# ---- the table of stages ------------------------------------------------------------------


def test_the_stage_table_with_and_without_the_one_step() -> None:
    weights: dict[str, Any] = {"w_mse": (1.0, 1.0, 0.5, 0.1), "w_adv": (0.0, 0.1, 0.5, 1.0)}
    plain = TSCDConfig(**weights).phases
    assert plain == (Phase(8, 1, 0), Phase(4, 1, 0.1), Phase(2, 0.5, 0.5), Phase(1, 0.1, 1))
    assert TSCDConfig(**weights, one_step=True).phases == (*plain, Phase(1, 0.1, 1, one_step=True))
    assert TSCDConfig(**weights, stop_at_segments=4).phases == plain[:2]


def test_turns_of_each_stage(toy: Any) -> None:
    config = TSCDConfig(
        one_step=True, fake_updates=2, phase_updates=(4, 3, 2, 1, 10), w_adv=(0.0, 0.1, 0.5, 1.0)
    )
    method = TSCD(config, toy(output))
    assert set(method.nets()) == {"student", "disc", "fake"}
    method.total_steps = 20
    turns = [method.turns(step) for step in range(20)]
    adversarial, one_step = ("student", "disc"), ("student", "fake", "fake", "disc")
    assert turns == [("student",)] * 4 + [adversarial] * 6 + [one_step] * 10
    assert [method.config.phase(step, method.total_steps).segments for step in (8, 9, 10, 19)] == [
        2,
        1,
        1,
        1,
    ]


def test_no_fake_score_without_matching(toy: Any) -> None:
    for config in (TSCDConfig(), TSCDConfig(one_step=True, w_dmd=0)):
        method = TSCD(config, toy(output))
        method.total_steps = 10
        assert set(method.nets()) == {"student"}
        assert method.turns(9) == ("student",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"stop_at_segments": 4}, "one_step needs stop_at_segments 1"),
        ({"phase_updates": (1, 1, 1, 1)}, "each of 5 phases, the one step included"),
        ({"w_dmd": 0, "w_one_step_mse": 0}, "trains nothing"),
        ({"one_step_teacher_guidance": 0.5}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_trained(config: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TSCDConfig(one_step=True, **config)


# ---- losses -------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_the_students_gradient_is_dmds_and_the_regressions(
    toy: Any, make_role: Any, guidance: float
) -> None:
    method = tscd(
        toy, make_role, gain=0.1, shift=0.3, w_dmd=0.7, w_one_step_mse=0.4,
        one_step_teacher_guidance=guidance, one_step_solver_steps=1,
    )  # fmt: skip
    batch = method.backbone.drawn(32)
    x0 = student_x0(method, batch)
    loss = method.loss("student", batch, LAST)
    (found,) = torch.autograd.grad(loss.total - loss.scalars["consistency"], method.gain)

    predict, process = method.backbone.predict, method.backbone.process
    null = batch.uncond.expand(len(batch))

    def real(x: torch.Tensor, t: torch.Tensor) -> Any:
        cond, free = (predict(None, x, t, c).x0 for c in (batch.cond, null))
        return free + guidance * (cond - free)

    tau = (20 + (batch.rand("one step student", "time").double() * 961).floor()).long()
    x_tau = process.add_noise(x0, batch.randn("one step student", "noise"), tau)
    x0_real = real(x_tau, tau)
    x0_fake = predict(method.net["fake"], x_tau, tau, batch.cond).x0.detach()
    z, top = batch.randn("one step", "start"), torch.full((len(batch),), 999)
    dmd = (x0_fake - x0_real) / (x0 - x0_real).abs().mean(1, keepdim=True)
    grad = (0.7 * dmd + 0.4 * 2 * (x0 - real(z, top))) / x0.numel()
    # x0 = (z - sigma eps) / alpha, and eps moves by z for a unit of gain
    alpha, sigma = process.alpha_sigma(999, x0)
    torch.testing.assert_close(found, (grad * (-sigma / alpha * z)).sum(), rtol=1e-6, atol=0)
    torch.testing.assert_close(loss.scalars["gap"], (x0_real - x0_fake).abs().mean())


def test_equal_scores_and_the_own_answer_give_exactly_nothing(toy: Any, make_role: Any) -> None:
    # One solver step of an unguided teacher is the student's own prediction.
    method = tscd(toy, make_role, one_step_solver_steps=1)
    loss = method.loss("student", method.backbone.drawn(32), LAST)
    assert loss.scalars["one_step_mse"] == 0
    assert loss.scalars["gap"] == 0
    assert loss.total == loss.scalars["consistency"] > 0
    (loss.total - loss.scalars["consistency"]).backward()
    assert method.gain.grad == 0


def test_the_consistency_loss_goes_on_as_before(toy: Any, make_role: Any) -> None:
    method = tscd(toy, make_role, gain=0.1, offset_noise=0.1)
    loss = method.loss("student", method.backbone.drawn(32), LAST)
    plain = method.loss("student", method.backbone.drawn(32), 0)
    assert not plain.scalars
    assert loss.scalars["consistency"] == plain.total
    assert loss.total > plain.total


def test_the_answer_is_the_teachers_ode(toy: Any, make_role: Any) -> None:
    method = tscd(toy, make_role, gain=0.1, w_dmd=0, one_step_solver_steps=400)
    batch, process = method.backbone.drawn(4), method.backbone.process
    x = batch.randn("one step", "start").double()
    times = torch.arange(999, -1, -1)
    for t, s in zip(times, [*times[1:], -1], strict=True):
        pred = method.backbone.predict(None, x, t.expand(4), batch.cond)
        alpha, sigma = process.alpha_sigma(s, x)
        x = alpha * pred.x0 + sigma * pred.eps
    expected = ((student_x0(method, batch) - x) ** 2).mean()
    found = method.loss("student", batch, LAST).scalars["one_step_mse"].detach()
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0)


def test_the_fake_score_learns_the_noise_of_the_students_sample(toy: Any, make_role: Any) -> None:
    method = tscd(toy, make_role, gain=0.1, shift=0.2)
    batch = method.backbone.drawn(32)
    x0 = student_x0(method, batch)
    method.loss("student", batch, LAST)
    method.backbone.calls.clear()
    loss = method.loss("fake", batch, LAST).total
    assert method.backbone.calls == [("fake", True)]  # the student's sample is at hand
    t = (batch.rand("one step fake", "time").double() * 1000).floor().long()
    noise = batch.randn("one step fake", "noise").double()
    x_t = method.backbone.process.add_noise(x0, noise, t)
    eps = output(x_t, t, batch.cond.tensors["label"][:, None]) + 0.2
    torch.testing.assert_close(loss, ((eps - noise) ** 2).mean(), rtol=1e-6, atol=0)
    # A repeat makes its own sample.
    again = method.loss("fake", method.backbone.drawn(32), LAST).total
    torch.testing.assert_close(again, loss, rtol=0, atol=0)
    assert method.backbone.calls[-2:] == [("student", False), ("fake", True)]


def test_the_stage_costs_nothing_before_it_comes(toy: Any, make_role: Any) -> None:
    method, calls = tscd(toy, make_role), []
    for step in (0, LAST):
        method.backbone.calls.clear()
        method.total_steps = 10 * (step == LAST)
        method.loss("student", method.backbone.drawn(32), step)
        calls.append(Counter(name for name, _ in method.backbone.calls))
    # teacher: solver step, 8 of the ODE, real score; student: target and jump, then z
    assert calls == [{"teacher": 1, "student": 2}, {"teacher": 10, "student": 3, "fake": 1}]


# ---- in a training ------------------------------------------------------------------------


def roles_on_gmm(**config: Any) -> tuple[Any, dict[str, Any], Any]:
    from distillbench.data.batches import DataSource
    from distillbench.train.role import make_role as real_role

    backbone = registry.build_backbone("gmm", {})
    backbone.load("cpu")
    method: Any = registry.build_method("tscd", {**UNIFIED, "nets": "copy", **config}, backbone)
    method.total_steps = 10
    roles = {
        name: real_role(method, name, spec, seed=0, lr_scale=1.0, device="cpu")
        for name, spec in method.nets().items()
    }
    method.bind({name: made.net for name, made in roles.items()})
    data = DataSource(backbone, ["condition 0", "condition 3"], seed=0, batch_size=8, latents=True)
    return method, roles, data.batch(0, 0)


@pytest.mark.parametrize("guidance", [(1.0, 1.0), (2.0, 8.0)])
def test_gradients_reach_only_the_turns_net(guidance: Any) -> None:
    from distillbench.train.role import only

    method, roles, batch = roles_on_gmm(teacher_guidance=guidance, w_adv=(0.1,))
    assert method.turns(LAST) == ("student", "fake", "disc")
    for turn in method.turns(LAST):
        only((turn,), roles.items())
        loss = method.loss(turn, batch, LAST).total
        assert bool(loss.isfinite())
        loss.backward()
        for name, made in roles.items():
            touched = any(p.grad is not None and bool(p.grad.any()) for p in made.parameters)
            assert touched == (name == turn), f"turn {turn}: gradient in {name}"
            made.optimizer.zero_grad(set_to_none=True)


def test_embedded_guidance_is_told_to_both_and_asked_of_the_teacher() -> None:
    method, roles, batch = roles_on_gmm(teacher_guidance=(2.0, 8.0))
    assert roles["fake"].net.conditions == roles["student"].net.conditions == ("guidance",)
    seen: list[tuple[str, Any]] = []
    predict = method.backbone.predict

    def spy(net: Any, *args: Any, **kw: Any) -> Any:
        scale = kw.get("embed_scale") if net else kw.get("guidance_scale")
        seen.append((net.name if net else "teacher", scale))
        return predict(net, *args, **kw)

    method.backbone.predict = spy
    method.loss("student", batch, LAST)
    scale = 2 + 6 * batch.rand("one step", "guidance")
    asked = seen[3:]  # after the consistency loss: teacher, target, jump
    assert [name for name, _ in asked] == ["teacher"] * 8 + ["student", "teacher", "fake"]
    assert all(torch.equal(given, scale) for _, given in asked)


@pytest.mark.parametrize("gamma", [None, 0.3, 1.0])
@pytest.mark.parametrize("nfe", [1, 2, 4, 8])
def test_one_student_for_1_2_4_and_8_steps(gamma: float | None, nfe: int) -> None:
    method, roles, batch = roles_on_gmm(gamma=gamma)
    sampler, times = method.sampler(nfe), []

    def denoise(x: torch.Tensor, t: torch.Tensor, *, end_t: Any = None) -> Any:
        times.append(int(t[0]))
        return method.backbone.predict(roles["student"].net, x, t, batch.cond)

    with torch.no_grad():
        x0 = sampler.sample(
            denoise, batch.randn("x"), method.backbone.process, lambda i: batch.randn("noise", i)
        )
    assert times == [1000 * (nfe - i) // nfe - 1 for i in range(nfe)]
    assert x0.shape == (8, 2)
    assert sampler.kind == ("ode" if gamma is None else "gamma")


@pytest.mark.parametrize("stop", [2, 3])
def test_resume_at_and_after_the_change_of_stage(tmp_path: Path, stop: int) -> None:
    params = {**UNIFIED, "nets": "copy", "lr": 1e-3, "fake_lr": 1e-3, "phase_updates": (2, 2)}
    spec = train_spec("tscd", {**params, "target": "ema"})
    train(spec, tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(spec, tmp_path / "stopped", stop_after=stop)
    train(spec, tmp_path / "stopped")
    files = [tmp_path / name / "out" / "student.safetensors" for name in ("straight", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()
    log = (tmp_path / "straight" / "out" / "train.jsonl").read_text().splitlines()
    assert ["fake/loss" in line for line in log] == [False, False, True, True]


class TestOneStep(MethodContract):
    """The contract over all five stages, four of which a training of four steps meets."""

    method = "tscd"
    nfe = 1
    params: ClassVar[Mapping[str, Any]] = {
        "nets": "copy", "lr": 1e-3, "one_step": True, "gamma": 0.3, "w_adv": (0.0, 0.1, 0.1, 0.1)
    }  # fmt: skip
