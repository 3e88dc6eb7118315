"""TDM's loss against closed forms, and what it may and may not evaluate."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.core.matching import renoised
from distillbench.core.process import NoiseProcess
from distillbench.core.solve import ddim
from distillbench.errors import NotSupported
from distillbench.methods.settings.tdm import TDMConfig
from distillbench.methods.tdm import TDM

NODES = (999, 749, 499, 249)
BOUNDS = (750, 500, 250, 0)


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


def tdm(toy: Any, make_role: Any, *, gain: torch.Tensor | None = None, **config: Any) -> Any:
    """A TDM on the toy, whose student is the teacher plus `gain` * x and whose fake the teacher."""
    backbone = toy(output, config.pop("process", None))
    method = TDM(TDMConfig(**config), backbone)
    extra = torch.zeros(()) if gain is None else gain
    student = make_role("student", lambda x, t, c: output(x, t, c) + extra * x)
    method.bind({"student": student, "fake": make_role("fake", output)})
    return method


@pytest.mark.parametrize("loss", ["huber", "mse"])
@pytest.mark.parametrize("form", ["element", "vector"])
@pytest.mark.parametrize("match", ["noisy", "clean"])
def test_equal_scores_give_exactly_no_gradient(
    toy: Any, make_role: Any, loss: str, form: str, match: str
) -> None:
    gain = torch.zeros((), dtype=torch.float64, requires_grad=True)
    method = tdm(toy, make_role, gain=gain, teacher_guidance=1.0, loss=loss, huber_form=form,
                 match=match)  # fmt: skip
    total = method.loss("student", method.backbone.batch(), 0).total
    total.backward()
    assert total == 0
    assert gain.grad == 0


def test_guidance_alone_moves_the_student_by_the_guidance_term(toy: Any, make_role: Any) -> None:
    method = tdm(toy, make_role)
    batch, backbone = method.backbone.batch(), method.backbone
    t = torch.full((len(batch),), 600)
    at = renoised(
        backbone.process, torch.randn(32, 2).double(), torch.randn(32, 2).double(),
        torch.full((32,), 500), t, torch.randn(32, 2).double(),
    )  # fmt: skip
    real = method.teacher(at.x_tau, t, batch, 3.5).x0
    fake = method.predict("fake", at.x_tau, t, batch).x0
    cond = backbone.predict(None, at.x_tau, t, batch.cond).x0
    free = backbone.predict(None, at.x_tau, t, batch.uncond.expand(32)).x0
    torch.testing.assert_close(real - fake, 2.5 * (cond - free), rtol=0, atol=1e-12)


def test_a_step_evaluates_k_plus_one_students_and_no_more(toy: Any, make_role: Any) -> None:
    gain = torch.zeros((), dtype=torch.float64, requires_grad=True)
    method = tdm(toy, make_role, gain=gain, steps=4)
    batch = method.backbone.batch()
    for turn in method.turns(0):
        method.loss(turn, batch, 0)
    calls = Counter(method.backbone.calls)
    assert calls["student", False] == 4  # the rollout
    assert calls["student", True] == 1  # the one step that is back-propagated
    assert calls["teacher", False] == 1
    assert calls["teacher", True] == 0
    assert calls["fake", True] == 1  # its own turn
    assert calls["fake", False] == 1  # the student's


def test_the_rollout_is_shared_and_without_gradient(toy: Any, make_role: Any) -> None:
    gain = torch.ones((), dtype=torch.float64, requires_grad=True)
    method = tdm(toy, make_role, gain=gain)
    batch = method.backbone.batch()
    rollout = method.rollout(batch)
    assert method.rollout(batch) is rollout
    assert rollout.x.shape == (4, 32, 2)
    assert not any(part.requires_grad for part in (rollout.x, rollout.x0, rollout.eps))
    x = ddim(rollout.x0[0], rollout.eps[0], *method.backbone.process.alpha_sigma(749, rollout.x[0]))
    torch.testing.assert_close(x, rollout.x[1])


def test_the_student_gets_gradient_and_the_fake_score_none(toy: Any, make_role: Any) -> None:
    gain = torch.full((), 0.1, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    method = tdm(toy, make_role, gain=gain)
    method.net["fake"].fn = lambda x, t, c: output(x, t, c) + shift
    batch = method.backbone.batch()
    method.loss("student", batch, 0).total.backward()
    assert gain.grad is not None
    assert shift.grad is None
    gain.grad = None
    method.loss("fake", batch, 0).total.backward()
    assert shift.grad is not None
    assert gain.grad is None


@pytest.mark.parametrize("kind", ["flow", "vp"])
def test_one_step_disjoint_renoises_as_dmd2_does(toy: Any, make_role: Any, kind: str) -> None:
    process = NoiseProcess.flow() if kind == "flow" else NoiseProcess.scaled_linear()
    method = tdm(toy, make_role, steps=1, process=process)
    if kind == "flow":
        method.backbone.nodes = lambda steps: (1000,)
    batch = method.backbone.batch(4000)
    m, tau = method.segments.times(
        method.train_nodes(batch), torch.zeros(len(batch), dtype=torch.long), batch, "student"
    )
    assert (m == 0).all()
    assert tau.min() >= 20
    assert tau.max() < (990 if kind == "flow" else 989)
    x0, eps, noise = (torch.randn(4000, 2, dtype=torch.float64) for _ in range(3))
    gap = renoised(process, x0, eps, m, tau, noise).x_tau - process.add_noise(x0, noise, tau)
    _, sigma_0 = process.alpha_sigma(0, x0)
    assert float(gap.abs().max()) <= (1e-12 if kind == "flow" else 5 * float(sigma_0))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("mode", ["disjoint", "terminal"])
def test_times_stay_in_their_segment(toy: Any, make_role: Any, mode: str, inside: bool) -> None:
    method = tdm(toy, make_role, tau=mode, random_matching_time=inside)
    batch = method.backbone.batch(4000)
    k = batch.randint(0, 4, "node")
    m, tau = method.segments.times(method.train_nodes(batch), k, batch, "fake")
    node, bound = torch.tensor(NODES)[k], torch.tensor(BOUNDS)[k]
    assert ((m >= bound) & (m < node - 20)).all() if inside else (m == bound).all()
    assert (tau >= torch.maximum(m, torch.tensor(20))).all()
    assert (tau < (node - 10 if mode == "disjoint" else 990)).all()


def test_clean_sampling_of_the_fake_score_has_no_weight(toy: Any, make_role: Any) -> None:
    method = tdm(toy, make_role, fake_sampling="clean")
    weight = method.loss("fake", method.backbone.batch(), 0).scalars["weight"]
    torch.testing.assert_close(weight, torch.ones_like(weight))
    near = tdm(toy, make_role).loss("fake", method.backbone.batch(), 0).scalars["weight"]
    assert abs(float(near) - 1) > 1e-3


def test_sampling_off_the_trained_times_is_refused() -> None:
    backbone = registry.build_backbone("gmm", {})
    method = registry.build_method("tdm", {"steps": 4}, backbone)
    assert method.sampler(2).timesteps == (999, 499)
    for nfe in (3, 8):
        with pytest.raises(NotSupported, match="were not trained"):
            method.sampler(nfe)
    demo = registry.build_method("tdm", {"steps": 4, "horizon": 900}, backbone)
    assert demo.sampler(4).timesteps == (899, 674, 449, 224)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("tdm", {"steps": 32}, "32 steps are too many for tdm"),
        (
            "tdm",
            {"steps": 50, "tau": "terminal", "random_matching_time": True},
            "50 steps are too many",
        ),
        ("tdm", {"horizon": 1200}, "horizon 1200 is above the 1000 training times"),
        ("tdm", {"horizon": 100}, "4 steps are too many"),
        ("tdm_unify", {"steps_support": [1, 40]}, "40 steps are too many for tdm_unify"),
    ],
)
def test_segments_without_times_are_refused_before_training(
    name: str, params: dict[str, Any], message: str
) -> None:
    backbone = registry.build_backbone("gmm", {})
    with pytest.raises(NotSupported, match=message):
        registry.build_method(name, params, backbone)


def test_a_horizon_is_refused_where_times_are_shifted() -> None:
    for name in ("cogvideox", "sd3"):
        with pytest.raises(NotSupported, match=f"evenly spaced times, and {name} shifts"):
            registry.build_method("tdm", {"horizon": 900}, registry.build_backbone(name, {}))


def test_the_most_steps_that_are_accepted_have_times(toy: Any, make_role: Any) -> None:
    for most, config in ((31, {"random_matching_time": True}), (90, {"tau": "terminal"})):
        method = tdm(toy, make_role, steps=most, **config)
        nodes = method.train_nodes(method.backbone.batch(1))
        batch = method.backbone.batch(most)
        m, tau = method.segments.times(nodes, torch.arange(most), batch, "fake")
        assert bool((m >= 0).all() and (m <= torch.tensor(nodes)).all() and (tau >= m).all())
