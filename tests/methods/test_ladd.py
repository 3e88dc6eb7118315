"""LADD and ADD in float64: their losses by hand, their data, and what a user's extractor needs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.core.process import NoiseProcess
from distillbench.errors import BadInput, ConfigError, NotSupported
from distillbench.methods.ladd import LADD, LADDConfig
from distillbench.methods.shared.extractor import imported

PROCESSES = {"vp": NoiseProcess.scaled_linear(), "flow": NoiseProcess.flow()}
EXTRACTOR = "def twice(backbone):\n    return lambda x: [2 * x, x[:, :1]]\n"


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x


def world(toy: Any, make_role: Any, kind: str = "vp", **config: Any) -> Any:
    """A student that is the teacher plus gain x; features are x itself; heads sum them up."""

    def features(net: Any, x: torch.Tensor, t: Any, cond: Any, layers: Any) -> Any:
        assert net is None
        method.seen.append((x.detach(), t))
        return [x for _ in layers]

    backbone = type("Featured", (toy,), {"features": staticmethod(features)})(
        output, PROCESSES[kind]
    )
    backbone.prediction_type = "epsilon" if kind == "vp" else "flow"
    method: Any = LADD(LADDConfig(**{"teacher_guidance": 1, **config}), backbone)
    method.seen, method.gain = [], torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    heads = torch.nn.ModuleList(torch.nn.Linear(2, 1) for _ in method.config.layers).double()
    method.bind({
        "student": make_role("student", lambda x, t, c: output(x, t, c) + method.gain * x),
        "disc": SimpleNamespace(module=heads),
    })  # fmt: skip
    return method


def batch(method: Any, size: int = 64) -> Any:
    latents = torch.randn(size, 2, generator=torch.Generator().manual_seed(3)).double()
    real = method.config.data == "latents"
    return method.backbone.batch(size, latents if real else None)


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("loss", ["hinge", "softplus"])
@pytest.mark.parametrize("data", ["teacher", "latents"])
def test_the_losses_by_hand(toy: Any, make_role: Any, kind: str, loss: Any, data: Any) -> None:
    method = world(toy, make_role, kind, loss=loss, data=data, layers=("mid", "mid"))
    made = batch(method)
    total = method.loss("disc", made, 0).total
    (x_t, _), (y_t, _) = method.seen
    heads = list(method.net["disc"].module)
    fake, real = (torch.cat([head(v) for head in heads], 1) for v in (x_t, y_t))
    f = torch.nn.functional
    parts = (
        (f.relu(1 + fake), f.relu(1 - real)) if loss == "hinge"
        else (f.softplus(fake), f.softplus(-real))
    )  # fmt: skip
    torch.testing.assert_close(total, sum(p.mean() for p in parts), rtol=1e-12, atol=0)
    method.seen.clear()
    total = method.loss("student", made, 0).total
    fake = torch.cat([head(method.seen[0][0]) for head in heads], 1)
    expected = -fake.mean() if loss == "hinge" else f.softplus(-fake).mean()
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)
    assert float(torch.autograd.grad(total, method.gain)[0].abs()) > 0
    assert ("latents" in method.needs) == (data == "latents")


@pytest.mark.parametrize("kind", PROCESSES)
def test_both_sides_are_the_teachers_samples_noised_apart(
    toy: Any, make_role: Any, kind: str
) -> None:
    """With equal laws of both, heads that read them can tell nothing apart but the draw."""
    method = world(toy, make_role, kind)
    made = batch(method, 4000)
    method.loss("disc", made, 0)
    (_, t), (_, t_real) = method.seen
    total = method.backbone.num_timesteps
    for times in (t, t_real):
        assert times.is_floating_point() == (kind == "flow")
        assert float((times < total / 2).double().mean()) == pytest.approx(0.159, abs=0.02)
        assert 0 <= float(times.min()) <= float(times.max()) <= total - (kind == "vp")
    assert not torch.equal(t, t_real)
    y = made.once("data", lambda: None)
    assert torch.equal(y, method.data(made))
    assert not y.requires_grad


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_distillation_is_adds(toy: Any, make_role: Any, kind: str) -> None:
    """alpha_s | x - f_phi |^2, no gradient through the teacher; nothing at w = 0."""
    with_it, without = (
        world(toy, make_role, kind, w_distillation=w, data="latents") for w in (2.5, 0)
    )
    without.net["disc"].module.load_state_dict(with_it.net["disc"].module.state_dict())
    made = batch(with_it)
    totals = [m.loss("student", made, 0).total for m in (with_it, without)]
    x = with_it.sample(made.latents, made, "student")
    s = made.rand("distillation", "time")
    s = 1000 * s if kind == "flow" else (1000 * s.double()).long()
    process = with_it.backbone.process
    x_s = process.add_noise(x.detach(), made.randn("distillation", "noise"), s)
    f_phi = with_it.teacher(x_s, s, made, 1.0).x0.detach()
    alpha = process.alpha_sigma(s, x)[0]
    expected = (alpha * (x - f_phi) ** 2).mean()
    torch.testing.assert_close(totals[0] - totals[1], 2.5 * expected, rtol=1e-9, atol=0)
    ours, theirs = (
        torch.autograd.grad(v, with_it.gain, retain_graph=True)[0]
        for v in (with_it.apart(x, made), expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


def test_r1_is_half_the_squared_gradient(toy: Any, make_role: Any) -> None:
    plain, with_it = (world(toy, make_role, r1=r1, data="latents") for r1 in (0, 0.5))
    plain.net["disc"].module.load_state_dict(with_it.net["disc"].module.state_dict())
    made = batch(plain)
    more = with_it.loss("disc", made, 0).total - plain.loss("disc", made, 0).total
    (head,) = with_it.net["disc"].module
    torch.testing.assert_close(more, 0.25 * head.weight.square().sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("data", ["teacher", "latents"])
def test_a_set_of_heads_for_each_input_time(toy: Any, make_role: Any, data: Any) -> None:
    """Of the same features, each sample's logits are those of its own time's heads."""
    method = world(toy, make_role, heads="each", layers=("mid", "mid"), data=data, steps=3, r1=0.5)
    sets = [torch.nn.ModuleList(torch.nn.Linear(2, 1) for _ in range(2)).double() for _ in range(3)]
    heads = torch.nn.ModuleList(head for each in sets for head in each)
    method.bind({**method.net, "disc": SimpleNamespace(module=heads)})
    made = batch(method)
    total = method.loss("disc", made, 0).total
    k = made.randint(0, 3, "disc", "node")
    assert k.unique().tolist() == [0, 1, 2]
    fake, real = (
        torch.stack([
            torch.cat([head(row) for head in sets[int(i)]]) for row, i in zip(v, k, strict=True)
        ])
        for v, _ in method.seen
    )  # fmt: skip
    slopes = torch.stack([sum(h.weight.square().sum() for h in sets[int(i)]) for i in k])
    f = torch.nn.functional
    expected = f.relu(1 + fake).mean() + f.relu(1 - real).mean() + 0.25 * slopes.mean()
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_simulated_input_is_the_samplers_own(toy: Any, make_role: Any, kind: str) -> None:
    """At each input time, the state of a sampler with the same noise; no gradient but the last."""
    method = world(toy, make_role, kind, student_input="simulation", steps=3)
    made = batch(method)
    x = method.sample(method.data(made), made, "student")
    k = made.randint(0, 3, "student", "node")
    states: list[torch.Tensor] = []

    def denoise(x: torch.Tensor, t: torch.Tensor, *, end_t: Any = None) -> Any:
        states.append(x)
        return method.predict("student", x, t, made)

    start = made.randn("student", "start")
    method.sampler(3).sample(
        denoise, start, method.backbone.process, lambda i: made.randn("student", "step", i)
    )
    rows = torch.arange(len(made))
    expected = method.predict(
        "student", torch.stack(states).detach()[k, rows], torch.tensor(method.nodes)[k], made
    ).x0
    assert torch.equal(x, expected)
    ours, theirs = (torch.autograd.grad(v.sum(), method.gain)[0] for v in (x, expected))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("heads", ["shared", "each"])
def test_shared_heads_see_the_mixture_alone(toy: Any, make_role: Any, heads: Any) -> None:
    """Samples of +1 from one time and -1 from the other, as often as in the data: all are fooled
    but the heads of each time."""
    method = world(toy, make_role, heads=heads, steps=2, loss="softplus")
    flat = torch.nn.ModuleList(torch.nn.Linear(2, 1) for _ in range(method.critic.sets)).double()
    for parameter in flat.parameters():
        torch.nn.init.zeros_(parameter)
    method.bind({**method.net, "disc": SimpleNamespace(module=flat)})
    k = torch.tensor([0, 0, 1, 1])
    fake = torch.tensor([1.0, 1, -1, -1]).double()[:, None].expand(4, 2)
    real = torch.tensor([1.0, -1, 1, -1]).double()[:, None].expand(4, 2)
    gap = method.critic.logits([fake], k).mean() - method.critic.logits([real], k).mean()
    steepness = sum(g.abs().sum() for g in torch.autograd.grad(gap, list(flat.parameters())))
    assert (float(steepness) == 0) == (heads == "shared")


@pytest.fixture
def extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_features.py").write_text(EXTRACTOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_features", raising=False)
    return "my_features:twice"


def test_an_extractor_takes_the_teachers_place(extractor: str, toy: Any, make_role: Any) -> None:
    plain: Any = LADD(LADDConfig(extractor=extractor), toy(output))
    heads = plain.make_head("disc")
    assert [head[0].in_features for head in heads] == [2, 1]
    plain.bind({"student": make_role("student", output), "disc": SimpleNamespace(module=heads)})
    assert plain.requirements()[0].problem == ""
    heads.double()
    made = plain.backbone.batch(8)
    x = plain.sample(plain.data(made), made, "student")
    expected = -torch.cat([heads[0](2 * x), heads[1](x[:, :1])], 1).mean()
    torch.testing.assert_close(plain.loss("student", made, 0).total, expected)
    with pytest.raises(BadInput, match=r"my_features:none.*none"):
        imported("my_features:none", plain.backbone)


def test_what_an_extractor_lacks_is_said_when_planning(toy: Any) -> None:
    with pytest.raises(NotSupported, match="needs features"):
        LADD(LADDConfig(), toy(output))
    backbone = registry.build_backbone("gmm", {})
    (need,) = registry.build_method(
        "ladd", {"extractor": "no_such_module:make"}, backbone
    ).requirements()
    assert "no such module" in need.line
    for params, what in (
        ({"extractor": "features.py"}, "not of the form package.module:function"),
        ({"layers": []}, "at least one"),
    ):
        with pytest.raises(ConfigError, match=what):
            registry.build_method("ladd", params, backbone)


def test_some_of_its_times() -> None:
    method: Any = registry.build_method("ladd", {}, registry.build_backbone("gmm", {}))
    assert [method.sampler(k).nfe for k in (1, 2, 4)] == [1, 2, 4]
    with pytest.raises(NotSupported, match="8"):
        method.sampler(8)
