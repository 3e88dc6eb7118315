"""TCD's jumps, end times and targets against closed forms, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.samplers import GammaSampler, from_recipe
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import ddim, second_order_jump
from distillbench.errors import NotSupported
from distillbench.methods.lcm import LCM, LCMConfig
from distillbench.methods.shared.consistency import SolverStep, target_jump
from distillbench.methods.tcd import TCD, TCDConfig

SD = NoiseProcess.scaled_linear()
CLEAN_END = NoiseProcess.scaled_linear(final=CLEAN)


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


def tcd(toy: Any, make_role: Any, process: NoiseProcess = SD, **config: Any) -> Any:
    method = TCD(TCDConfig(**config), toy(output, process))
    method.bind({"student": make_role("student", output)})
    return method


@pytest.mark.parametrize("process", [SD, CLEAN_END])
@pytest.mark.parametrize("tcf", ["1", "2", "S+"])
def test_a_jump_to_its_start_is_the_identity(
    toy: Any, make_role: Any, process: NoiseProcess, tcf: Any
) -> None:
    method = tcd(toy, make_role, process, tcf=tcf)
    x, t = torch.randn(4, 2).double(), torch.tensor([999, 499, 19, 1])
    jumped = method.jump(method.net["student"], x, t, t, method.backbone.drawn(4), torch.ones(4))
    assert (jumped - x).abs().max() <= 1e-12


def test_second_order_jump_falls_back_where_no_time_is_between() -> None:
    t, s = torch.tensor([20, 999, 999, 1]), torch.tensor([19, 499, CLEAN, CLEAN])
    x = torch.randn(4, 2).double()
    rate = torch.full_like(x, 2.0, requires_grad=True)
    x0_t, eps_t = 0.3 * x, 0.9 * x
    seen: list[torch.Tensor] = []

    def x0_at(x_m: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        seen.append(m)
        return rate * x_m

    out = second_order_jump(SD, x, x0_t, eps_t, t, s, x0_at)
    m = seen[0]
    assert m[0] == 20  # t itself: first order
    assert 499 < m[1] < 999
    # first order in x0 form, as (x0, eps) here need not belong to x
    ratio = SD.alpha_sigma(s, x)[1] / SD.alpha_sigma(t, x)[1]
    gain = SD.alpha_sigma(s, x)[0] - ratio * SD.alpha_sigma(t, x)[0]
    torch.testing.assert_close(out[0], (ratio * x + gain * x0_t)[0])
    at_m = SD.alpha_sigma(m, x)
    torch.testing.assert_close(out[2], 2 * ddim(x0_t, eps_t, *at_m)[2])  # x0_m, the limit
    out.sum().backward()
    assert rate.grad is not None
    assert bool(rate.grad.isfinite().all())


def test_second_order_evaluates_twice_and_both_give_gradients(toy: Any, make_role: Any) -> None:
    gain = torch.zeros((), dtype=torch.float64, requires_grad=True)
    method = tcd(toy, make_role, tcf="2", teacher_guidance=(1, 1))
    method.net["student"].fn = lambda x, t, c: output(x, t, c) + gain * x
    method.loss("student", method.backbone.drawn(), 0).total.backward()
    calls = method.backbone.calls
    assert calls == [("teacher", False), *[("student", False)] * 2, *[("student", True)] * 2]
    assert gain.grad is not None
    assert bool(gain.grad.isfinite())


@pytest.mark.parametrize("process", [SD, CLEAN_END])
def test_end_times(toy: Any, make_role: Any, process: NoiseProcess) -> None:
    for ends in ("grid", "integers"):
        method = tcd(toy, make_role, process, ends=ends)
        batch = method.backbone.drawn(20_000)
        pair = method.solver_step(batch, batch.randn("noise"))
        end = method.end_time(batch, pair)
        assert bool(((process.final <= end) & (end <= pair.u) & (pair.u < pair.t)).all())
        last = pair.index == 49
        assert bool((end[last] == process.final).any())
        if ends == "grid":
            assert bool((end[last] == 979).any())
            on_grid = ((end + 1) % 20 == 0) | (end == process.final)
            assert bool(on_grid.all())
            share = (end == pair.u).double().mean()  # sum_j 1 / (j + 1) / 50 = 9.0 %
            assert float(share) == pytest.approx(0.0900, abs=0.01)
        else:
            assert end[last].unique().numel() > 250


def test_no_target_network_where_the_jump_ends_at_u(toy: Any, make_role: Any) -> None:
    method = tcd(toy, make_role)
    batch, asked = method.backbone.drawn(), []
    predict = method.backbone.predict
    method.backbone.predict = lambda net, x, t, cond, **kw: (
        asked.append((x, t, cond)), predict(net, x, t, cond, **kw)
    )[1]  # fmt: skip
    pair = method.solver_step(batch, batch.randn("noise"))
    end = pair.u.clone()
    end[::2] = method.backbone.process.final
    net = method.net["student"]
    asked.clear()
    assert torch.equal(target_jump(method.jump, net, pair, pair.u, batch), pair.x_u)
    assert not asked
    target = target_jump(method.jump, net, pair, end, batch)
    rows = end < pair.u
    ((x, _, cond),) = asked
    assert len(x) == int(rows.sum()) < len(batch)
    assert torch.equal(cond.tensors["label"], batch.cond.tensors["label"][rows])
    whole = method.jump(net, pair.x_u, pair.u, end, batch, pair.scale)
    torch.testing.assert_close(target, torch.where(rows[:, None], whole, pair.x_u))


def test_to_the_clean_end_it_is_lcm_up_to_the_skip_terms(toy: Any, make_role: Any) -> None:
    class ToClean(TCD):
        def end_time(self, batch: Any, pair: SolverStep) -> torch.Tensor:
            return torch.full_like(pair.t, CLEAN)

    settings: dict[str, Any] = {"distance": "l2", "teacher_guidance": (1, 1)}
    kinds = (ToClean(TCDConfig(**settings), toy(output)), LCM(LCMConfig(**settings), toy(output)))
    values = []
    for method in kinds:
        method.bind({"student": make_role("student", output)})
        batch = method.backbone.drawn()
        pair = method.solver_step(batch, batch.randn("noise"))
        assert int(pair.index.min()) >= 1  # at j = 0 LCM's target is x_u itself
        if isinstance(method, TCD):
            both = method.jumps(method.jump, pair, method.end_time(batch, pair), batch)
        else:
            net, points = method.net["student"], ((pair.x_t, pair.t), (pair.x_u, pair.u))
            both = tuple(method.f(net, x, t, batch, pair.scale) for x, t in points)
        values.append(torch.stack(both))
    size = values[1].abs().max()
    assert 0 < (values[0] - values[1]).abs().max() < 1e-5 * size


def test_zero_initialised_end_time_starts_as_first_order() -> None:
    backbone = registry.build_backbone("gmm", {})
    backbone.load("cpu")
    x, t, s = torch.randn(6, 2), torch.full((6,), 499), torch.tensor([479, 399, 259, 19, 0, CLEAN])
    jumps = []
    for tcf in ("1", "S+"):
        method: Any = registry.build_method("tcd", {"nets": "copy", "tcf": tcf}, backbone)
        spec = method.nets()["student"]
        assert ("end_t" in spec.opts["conditions"]) == (tcf == "S+")
        net = backbone.make_net("student", spec.kind, **spec.opts)
        batch = type("B", (), {"cond": backbone.encode(["condition 1"] * 6)})()
        jumps.append(method.jump(net, x, t, s, batch, torch.full((6,), 7.0)))
    assert torch.equal(*jumps)


def test_the_end_time_is_what_the_network_is_told(toy: Any, make_role: Any) -> None:
    told: list[Any] = []
    for tcf in ("1", "S+"):
        method = tcd(toy, make_role, tcf=tcf)
        predict = method.backbone.predict
        method.backbone.predict = lambda *args, _predict=predict, **kw: (
            told.append(kw.get("end_t")), _predict(*args, **kw)
        )[1]  # fmt: skip
        end = torch.tensor([19, 0, 479])
        x, t = torch.randn(3, 2).double(), torch.tensor([999, 499, 499])
        method.jump(method.net["student"], x, t, end, method.backbone.drawn(3), torch.ones(3))
    assert told[0] is None
    assert torch.equal(told[1], end)


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.3, 1.0])
def test_sampling_gives_each_time_its_variance(gamma: float) -> None:
    # With eps of unit variance given, every visited state has sigma_p^2 of noise.
    x0, states = torch.zeros(4000, 2).double(), []
    rng = torch.Generator().manual_seed(1)

    def draw(_: int = 0) -> torch.Tensor:
        return torch.randn(x0.shape, generator=rng, dtype=torch.float64)

    def denoise(x: torch.Tensor, t: torch.Tensor, **_: Any) -> Any:
        states.append((int(t[0]), x))
        return type("P", (), {"x0": x0, "eps": x / SD.alpha_sigma(t, x)[1]})

    sampler = GammaSampler(timesteps=(999, 759, 499, 259), gamma=gamma)
    sampler.sample(denoise, SD.alpha_sigma(999, x0)[1] * draw(), SD, draw)
    for t, x in states:
        assert float(x.std() / SD.sigmas[t]) == pytest.approx(1, abs=0.03)


def test_gamma_one_renoises_the_data_where_the_schedule_is_clean(toy: Any, make_role: Any) -> None:
    squared = SD.alphas**2
    squared[0] = 1.0
    process = NoiseProcess.from_alphas_cumprod(squared)
    method = tcd(toy, make_role, process, gamma=1.0)
    batch, z = method.backbone.drawn(8), torch.randn(8, 2).double()
    x, seen = torch.randn(8, 2).double(), []

    def denoise(x: torch.Tensor, t: torch.Tensor, **_: Any) -> Any:
        seen.append((x, method.backbone.predict(None, x, t, batch.cond)))
        return seen[-1][1]

    method.sampler(2).sample(denoise, x, process, lambda i: z)
    expected = process.add_noise(seen[0][1].x0, z, torch.full((8,), 499))
    torch.testing.assert_close(seen[1][0], expected, rtol=0, atol=1e-12)


def test_sampling_recipes() -> None:
    backbone = registry.build_backbone("gmm", {})

    def recipe(nfe: int, **config: Any) -> Any:
        return registry.build_method("tcd", config, backbone).sampler(nfe)

    assert recipe(4).timesteps == (999, 759, 499, 259)
    assert recipe(4).gamma == 0.3
    assert recipe(4, solver_steps=40).timesteps == (999, 749, 499, 249)
    second = recipe(4, tcf="2")
    assert (second.timesteps, second.nfe) == ((999, 499), 4)
    assert from_recipe(second.model_dump(mode="json")) == second
    assert recipe(4, tcf="S+").embed_end
    assert recipe(4).embed_scale is None
    assert recipe(4, nets="copy").embed_scale == 8.0
    with pytest.raises(NotSupported, match="2 evaluations a step"):
        recipe(3, tcf="2")
    with pytest.raises(NotSupported, match="51 evaluations"):
        recipe(51)


def test_a_second_order_student_samples_with_its_own_jumps(toy: Any, make_role: Any) -> None:
    method = tcd(toy, make_role, CLEAN_END, tcf="2", gamma=0.0)
    batch, x = method.backbone.drawn(4), torch.randn(4, 2).double()
    net = method.net["student"]

    def denoise(x: torch.Tensor, t: torch.Tensor, **_: Any) -> Any:
        return method.backbone.predict(net, x, t, batch.cond)

    sampled = method.sampler(4).sample(denoise, x, CLEAN_END, lambda i: x)
    assert len(method.backbone.calls) == 4
    expected = x
    for t, s in ((999, 499), (499, CLEAN)):
        times = torch.full((4,), t), torch.full((4,), s)
        expected = method.jump(net, expected, *times, batch, torch.ones(4))
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-12)
