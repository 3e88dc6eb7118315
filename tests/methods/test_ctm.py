"""CTM's options of TCD (arXiv 2310.02279) in float64: the soft target, and score matching."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import ddim
from distillbench.methods.tcd import TCD, TCDConfig

PROCESSES = {
    "vp": NoiseProcess.scaled_linear(),
    "vp clean": NoiseProcess.scaled_linear(final=CLEAN),
    "flow": NoiseProcess.flow(),
}


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


def tcd(toy: Any, make_role: Any, kind: str, **config: Any) -> Any:
    settings = {"teacher_guidance": 1, "solver_steps": 10, **config}
    backbone = toy(output, PROCESSES[kind])
    backbone.prediction_type = "flow" if kind == "flow" else "epsilon"
    method = TCD(TCDConfig(**settings), backbone)
    method.bind({"student": make_role("student", output)})
    return method


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("count", [1, 3, 10])
def test_a_soft_target_is_several_steps_of_the_teacher(
    toy: Any, make_role: Any, kind: str, count: int
) -> None:
    method = tcd(toy, make_role, kind)
    batch = method.backbone.drawn()
    near, far = (method.solver_step(batch, batch.randn("noise"), m) for m in (1, count))
    assert torch.equal(near.t, far.t)
    assert torch.equal(near.x_t, far.x_t)
    assert torch.equal(far.index, (near.index - count + 1).clamp(min=0))
    process = method.backbone.process
    for row in range(len(batch)):
        x, j = far.x_t[row : row + 1], int(near.index[row])
        for i in range(j, max(j - count, -1), -1):
            t, to = (method.grid.at(torch.tensor([k]), x) for k in (i + 1, i))
            pred = method.backbone.predict(None, x, t, batch.cond[row : row + 1])
            x = ddim(pred.x0, pred.eps, *process.alpha_sigma(to, x))
        torch.testing.assert_close(far.x_u[row : row + 1], x, rtol=1e-12, atol=1e-12)
    end = method.end_time(batch, far)
    assert bool((end <= far.u).all())


def test_how_many_steps_it_takes(toy: Any, make_role: Any) -> None:
    """m of 1 to 3 with chances 1, 2, 3 in 6, the same for all samples of an update."""
    method, batch = tcd(toy, make_role, "vp", soft_steps=3), None
    seen = Counter[int]()
    for step in range(3000):
        batch = replace(method.backbone.drawn(1), key=(step, "test"))
        seen[method.soft_steps(batch)] += 1
    shares = [seen[m] / 3000 for m in (1, 2, 3)]
    assert shares == pytest.approx([1 / 6, 1 / 3, 1 / 2], abs=0.03)
    assert tcd(toy, make_role, "vp").soft_steps(batch) == 1


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("tcf", ["1", "S+"])
def test_the_score_loss_is_denoising(toy: Any, make_role: Any, kind: str, tcf: Any) -> None:
    plain, with_it = (tcd(toy, make_role, kind, tcf=tcf, w_score=w) for w in (0, 0.5))
    batch, told = plain.backbone.drawn(400), []
    predict = with_it.backbone.predict
    with_it.backbone.predict = lambda *args, **kw: (
        told.append((args[2], kw.get("end_t"))), predict(*args, **kw)
    )[1]  # fmt: skip
    totals = [float(m.loss("student", batch, 0).total) for m in (plain, with_it)]
    t, end = told[-1]
    assert (end is t) if tcf == "S+" else (end is None)
    x_t = plain.backbone.process.add_noise(batch.latents, batch.randn("score", "noise"), t)
    pred = plain.backbone.predict(plain.net["student"], x_t, t, batch.cond)
    expected = float(((pred.eps - batch.randn("score", "noise")) ** 2).mean())
    assert totals[1] - totals[0] == pytest.approx(0.5 * expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_the_exact_score_is_where_score_matching_is_flat(
    toy: Any, make_role: Any, kind: str
) -> None:
    std, gain = 0.5, torch.zeros((), dtype=torch.float64, requires_grad=True)
    process = PROCESSES[kind]

    def exact(x: torch.Tensor, t: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        alpha, sigma = process.alpha_sigma(t, x)
        spread = alpha**2 * std**2 + sigma**2
        if kind == "flow":
            return (sigma - alpha * std**2) * x / spread
        return sigma * x / spread

    method = tcd(toy, make_role, kind)
    grads = []
    for off in (0.0, 0.1):
        method.bind({"student": make_role("student", lambda *a, o=off: exact(*a) * (1 + o + gain))})
        latents = std * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)).double()
        loss = method.score(method.backbone.batch(200_000, latents))
        grads.append(float(torch.autograd.grad(loss, gain)[0]))
    assert abs(grads[0]) < 0.05 * abs(grads[1])


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValidationError, match="soft_steps 51 are more than 50 solver_steps"):
        TCDConfig(soft_steps=51)
