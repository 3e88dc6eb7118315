"""Fine-tuning: what its loss finds, what it leaves out, and how its student is sampled."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.backbone import Cond
from distillbench.api.method import Batch
from distillbench.core.process import NoiseProcess
from distillbench.data.batches import DataSource
from distillbench.methods.sft import SFT, SFTConfig, dropped

STD = 0.5
PROCESSES = {
    "epsilon": NoiseProcess.scaled_linear(),
    "v_prediction": NoiseProcess.scaled_linear(),
    "sample": NoiseProcess.scaled_linear(),
    "flow": NoiseProcess.flow(),
}
N = 40_000


def best(kind: str, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The best raw output for data N(label / 4, STD^2), written out for each kind."""
    alpha, sigma = PROCESSES[kind].alpha_sigma(t, x)
    variance = alpha**2 * STD**2 + sigma**2
    eps = sigma * (x - alpha * label / 4) / variance
    x0 = label / 4 + alpha * STD**2 * (x - alpha * label / 4) / variance
    v = alpha * eps - sigma * x0
    return {"epsilon": eps, "v_prediction": v, "sample": x0, "flow": eps - x0}[kind]


def uncertain(kind: str, t: torch.Tensor) -> torch.Tensor:
    """The conditional variance of the target at each time, (B, 1)."""
    alpha, sigma = PROCESSES[kind].alpha_sigma(t, torch.zeros(1, 1, dtype=torch.float64))
    of_x0 = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)
    share = {"epsilon": alpha**2, "sample": sigma**2}.get(kind, 1.0)
    return of_x0 * share / sigma**2


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_exact_score_is_the_minimiser(toy: Any, make_role: Any, kind: str) -> None:
    backbone = toy(lambda x, t, label: x, PROCESSES[kind])
    backbone.prediction_type = kind
    batch: Batch = backbone.batch(N)
    mean = batch.cond.tensors["label"][:, None] / 4
    batch.latents = mean + STD * batch.randn("data").double()
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    seen: list[torch.Tensor] = []

    def fn(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        return best(kind, x, t, label) + theta[0] + theta[1] * x + theta[2] * t[:, None] / 1000

    method = SFT(SFTConfig(drop_prompt=0.0), backbone)
    method.bind({"student": make_role("student", fn)})
    loss = method.loss("student", batch, 0).total
    (slope,) = torch.autograd.grad(loss, theta)
    # With 80000 residuals of variance 4 at most, three standard errors of a slope are below 0.06.
    assert float(slope.abs().max()) < 0.06
    torch.testing.assert_close(loss, uncertain(kind, seen[0]).mean(), rtol=0.03, atol=0)
    with torch.no_grad():
        theta[0] = 0.5
    assert method.loss("student", batch, 0).total > loss + 0.15


def test_times_are_uniform_on_all(toy: Any, make_role: Any) -> None:
    seen: list[torch.Tensor] = []

    def fn(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        return x

    backbone = toy(fn)
    method = SFT(SFTConfig(), backbone)
    method.bind({"student": make_role("student", fn)})
    method.loss("student", backbone.batch(N, torch.zeros(N, 2)), 0)
    (t,) = seen
    assert (int(t.min()), int(t.max())) == (0, 999)
    assert float(t.double().mean()) == pytest.approx(499.5, abs=5)


# ---- prompts ------------------------------------------------------------------------------


def prompted(size: int) -> Batch:
    cond = Cond({"states": torch.ones(size, 3, 2), "pooled": torch.ones(size, 4)})
    null = Cond({"states": torch.zeros(1, 3, 2), "pooled": torch.zeros(1, 4)})
    return Batch(["a"] * size, cond, null, None, (2,), (0, "test"))


def test_a_share_of_the_prompts_is_dropped_whole() -> None:
    batch = prompted(4000)
    tensors = dropped(batch, 0.3).tensors
    kept = tensors["pooled"][:, 0]
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.03)
    for name, value in tensors.items():
        assert value.shape == batch.cond.tensors[name].shape
        assert torch.equal(value.flatten(1).amin(1), kept)
        assert torch.equal(value.flatten(1).amax(1), kept)


def test_none_or_all_prompts_are_dropped() -> None:
    batch = prompted(50)
    assert all(bool(value.all()) for value in dropped(batch, 0.0).tensors.values())
    assert not any(bool(value.any()) for value in dropped(batch, 1.0).tensors.values())


def test_labels_of_the_exact_world_are_dropped_to_the_mixture_of_all() -> None:
    backbone = registry.build_backbone("gmm", {})
    backbone.load("cpu")
    batch = DataSource(backbone, ["condition 3"], seed=0, batch_size=400, latents=True).batch(0, 0)
    labels = dropped(batch, 0.25).tensors["label"]
    assert set(labels.tolist()) == {3, 8}
    assert 60 < int((labels == 8).sum()) < 140


# ---- sampling -----------------------------------------------------------------------------


def test_it_is_sampled_as_the_teacher_is() -> None:
    backbone = registry.build_backbone("sd", {"model": "x/y"})
    how = {"solver": "dpmsolver++", "guidance_scale": 3.5}
    student, teacher = (registry.build_method(name, how, backbone) for name in ("sft", "teacher"))
    for nfe in (4, 25):
        assert student.sampler(nfe) == teacher.sampler(nfe)
    assert student.sampler(4).guidance_scale == 3.5


def test_its_student_may_be_a_teacher() -> None:
    assert registry.METHODS.get("sft").denoises
    assert not registry.METHODS.get("tdm").denoises
