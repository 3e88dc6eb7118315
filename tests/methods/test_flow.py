"""Students of flow-matching teachers: real times, shifted grids, segments without an offset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distillbench.api.registry import BACKBONES, METHODS, METRICS, PLUGINS_VARIABLE, add_plugin
from distillbench.api.sampler import Sampler
from distillbench.core.process import NoiseProcess
from distillbench.core.schedules import flow_grid, lcm_times
from distillbench.core.solve import ddim, renoise, transition
from distillbench.errors import Interrupted
from distillbench.methods.tdm import TDM, TDMConfig
from distillbench.sample.generate import generate_images, load_student
from distillbench.testing.method import train, train_spec

PLANE = Path(__file__).with_name("flow_plane.py")
STD = 0.5
PLAIN: dict[str, Any] = {"nets": "copy", "lr": 2e-3, "weight_decay": 0.0, "teacher_guidance": 1.0}
SHARED: dict[str, Any] = {**PLAIN, "fake_lr": 1e-2, "ema": 0.97}
EULER: dict[str, Any] = {"test_solver": "ddim", "loss": "mse"}
MATCHING: dict[str, dict[str, Any]] = {
    "tdm": {**SHARED, **EULER, "steps": 2},
    "tdm_unify": {**SHARED, **EULER, "steps_support": [1, 2]},
    "dmd2": {**SHARED, "steps": 2, "fake_updates": 2},
}
ONE: dict[str, Any] = {"segments": [1], "w_mse": [1], "w_adv": [0.1]}
CONSISTENCY: dict[str, dict[str, Any]] = {
    "lcm": PLAIN,
    "lcm guided": {"nets": "copy", "solver_steps": 7},
    "tcd": PLAIN,
    "tcd S+": {**PLAIN, "tcf": "S+", "ends": "reals"},
    "tcd 2": {**PLAIN, "tcf": "2"},
    "tscd": {**PLAIN, "stop_at_segments": 2},
    "tscd one step": {**PLAIN, **ONE, "one_step": True, "gamma": 0.3},
}
OTHERS: dict[str, dict[str, Any]] = {
    "perflow": {**PLAIN, "windows": 2},
    "tcd ctm": {**PLAIN, "soft_steps": 3, "w_score": 0.1},
    "tscd pcm": {**PLAIN, **ONE, "segments": [4], "stop_at_segments": 4, "ends": "edge"},
    "lightning": {**PLAIN, "stages": [4, 2], "teacher_steps": 8, "w_adv": 0.5},
    "perflow one step": {**PLAIN, "windows": 1, "one_step_share": 0.5},
}
PARAMS = MATCHING | CONSISTENCY | OTHERS


@pytest.fixture(autouse=True)
def _plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(PLUGINS_VARIABLE, "")
    add_plugin(str(PLANE))
    yield
    os.environ.pop(PLUGINS_VARIABLE, None)
    for registry in (METHODS, METRICS, BACKBONES):
        registry.reset()


def spec(name: str, steps: int, **settings: Any) -> dict[str, Any]:
    method, params = name.split()[0], PARAMS[name]
    return train_spec(method, params, backbone="flow-plane", updates=steps, **settings)


def points(folder: Path, sampler: Sampler) -> torch.Tensor:
    """Samples of one condition, whose mean is (-.5, -.5)."""
    student, prompts = load_student(folder / "out"), ["condition 0"] * 4000
    return generate_images(student, prompts, sampler=sampler, seed=5, batch_size=4000)


@pytest.mark.parametrize("name", sorted(MATCHING))
def test_students_of_a_flow_teacher_get_its_spread(tmp_path: Path, name: str) -> None:
    """Two steps of the teacher narrow its Gaussian; a distilled student's do much less."""
    train(spec(name, 300, batch_size=256), tmp_path / "student")
    sampler = load_student(tmp_path / "student" / "out").method.sampler(2)
    assert sampler.timesteps == (1000, 750)
    train(train_spec("teacher", {}, backbone="flow-plane"), tmp_path / "teacher")
    plain = sampler.model_copy(update={"steps_k": None})
    before = points(tmp_path / "teacher", plain).std(0) - STD
    made = points(tmp_path / "student", sampler)
    assert bool((before < -0.3).all())
    assert bool((made.std(0) - STD > 0.4 * before).all())
    assert bool((made.std(0) < 1.2 * STD).all())
    assert made.mean(0).tolist() == pytest.approx([-STD, -STD], abs=0.15)


@pytest.mark.parametrize("name", sorted(PARAMS))
def test_a_resumed_run_on_a_flow_teacher_equals_the_straight_one(tmp_path: Path, name: str) -> None:
    train(spec(name, 4), tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(spec(name, 4), tmp_path / "stopped", stop_after=2)
    train(spec(name, 4), tmp_path / "stopped")
    files = [tmp_path / run / "out" / "student.safetensors" for run in ("straight", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(("name", "nfe"), [("lcm", 4), ("tcd", 4), ("tcd 2", 4), ("tscd", 2)])
def test_consistency_students_of_a_flow_teacher_are_sampled_at_its_shifted_times(
    tmp_path: Path, name: str, nfe: int
) -> None:
    """Two segments of 40 steps end where two of the family's own steps do."""
    train(spec(name, 1), tmp_path)
    sampler = load_student(tmp_path / "out").method.sampler(nfe)
    expected = {4: flow_grid(50, 3.0), 2: flow_grid(40, 3.0)}[nfe]
    steps = 2 if name == "tcd 2" else nfe
    assert sampler.timesteps == lcm_times(steps, expected)
    assert sampler.timesteps[0] == 1000
    if name == "tscd":
        assert sampler.timesteps == (1000, 750)
    made = points(tmp_path, sampler)
    assert made.shape == (4000, 2)
    assert bool(made.isfinite().all())


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


@pytest.mark.parametrize("turn", ["fake", "student"])
def test_each_segment_is_renoised_from_the_next_nodes_very_sigma(
    toy: Any, make_role: Any, turn: str
) -> None:
    """TDM (arXiv 2503.06674) on continuous sigma: m_i = u_{i-1}, sigma 0 for the last segment."""
    backbone, nodes = toy(output, NoiseProcess.flow()), (1000, 900, 750, 500)
    backbone.prediction_type, backbone.nodes = "flow", lambda steps: nodes
    method = TDM(TDMConfig(), backbone)
    method.bind({name: make_role(name, output) for name in ("student", "fake")})
    batch, seen, plain = backbone.batch(400), [], backbone.predict

    def predict(net: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append((net.name if net else "teacher", x.detach(), t))
        return plain(net, x, t, *args, **kwargs)

    backbone.predict = predict
    method.loss(turn, batch, 0)
    ((x_tau, tau),) = ((x, t) for name, x, t in seen if name == "fake")
    k = batch.randint(0, 4, turn, "node")
    u, m = torch.tensor(nodes)[k], torch.tensor([*nodes[1:], 0])[k]
    assert tau.is_floating_point()
    assert bool((tau != tau.round()).any())
    assert bool(((tau >= m.clamp(min=20)) & (tau < u - 10)).all())
    x_u = method.rollout(batch).x[k, torch.arange(400)]
    pred = plain(method.net["student"], x_u, u, batch.cond)
    x_m = ddim(pred.x0, pred.eps, *backbone.process.alpha_sigma(m, x_u))
    kernel = transition(
        *backbone.process.alpha_sigma(m, x_m), *backbone.process.alpha_sigma(tau, x_m)
    )
    expected = renoise(x_m, batch.randn(turn, "noise").double(), *kernel)
    torch.testing.assert_close(x_tau.double(), expected.double(), rtol=0, atol=1e-6)
    assert float((x_m - pred.x0)[m == 0].abs().max()) == 0
