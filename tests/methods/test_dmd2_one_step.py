"""DMD2's one-step students: the teacher's own samples as target, and the time they are told."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.samplers import RenoiseSampler
from distillbench.core.loss import squared_error
from distillbench.core.process import NoiseProcess
from distillbench.errors import ConfigError, NotSupported
from distillbench.methods.dmd2 import DMD2
from distillbench.methods.settings.dmd2 import DMD2Config
from distillbench.methods.shared.scores import teacher_samples

MEAN, STD = 0.7, 0.5


def build(**params: Any) -> Any:
    return registry.build_method("dmd2", params, registry.build_backbone("gmm", {}))


# ---- pairs --------------------------------------------------------------------------------


def gaussian(process: NoiseProcess) -> Any:
    """eps of the exact score of N(MEAN, STD^2)."""

    def eps(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        alpha, sigma = process.alpha_sigma(t, x)
        return sigma * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)

    return eps


def test_the_target_is_the_end_of_the_teachers_ode(toy: Any) -> None:
    process = NoiseProcess.scaled_linear()
    backbone = toy(gaussian(process))
    batch = backbone.batch()
    noise = batch.randn("z").double()
    alpha, sigma = process.alpha_sigma(999, noise)
    # The probability flow of a Gaussian keeps its standardised coordinate.
    exact = MEAN + STD * (noise - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2).sqrt()
    errors = [
        float(squared_error(teacher_samples(backbone, batch, noise, steps=n, guidance_scale=1.0),
                            exact).sqrt())
        for n in (10, 100)
    ]  # fmt: skip
    assert errors[1] < 0.01  # what is left is the last step, from time 9 to the data
    assert errors[1] < errors[0] / 10


def test_pairs_are_guided_and_carry_no_gradient(dmd2: Any) -> None:
    method = dmd2(steps=1, regression="joint", teacher_guidance=2.5, regression_solver_steps=3)
    batch, noise = method.backbone.batch(), torch.randn(32, 2)
    found = [
        teacher_samples(method.backbone, batch, noise, steps=3, guidance_scale=g)
        for g in (1.0, 2.5)
    ]
    assert float((found[0] - found[1]).abs().max()) > 0.01
    assert Counter(method.backbone.calls) == {("teacher", False): 6}
    method.loss("student", batch, 0)
    assert ("teacher", True) not in method.backbone.calls


# ---- the loss -----------------------------------------------------------------------------


def test_a_student_that_gives_the_teachers_answer_has_no_loss(toy: Any, make_role: Any) -> None:
    process = NoiseProcess.scaled_linear()
    backbone = toy(gaussian(process))
    config = DMD2Config(steps=1, regression="pretrain", teacher_guidance=3.0, input_time=399)
    method, batch = DMD2(config, backbone), backbone.batch()
    gain = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)

    def perfect(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert set(t.tolist()) == {399}
        answer = teacher_samples(
            backbone, batch, x, steps=config.regression_solver_steps, guidance_scale=3.0
        )
        alpha, sigma = process.alpha_sigma(399, x)
        return (x - alpha * (answer + gain * x)) / sigma

    method.bind({"student": make_role("student", perfect), "fake": make_role("fake", perfect)})
    loss = method.loss("student", batch, 0).total
    loss.backward()
    assert loss.item() < 1e-12
    assert gain.grad is not None
    assert float(gain.grad.abs()) < 1e-6
    with torch.no_grad():
        gain += 0.1
    square = (0.1 * batch.randn("regression").double()) ** 2
    moved = method.loss("student", batch, 0).total
    torch.testing.assert_close(moved, square.mean(), rtol=1e-4, atol=0)


def test_pre_training_is_regression_alone_and_then_plain_dmd2(dmd2: Any) -> None:
    shared: dict[str, Any] = {"steps": 1, "fake_updates": 2, "shift": 0.3}
    method = dmd2(regression="pretrain", regression_updates=3, **shared)
    assert [method.turns(i) for i in (0, 2)] == [("student",)] * 2
    assert method.turns(3) == ("student", "fake", "fake")
    batch = method.backbone.batch()
    method.loss("student", batch, 2)
    assert "fake" not in {name for name, _ in method.backbone.calls}
    plain = dmd2(**shared)
    after = method.loss("student", batch, 3).total
    assert torch.equal(after, plain.loss("student", batch, 3).total)
    assert not torch.equal(after, method.loss("student", batch, 2).total)


def test_joint_adds_the_weighted_regression(dmd2: Any) -> None:
    shared: dict[str, Any] = {"steps": 1, "shift": 0.3}
    method = dmd2(regression="joint", regression_weight=0.25, fake_updates=1, **shared)
    assert method.turns(0) == ("student", "fake")  # DMD's ratio
    batch = method.backbone.batch()
    both = method.loss("student", batch, 0)
    matching = dmd2(**shared).loss("student", batch, 0).total
    alone = dmd2(regression="pretrain", **shared).loss("student", batch, 0).total
    assert torch.equal(both.scalars["regression"], alone)
    torch.testing.assert_close(both.total, matching + 0.25 * alone, rtol=1e-12, atol=0)


# ---- times --------------------------------------------------------------------------------


def test_the_told_time_is_that_of_training_and_sampling(dmd2: Any) -> None:
    method = build(steps=1, input_time=399)
    assert method.sampler(1) == RenoiseSampler(timesteps=(399,), boundary=False)
    with pytest.raises(NotSupported, match="were not trained"):
        method.sampler(4)
    with pytest.raises(NotSupported, match="input_time 1000 is not below"):
        build(steps=1, input_time=1000).sampler(1)
    told = dmd2(steps=1, input_time=399)
    batch = told.backbone.batch()
    x, t = told.student_input(batch, "student")
    assert t.tolist() == [399] * 32
    assert torch.equal(x, batch.randn("student", "start"))  # pure noise all the same
    alpha, sigma = told.backbone.process.alpha_sigma(399, x.double())
    pred = told.predict("student", x, t, batch)
    torch.testing.assert_close(pred.x0, (x - sigma * pred.eps) / alpha, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "params", [{"regression": "joint"}, {"regression": "pretrain"}, {"input_time": 399}]
)
def test_several_steps_refuse_what_is_for_one(params: dict[str, Any]) -> None:
    (name,) = params
    with pytest.raises(ConfigError, match=f"{name} is for one-step students: set steps to 1"):
        build(steps=4, **params)
    build(steps=1, **params)
