"""DMD2's losses against closed forms, its two time scales and its simulated inputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.samplers import RenoiseSampler
from distillbench.core.matching import renoised
from distillbench.core.process import NoiseProcess
from distillbench.core.solve import transition
from distillbench.errors import NotSupported
from distillbench.methods.shared.scores import any_time, time_between

NODES = (999, 749, 499, 249)


# ---- matching -----------------------------------------------------------------------------


def test_the_students_gradient_is_the_normalised_difference(dmd2: Any) -> None:
    method = dmd2(shift=0.3, teacher_guidance=2.5, steps=1)
    batch = method.backbone.batch()
    seen: list[torch.Tensor] = []
    plain = method.predict

    def predict(role: str, *args: Any) -> Any:
        pred = plain(role, *args)
        if role != "student":
            return pred
        seen.append(pred.x0.detach().requires_grad_())
        return replace(pred, x0=seen[0])

    method.predict = predict
    total = method.loss("student", batch, 0).total
    (found,) = torch.autograd.grad(total, seen[0])

    x0, process = seen[0].detach(), method.backbone.process
    tau = (20 + (batch.rand("student", "time").double() * 961).floor()).long()
    x_tau = process.add_noise(x0, batch.randn("student", "noise"), tau)
    predict_ = method.backbone.predict
    cond, free = (predict_(None, x_tau, tau, c).x0 for c in (batch.cond, batch.uncond.expand(32)))
    fake = predict_(method.net["fake"], x_tau, tau, batch.cond).x0
    real = free + 2.5 * (cond - free)
    grad = (fake - real) / (x0 - real).abs().mean(1, keepdim=True)
    torch.testing.assert_close(found * found.numel(), grad, rtol=0, atol=1e-9)
    torch.testing.assert_close(total, 0.5 * (grad**2).mean(), rtol=1e-9, atol=0)


def test_equal_scores_give_exactly_no_gradient(dmd2: Any) -> None:
    method = dmd2(teacher_guidance=1.0)
    total = method.loss("student", method.backbone.batch(), 0).total
    total.backward()
    assert total == 0
    assert method.gain.grad == 0


def test_renoising_is_from_the_clean_prediction() -> None:
    process = NoiseProcess.scaled_linear()
    x0, eps, noise = torch.randn(3, 8, 2, dtype=torch.float64)
    tau = torch.arange(20, 980, 120)
    at = renoised(process, x0, eps, torch.full((8,), -1), tau, noise)
    torch.testing.assert_close(at.x_tau, process.add_noise(x0, noise, tau), rtol=0, atol=1e-15)
    # TDM with one disjoint segment starts at time 0 instead: the rest is of the order of sigma_0
    alpha, sigma = process.alpha_sigma(0, x0)
    r, _ = transition(alpha, sigma, *process.alpha_sigma(tau, x0))
    tdm = renoised(process, x0, eps, torch.zeros(8, dtype=torch.long), tau, noise)
    assert float(((tdm.x_tau - at.x_tau).abs() / (r + sigma)).max()) < 5 * float(sigma)


def test_matching_times_and_training_times(dmd2: Any) -> None:
    method = dmd2()
    batch = method.backbone.batch(20000)
    tau, every = (
        time_between(method.backbone, batch, "student", 20, 981),
        any_time(method.backbone, batch, "fake"),
    )
    assert (int(tau.min()), int(tau.max())) == (20, 980)
    assert (int(every.min()), int(every.max())) == (0, 999)
    flow = dmd2(process=NoiseProcess.flow())
    assert any_time(flow.backbone, batch, "fake").is_floating_point()


def test_the_fake_score_learns_the_noise(dmd2: Any) -> None:
    method = dmd2(shift=0.2)
    batch = method.backbone.batch()
    loss = method.loss("fake", batch, 0).total
    x0, t = method.samples(batch), any_time(method.backbone, batch, "fake")
    noise = batch.randn("fake", "noise").double()
    x_t = method.backbone.process.add_noise(x0, noise, t)
    eps = method.backbone.teacher(x_t, t, batch.cond.tensors["label"][:, None]) + 0.2
    torch.testing.assert_close(loss, ((eps - noise) ** 2).mean(), rtol=1e-6, atol=0)


# ---- backward simulation ------------------------------------------------------------------


def inputs_by_index(method: Any, batch: Any) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    found = {}
    for turn in range(60):
        x, t = method.student_input(batch, f"turn {turn}")
        assert len(set(t.tolist())) == 1  # one index for the batch
        assert not x.requires_grad
        found[NODES.index(int(t[0]))] = (x, turn)
    return found


def test_backward_simulation_is_the_samplers_state(dmd2: Any) -> None:
    method = dmd2()
    batch = method.backbone.batch()
    found = inputs_by_index(method, batch)
    assert set(found) == {0, 1, 2, 3}
    x, turn = found[0]
    assert torch.equal(x, batch.randn(f"turn {turn}", "start"))  # pure noise at the first time
    for j in (1, 2, 3):
        x, turn = found[j]
        states: list[torch.Tensor] = []

        def denoise(x_t: torch.Tensor, t: torch.Tensor, **_: Any) -> Any:
            states.append(x_t)  # noqa: B023
            return method.backbone.predict(method.net["student"], x_t, t, batch.cond)

        stream = f"turn {turn}"
        RenoiseSampler(timesteps=NODES).sample(
            denoise, batch.randn(stream, "start"), method.backbone.process,
            lambda i, stream=stream: batch.randn(stream, "step", i),  # type: ignore[misc]
        )  # fmt: skip
        torch.testing.assert_close(x.double(), states[j].double())


def test_simulated_inputs_know_no_data(dmd2: Any) -> None:
    method = dmd2()
    plain = method.backbone.batch()
    other = method.backbone.batch(latents=torch.randn(32, 2))
    for turn in ("fake", "student", "x", "y"):
        x, y = (method.student_input(batch, turn)[0] for batch in (plain, other))
        assert torch.equal(x, y)
    assert method.needs == {"prompts"}


def test_the_index_is_that_of_all_micro_batches() -> None:
    from distillbench.data.batches import DataSource

    backbone = registry.build_backbone("gmm", {})
    backbone.load("cpu")
    data = DataSource(backbone, ["condition 0"], seed=3, batch_size=2)
    draws = [[data.batch(step, micro).shared_randint(0, 4, "fake", "steps") for micro in range(3)]
             for step in range(40)]  # fmt: skip
    assert all(len(set(row)) == 1 for row in draws)
    assert {row[0] for row in draws} == {0, 1, 2, 3}
    assert not torch.equal(data.batch(0, 0).randn("x"), data.batch(0, 1).randn("x"))


def test_data_input_is_noised_latents_and_noise_at_the_first_time(dmd2: Any) -> None:
    method = dmd2(student_input="data")
    assert "latents" in method.needs
    latents = torch.randn(400, 2)
    batch = method.backbone.batch(400, latents=latents)
    x, t = method.student_input(batch, "student")
    assert set(t.tolist()) == set(NODES)
    noise, first = batch.randn("student", "start"), t == 999
    assert torch.equal(x[first], noise[first])
    expected = method.backbone.process.add_noise(latents, noise, t)
    torch.testing.assert_close(x[~first], expected[~first])


# ---- two time scales ----------------------------------------------------------------------


def test_turns_and_what_they_evaluate(dmd2: Any) -> None:
    method = dmd2(fake_updates=3, steps=1)
    assert method.turns(0) == ("student", "fake", "fake", "fake")
    assert set(method.nets()) == {"fake", "student"}
    batch = method.backbone.batch()
    method.loss("fake", batch, 0)
    assert Counter(method.backbone.calls) == {("student", False): 1, ("fake", True): 1}
    method.backbone.calls.clear()
    method.loss("student", batch, 0)
    expected = {("student", True): 1, ("teacher", False): 1, ("fake", False): 1}
    assert Counter(method.backbone.calls) == expected
    gan = dmd2(fake_updates=2, adversarial_weight=1e-3)
    assert gan.turns(0) == ("student", "fake", "fake")
    assert [gan.trains(turn) for turn in ("fake", "student")] == [("fake", "head"), ("student",)]
    assert method.trains("fake") == ("fake",)
    assert gan.nets()["head"].kind == "head"
    assert gan.needs == {"prompts", "latents"}


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_students_own_sample_is_the_fake_scores_first(dmd2: Any, weight: float) -> None:
    """It is what the student predicted with gradient, as data; a later turn makes its own."""
    method = dmd2(fake_updates=2, adversarial_weight=weight, shift=0.3)
    latents = torch.randn(32, 2, generator=torch.Generator().manual_seed(1))
    first, second = (method.backbone.batch(latents=latents) for _ in range(2))
    method.loss("student", first, 0)
    x_u, u = method.student_input(first, "student")
    with torch.no_grad():
        own = method.predict("student", x_u, u, first).x0
    method.backbone.calls.clear()
    method.loss("fake", first, 0)
    assert torch.equal(method.samples(first), own)
    assert not method.samples(first).requires_grad
    assert ("student", False) not in Counter(method.backbone.calls)
    method.loss("fake", second, 0)
    assert Counter(method.backbone.calls)["student", False] >= 1
    assert not torch.equal(method.samples(second), own)


def test_fake_and_student_turn_draw_different_noise(dmd2: Any) -> None:
    method = dmd2(steps=1)
    batch = method.backbone.batch()
    inputs = [method.student_input(batch, turn)[0] for turn in ("fake", "student")]
    assert float((inputs[0] - inputs[1]).abs().min()) > 0


def test_sampling_off_the_trained_times_is_refused() -> None:
    backbone = registry.build_backbone("gmm", {})
    method = registry.build_method("dmd2", {}, backbone)
    assert method.sampler(4).timesteps == NODES
    assert not method.sampler(4).boundary
    assert method.sampler(1).timesteps == (999,)
    with pytest.raises(NotSupported, match="were not trained"):
        method.sampler(3)
