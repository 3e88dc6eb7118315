"""Piecewise rectified flows in float64: exact ends have no loss, constant readings are straight."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.backbone import Prediction
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.windows import factors, straight
from distillbench.errors import ConfigError, NotSupported
from distillbench.methods.perflow import PeRFlow, PeRFlowConfig

PROCESSES = {
    "vp": NoiseProcess.scaled_linear(),
    "vp clean": NoiseProcess.scaled_linear(final=CLEAN),
    "flow": NoiseProcess.flow(),
}
CASES = [(kind, reads) for kind in PROCESSES for reads in ("diff_eps", "ddim_eps", "velocity")
         if kind != "flow" or reads == "velocity"]  # fmt: skip
STD = 0.5
Said = Callable[..., torch.Tensor]


def world(toy: Any, kind: str, reads: Any, student: Said | None = None, **config: Any) -> Any:
    """A PeRFlow of N(0, STD^2)'s exact teacher; `student` (method, x, t) says what is read."""
    process = PROCESSES[kind]

    class Read(toy):  # type: ignore[misc]
        def predict(self, net: Any, x: Any, t: Any, cond: Any, **_: Any) -> Prediction:
            x = x.double()
            known = t if kind == "flow" else t.clamp(max=process.num_timesteps - 1)
            alpha, sigma = process.alpha_sigma(known, x)
            if net is None:
                spread = alpha**2 * STD**2 + sigma**2
                return Prediction(alpha * STD**2 * x / spread, sigma * x / spread, x)
            said = net.fn(method, x, t)
            if reads != "velocity":
                return Prediction(x, said, said)
            y, s = x / (alpha + sigma), sigma / (alpha + sigma)
            return Prediction(y - s * said, y + (1 - s) * said, said)

    settings = {"teacher_guidance": 1, "reads": reads, **config}
    method: Any = PeRFlow(PeRFlowConfig(**settings), Read(None, process))
    method.bind({
        name: SimpleNamespace(fn=student, name=name, named=dict, load_tensors=lambda given: None)
        for name in ("student", "flow")
    })  # fmt: skip
    return method


def batch(method: Any, size: int = 512) -> Any:
    latents = STD * torch.randn(size, 2, generator=torch.Generator().manual_seed(3)).double()
    return method.backbone.batch(size, latents)


def moved(method: Any, x: torch.Tensor, t: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    """Along the exact ODE, x_to = x_t c_to / c_t, between training times."""
    spreads = []
    for time in (t, to):
        alpha, sigma = method.backbone.process.alpha_sigma(time, x)
        spreads.append((alpha**2 * STD**2 + sigma**2).sqrt())
    return x * spreads[1] / spreads[0]


def exact(method: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What leads from x on a window's line to where the ODE takes that line's start."""
    windows, one = method.windows, torch.ones_like(x)
    edges = torch.tensor(windows.edges(), dtype=torch.float64)
    k = (t[:, None] <= edges[None, 1:]).sum(1)
    s, e = (edges[i].to(t.dtype) for i in (k, k + 1))
    end = moved(method, one, windows.index(s), windows.index(e))
    unit, said = windows.point(one, end, t, s, e)  # all of it is linear in x
    result: torch.Tensor = x / unit * said
    return result


@pytest.mark.parametrize(("kind", "reads"), CASES)
@pytest.mark.parametrize("windows", [1, 4])
def test_the_exact_ends_have_no_loss(toy: Any, kind: str, reads: str, windows: int) -> None:
    def wrong(method: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return exact(method, x, t) + 0.1

    errors = []
    for student, steps in ((wrong, 8), (exact, 30), (exact, 120)):
        method = world(toy, kind, reads, student, windows=windows, solver_steps=steps)
        errors.append(float(method.loss("student", batch(method), 0).total))
    off, coarse, fine = errors
    assert coarse < 0.3 * off
    assert fine < coarse / 4 < 0.01


@pytest.mark.parametrize(("kind", "reads"), CASES)
@pytest.mark.parametrize(("windows", "nfe"), [(1, 1), (1, 3), (4, 4), (4, 6)])
def test_exact_readings_are_sampled_along_the_ode(
    toy: Any, kind: str, reads: str, windows: int, nfe: int
) -> None:
    method = world(toy, kind, reads, exact, windows=windows)
    z = torch.randn(16, 2, generator=torch.Generator().manual_seed(1)).double()
    end = method.end("student", z, nfe, method.backbone.batch(16))
    first, last = (method.windows.index(torch.tensor([method.windows.edges()[i]])) for i in (0, -1))
    torch.testing.assert_close(end, moved(method, z, first, last), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "reads"), CASES)
def test_one_ddim_step_is_read_as_its_own_noise(toy: Any, kind: str, reads: str) -> None:
    """With the teacher's noise constant along the window, a DDIM step is the window's line."""
    method = world(toy, kind, reads, exact)
    process, made = method.backbone.process, batch(method)
    t, s, e = method.windows.draw(made)
    x, v = made.latents, torch.tensor([0.7, -1.3], dtype=torch.float64)
    if reads == "velocity":
        (c_s, at_s), (c_e, at_e) = (straight(process, time, x) for time in (s, e))
        end = c_e * (x / c_s - (at_s - at_e) * v)
    else:
        ends = (process.alpha_sigma(method.windows.index(time), x) for time in (s, e))
        ratio, n = factors(reads, *ends)  # type: ignore[arg-type]
        end = ratio * x + n * v
    _, target = method.windows.point(x, end, t, s, e)
    torch.testing.assert_close(target, v.expand_as(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "reads"), CASES)
def test_times_and_starts_of_windows(toy: Any, kind: str, reads: str) -> None:
    method = world(toy, kind, reads, exact)
    made = batch(method, 4000)
    t, s, e = method.windows.draw(made)
    assert bool(((t <= s) & (t > e)).all())
    assert t.is_floating_point() == (kind == "flow")
    edges = method.windows.edges()
    for k in range(4):
        share = float(((s == edges[k]) & (e == edges[k + 1])).double().mean())
        assert abs(share - 0.25) < 0.03
    x_s, first = method.start(made, s), s == edges[0]
    noise = made.randn("noise").double()
    assert torch.equal(x_s[first], noise[first])
    index = method.windows.index(s[~first])
    expected = method.backbone.process.add_noise(made.latents[~first], noise[~first], index)
    torch.testing.assert_close(x_s[~first], expected, rtol=0, atol=1e-12)
    assert method.sampler(4).nfe == 4


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_share_of_starts(toy: Any, kind: str) -> None:
    plain, some = (world(toy, kind, "velocity", exact, start_share=v) for v in (0, 0.5))
    made = batch(plain, 4000)
    (t, s, e), found = plain.windows.draw(made), some.windows.draw(made)
    assert torch.equal(s, found[1])
    assert torch.equal(e, found[2])
    at_start = found[0] == s
    assert float(at_start.double().mean()) == pytest.approx(0.5, abs=0.03)
    assert torch.equal(found[0][~at_start], t[~at_start])


def test_one_window_of_a_flow_model_is_reflow(toy: Any) -> None:
    """x_t = (1 - s) x_1 + s z and | v - (z - x_1) |^2 for pairs of noise and the teacher's ODE."""
    method = world(toy, "flow", "velocity", lambda m, x, t: torch.zeros_like(x), windows=1)
    made = batch(method)
    z = made.randn("noise").double()
    total, s = torch.full((512,), 1000.0), torch.zeros(512)
    end = method.solve(z, total, s, made)
    assert "latents" not in method.needs
    expected = ((z - end) ** 2).mean()
    torch.testing.assert_close(method.loss("student", made, 0).total, expected)


@pytest.mark.parametrize(("kind", "reads"), CASES)
def test_a_straight_flow_is_already_distilled(toy: Any, kind: str, reads: str) -> None:
    def bent(method: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)

    totals = []
    for student in (exact, bent):
        method = world(toy, kind, reads, student, windows=1, one_step_share=0.5)
        method.total_steps = 10
        totals.append(float(method.loss("student", batch(method), 5).total))
    assert totals[0] < 1e-12 < 1e-4 < totals[1]


def test_the_second_phase_takes_the_student_once(toy: Any) -> None:
    method, taken = world(toy, "vp", "ddim_eps", exact, windows=1, one_step_share=0.25), []
    method.net["flow"].load_tensors = taken.append
    method.total_steps = 8
    for step in range(8):
        method.loss("student", batch(method, 4), step)
        assert len(taken) == (step >= 6)


@pytest.mark.parametrize(
    ("backbone", "params", "what"),
    [
        ("gmm", {"windows": 3}, "3 windows do not divide the 1000 times"),
        ("gmm", {"solver_steps": 300}, "300 solver steps do not fit"),
        ("gmm-flow", {"reads": "ddim_eps"}, "is of diffusion"),
        ("gmm", {"reads": "noise"}, "diff_eps"),
        ("gmm", {"one_step_share": 0.5}, "set windows to 1, not 4"),
    ],
)
def test_windows_that_do_not_fit(backbone: str, params: Any, what: str) -> None:
    with pytest.raises((NotSupported, ConfigError), match=what):
        registry.build_method("perflow", params, registry.build_backbone(backbone, {}))
    registry.build_method("perflow", {"windows": 3}, registry.build_backbone("gmm-flow", {}))


def test_noise_of_a_start_without_signal_is_refused(toy: Any) -> None:
    ends = torch.linspace(1, 0, 1000, dtype=torch.float64)
    process = NoiseProcess.from_alphas_cumprod(ends)
    with pytest.raises(NotSupported, match="starts without"):
        PeRFlow(PeRFlowConfig(reads="diff_eps"), toy(None, process)).bind({})
    PeRFlow(PeRFlowConfig(reads="velocity"), toy(None, process)).bind({})
