"""Progressive distillation in float64, stage by stage, and where its adversary looks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.backbone import Prediction
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.errors import ConfigError, NotSupported
from distillbench.methods.lightning import Lightning, LightningConfig
from distillbench.methods.settings.lightning import Round

PROCESSES = {
    "vp": NoiseProcess.scaled_linear(),
    "vp clean": NoiseProcess.scaled_linear(final=CLEAN),
    "flow": NoiseProcess.flow(),
}
STD = 0.5


def gaussian(process: Any, x: torch.Tensor, t: Any) -> Prediction:
    """N(0, STD^2)'s exact prediction."""
    alpha, sigma = process.alpha_sigma(t, x)
    spread = alpha**2 * STD**2 + sigma**2
    return Prediction(alpha * STD**2 * x / spread, sigma * x / spread, x)


def constant(process: Any, x: torch.Tensor, t: Any) -> Prediction:
    """eps - x0 is the same everywhere."""
    alpha, sigma = process.alpha_sigma(t, x)
    y, s, v = x / (alpha + sigma), sigma / (alpha + sigma), torch.tensor([0.7, -1.3]).double()
    return Prediction(y - s * v, y + (1 - s) * v, v.expand_as(x))


def world(toy: Any, kind: str, teacher: Any, student: Any = None, **config: Any) -> Any:
    """A training whose networks are (process, x, t) -> Prediction, with a record of their calls."""
    process = PROCESSES[kind]

    class Told(toy):  # type: ignore[misc]
        def predict(
            self, net: Any, x: Any, t: Any, cond: Any, *, guidance_scale: Any = 1.0, **_: Any
        ) -> Prediction:
            self.calls.append((net.name if net else "teacher", guidance_scale))
            fn = net.fn if net else teacher
            return fn(process, x.double(), t)  # type: ignore[no-any-return]

    settings = {"teacher_guidance": 1, **config}
    method: Any = Lightning(LightningConfig(**settings), Told(None, process))
    role = {"fn": student or teacher, "ema": None, "named": dict}
    method.taken = []
    method.bind({
        name: SimpleNamespace(name=name, load_tensors=method.taken.append, **role)
        for name in ("student", "before")
    })  # fmt: skip
    return method


def batch(method: Any, size: int = 512) -> Any:
    latents = STD * torch.randn(size, 2, generator=torch.Generator().manual_seed(3)).double()
    return method.backbone.batch(size, latents)


def exact_jump(steps: int, backbone: Any) -> Any:
    """The x0 whose one step to the next of `steps` times lies on the exact ODE."""

    def said(process: Any, x: torch.Tensor, t: torch.Tensor) -> Prediction:
        times = torch.tensor([*backbone.solver_times(steps), process.final])
        s = times[(t[:, None] < times[None]).sum(1) + 1]
        (alpha, sigma), (alpha_s, sigma_s) = (process.alpha_sigma(v, x) for v in (t, s))
        end = x * ((alpha_s**2 * STD**2 + sigma_s**2) / (alpha**2 * STD**2 + sigma**2)).sqrt()
        x0 = (end - sigma_s / sigma * x) / (alpha_s - sigma_s / sigma * alpha)
        return Prediction(x0, (x - alpha * x0) / sigma, x0)

    return said


@pytest.mark.parametrize("kind", PROCESSES)
def test_exact_jumps_have_no_loss(toy: Any, kind: str) -> None:
    exact, errors = exact_jump(4, toy(None, PROCESSES[kind])), []
    for student, teacher_steps in ((gaussian, 100), (exact, 100), (exact, 500)):
        config = {"stages": (4,), "teacher_steps": teacher_steps, "weight": "jump"}
        method = world(toy, kind, gaussian, student, **config)
        errors.append(float(method.loss("student", batch(method), 0).total))
    wrong, coarse, fine = errors
    assert coarse < 0.05 * wrong
    assert fine < coarse / 10


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("weight", ["snr", "jump"])
def test_a_constant_velocity_needs_no_training_at_any_stage(
    toy: Any, kind: str, weight: Any
) -> None:
    config = {"stages": (32, 8, 4, 2, 1), "weight": weight}
    method = world(toy, kind, constant, **config)
    method.total_steps = 5
    for step in range(5):
        assert float(method.loss("student", batch(method), step).total) < 1e-20


@pytest.mark.parametrize("kind", PROCESSES)
def test_without_an_adversary_it_is_progressive_distillation(toy: Any, kind: str) -> None:
    """max(SNR, 1) | x0 - x0' |^2 with x0' of two DDIM steps (arXiv 2202.00512, appendix G)."""

    def student(process: Any, x: torch.Tensor, t: torch.Tensor) -> Prediction:
        alpha, sigma = process.alpha_sigma(t, x)
        x0 = torch.tanh(x)
        return Prediction(x0, (x - alpha * x0) / sigma, x0)

    method = world(toy, kind, gaussian, student, stages=(8,), teacher_steps=16)
    made, process = batch(method), method.backbone.process
    times = torch.tensor([*method.backbone.solver_times(16), process.final])
    k = 2 * made.randint(0, 8, "node")
    z = torch.where(
        (k == 0)[:, None],
        made.randn("noise").double(),
        process.add_noise(made.latents, made.randn("noise"), times[k]),
    )
    (a, s), (a1, s1), (a2, s2) = (process.alpha_sigma(times[k + i], z) for i in range(3))
    first = gaussian(process, z, times[k]).x0
    middle = a1 * first + s1 / s * (z - a * first)
    second = gaussian(process, middle, times[k + 1]).x0
    end = a2 * second + s2 / s1 * (middle - a1 * second)
    target = (end - s2 / s * z) / (a2 - s2 / s * a)
    error = ((torch.tanh(z) - target) ** 2).mean(1)
    expected = (((a / s) ** 2).clamp(min=1)[:, 0] * error).mean()
    total = method.loss("student", made, 0).total
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=0)


def test_each_stage_learns_from_the_one_before(toy: Any) -> None:
    config = {"stages": (8, 4, 2), "teacher_steps": 32, "teacher_guidance": 3}
    method = world(toy, "vp", constant, stage_updates=(1, 2, 1), **config)
    method.total_steps, seen = 8, []
    for step in range(8):
        method.backbone.calls.clear()
        method.taken.clear()
        method.loss("student", batch(method, 4), step)
        teachers = [call for call in method.backbone.calls if call[0] != "student"]
        assert len(set(teachers)) == 1
        seen.append((*teachers[0], len(teachers), len(method.taken)))
    first, second = ("teacher", 3.0, 4, 0), ("before", 1.0, 2, 0)
    taken = (*second[:3], 1)
    assert seen == [first, first, taken, second, second, second, taken, second]


def test_stages_of_an_adversary() -> None:
    config = LightningConfig(stages=(8, 4), teacher_steps=16, w_adv=1, relax_share=0.25)
    stages = [config.stage(step, 8) for step in range(8)]
    assert [stage.adversarial for stage in stages] == 4 * [False] + 4 * [True]
    assert [stage.relaxed for stage in stages] == 7 * [False] + [True]
    assert stages[7] == Round(4, 8, 4, False, True, True)
    assert config.stage(0, 0).steps == 8


def test_a_relaxed_adversary_does_not_see_the_start() -> None:
    backbone = registry.build_backbone("gmm", {})
    backbone.load("cpu")
    config = {"stages": [8, 4], "teacher_steps": 16, "w_adv": 1}
    method: Any = registry.build_method("lightning", config, backbone)
    torch.manual_seed(0)
    method.net = {"disc": SimpleNamespace(module=method.make_head("disc"))}
    x, other, t = torch.randn(3, 2), torch.randn(3, 2), torch.full((3,), 500)
    cond = SimpleNamespace(cond=backbone.encode(["condition 0"] * 3))
    for relaxed in (True, False):
        stage = Round(4, 8, 4, False, True, relaxed)
        found = [
            method.logits(x, SimpleNamespace(s=t // 2, x_t=start, t=t), cond, stage)
            for start in (x, other)
        ]
        assert torch.equal(*found) == relaxed


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"stages": [32, 12]}, "12 steps must be fewer than 32 and divide them"),
        ({"stages": [8, 8]}, "8 steps must be fewer than 8"),
        ({"stages": []}, "at least one"),
        ({"stage_updates": [1]}, "one entry for each of 3"),
        ({"w_mse": 0}, "train nothing"),
        ({"teacher_steps": 1024}, "teacher_steps 1024 are more than gmm has times for"),
    ],
)
def test_stages_that_do_not_fit(params: Any, what: str) -> None:
    with pytest.raises((ConfigError, NotSupported), match=what):
        registry.build_method("lightning", params, registry.build_backbone("gmm", {}))


def test_it_is_sampled_with_the_steps_of_its_last_stage() -> None:
    method: Any = registry.build_method("lightning", {}, registry.build_backbone("gmm", {}))
    assert method.sampler(4).timesteps == (999, 749, 499, 249)
    with pytest.raises(NotSupported, match="no 2"):
        method.sampler(2)
