"""Roles on a shared base: identities at the start, gradients, conditions, copies."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from distillbench.api.backbone import Backbone, Prediction
from distillbench.api.nets import NetHandle
from distillbench.backbones._conditions import sinusoids
from distillbench.errors import NotSupported

Build = Callable[..., Any]


def ask(backbone: Backbone, net: NetHandle | None, **extra: Any) -> Prediction:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, *backbone.latent_shape, generator=rng)
    cond = backbone.encode(["a red car", "blue boat"])
    return backbone.predict(net, x, torch.tensor([999, 399]), cond, **extra)


def raw(backbone: Backbone, net: NetHandle | None, **extra: Any) -> torch.Tensor:
    with torch.no_grad():
        return ask(backbone, net, **extra).raw


def disturb(net: NetHandle) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def test_every_role_starts_as_the_teacher(loaded: Backbone) -> None:
    before = raw(loaded, None)
    student, fake = loaded.make_net("student", rank=2), loaded.make_net("fake", rank=2)
    copy = loaded.make_net("other", "copy")
    for net in (None, student, fake, copy):
        assert torch.equal(raw(loaded, net), before)
    disturb(student)
    assert not torch.equal(raw(loaded, student), before)
    assert torch.equal(raw(loaded, fake), before)
    with student.active():
        assert torch.equal(raw(loaded, None), before)


@pytest.mark.parametrize("kind", ["lora", "copy"])
def test_an_adopted_role_is_the_teacher(loaded: Backbone, kind: str) -> None:
    opts = {"rank": 2} if kind == "lora" else {}
    plain, net = raw(loaded, None), loaded.make_net("adopted", kind, **opts)
    disturb(net)
    trained = raw(loaded, net)
    loaded.replace_teacher(net)
    assert not torch.allclose(plain, trained, atol=1e-3)
    for role in (None, loaded.make_net("student", rank=2), loaded.make_net("other", "copy")):
        assert torch.allclose(raw(loaded, role), trained, atol=1e-4)
    student = loaded.make_net("adopted", rank=2)  # the name is free again
    assert torch.equal(raw(loaded, student), raw(loaded, None))


def test_an_adopted_copy_is_let_go(build: Build) -> None:
    backbone = build("sd")
    net = backbone.make_net("adopted", "copy")
    module = weakref.ref(net.module)
    backbone.replace_teacher(net)
    del net
    gc.collect()
    assert module() is None


def test_copies_made_after_adapters_are_plain(build: Build) -> None:
    backbone = build("sd")
    before = raw(backbone, None)
    disturb(backbone.make_net("student", rank=2))
    copy = backbone.make_net("other", "copy")
    assert torch.equal(raw(backbone, copy), before)
    assert not any("lora" in name for name in copy.tensors())
    disturb(copy)
    assert torch.equal(raw(backbone, None), before)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["sd", "pixart"])
def test_gradients_reach_the_turns_role_alone(
    build: Build, family: str, checkpointing: bool
) -> None:
    """Switching roles between forwards must not silence a gradient, nor leak one."""
    backbone = build(family, gradient_checkpointing=checkpointing)
    assert getattr(backbone.pipe, backbone.network).is_gradient_checkpointing == checkpointing
    student, fake = backbone.make_net("student", rank=2), backbone.make_net("fake", rank=2)
    disturb(student)
    disturb(fake)

    def turn(net: NetHandle, other: NetHandle) -> list[torch.Tensor]:
        net.requires_grad_(True)
        other.requires_grad_(False)
        with net.active():
            loss = ask(backbone, net).x0.square().mean()
            raw(backbone, other)
            raw(backbone, None)
            loss.backward()
        assert all(p.grad is not None for p in net.parameters())
        assert all(p.grad is None for p in other.parameters())
        grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        for parameter in net.parameters():
            parameter.grad = None
        return grads

    turn(fake, student)
    got = turn(student, fake)
    assert any(g.abs().max() > 0 for g in got)
    network = getattr(backbone.pipe, backbone.network)
    own = {id(p) for net in (student, fake) for p in net.parameters()}
    assert all(p.grad is None for p in network.parameters() if id(p) not in own)
    if checkpointing:
        plain = build(family)
        alone = plain.make_net("student", rank=2)
        alone.load_tensors(student.tensors())
        alone.requires_grad_(True)
        with alone.active():
            ask(plain, alone).x0.square().mean().backward()
        for mine, theirs in zip(got, alone.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs.grad, rtol=1e-3, atol=1e-5)


def test_first_step_moves_b_and_never_the_base(build: Build) -> None:
    """At the start A has no gradient (B is zero), B has; the base stays bit for bit."""
    backbone = build("sd")
    before = raw(backbone, None)
    student = backbone.make_net("student", rank=2)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    with student.active():
        ask(backbone, student).x0.square().mean().backward()
    for name, parameter in student._own.items():
        assert parameter.grad is not None
        assert (float(parameter.grad.abs().max()) == 0.0) == ("lora_A" in name), name
    optimizer.step()
    assert torch.equal(raw(backbone, None), before)
    assert not torch.equal(raw(backbone, student), before)


def test_gradients_flow_through_the_frozen_teacher(build: Build) -> None:
    backbone = build("sd")
    student = backbone.make_net("student", rank=2)
    x = torch.randn(2, *backbone.latent_shape, requires_grad=True)
    t, cond = torch.tensor([500, 20]), backbone.encode(["a", "b"])
    backbone.predict(None, x, t, cond).x0.square().mean().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in student.parameters())
    assert all(p.grad is None for p in backbone.pipe.unet.parameters())


# ---- scalar conditions ------------------------------------------------------------------

VALUES = {
    "embed_scale": torch.tensor([7.5, 2.0]),
    "end_t": torch.tensor([499, -1]),
    "steps_k": torch.tensor([4.0, 1.0]),
}
ALL = ("guidance", "end_t", "steps_k")


@pytest.mark.parametrize("kind", ["lora", "copy"])
def test_conditions_start_as_no_change(loaded: Backbone, kind: Any) -> None:
    net = loaded.make_net("student", kind, conditions=ALL)
    assert net.conditions == ALL
    before = raw(loaded, None)
    assert torch.equal(raw(loaded, net, **VALUES), before)
    assert torch.equal(raw(loaded, None, **VALUES), before)


@pytest.mark.parametrize("name", ALL)
def test_each_condition_learns_and_is_saved(build: Build, name: str) -> None:
    backbone = build("sd")
    net = backbone.make_net("student", rank=2, conditions=(name,))
    mine = {n: p for n, p in net._own.items() if n.startswith("conditions.")}
    with net.active():
        ask(backbone, net, **VALUES).x0.square().mean().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in mine.values())
    disturb(net)
    key = "embed_scale" if name == "guidance" else name
    one = raw(backbone, net, **VALUES)
    assert not torch.equal(one, raw(backbone, net, **{key: VALUES[key].flip(0)}))
    again = backbone.make_net("again", rank=2, conditions=(name,))
    again.load_tensors(net.tensors())
    assert torch.equal(raw(backbone, again, **VALUES), one)


def test_guided_calls_repeat_the_conditions(build: Build) -> None:
    backbone = build("sd")
    net = backbone.make_net("student", rank=2, conditions=("steps_k",))
    disturb(net)
    uncond = backbone.encode_null()
    on, off = raw(backbone, net, **VALUES), None
    got = raw(backbone, net, guidance_scale=2.0, uncond=uncond, **VALUES)
    with torch.no_grad():
        x = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(0))
        off = backbone.predict(net, x, torch.tensor([999, 399]), uncond, **VALUES).raw
    torch.testing.assert_close(got, off + 2.0 * (on - off), rtol=1e-4, atol=1e-4)


def test_averages_include_the_conditions(build: Build) -> None:
    backbone = build("sd")
    net = backbone.make_net("student", rank=2, conditions=("guidance",))
    ema = net.start_ema(0.9)
    disturb(net)
    assert torch.equal(raw(backbone, ema, **VALUES), raw(backbone, None))
    assert not torch.equal(raw(backbone, net, **VALUES), raw(backbone, None))


def test_guidance_is_embedded_as_the_pipelines_do(build: Build) -> None:
    backbone = build("sd")
    w = torch.tensor([6.5, 1.0])
    theirs = backbone.pipe.get_guidance_scale_embedding(w, embedding_dim=256)
    assert theirs.shape == (2, 256)
    torch.testing.assert_close(sinusoids(1000.0 * w), theirs, rtol=0, atol=2e-3)
    net = backbone.make_net("student", "copy", conditions=("guidance",))
    weight = net.tensors()["conditions.guidance.weight"]
    assert weight.shape == (backbone.pipe.unet.time_embedding.linear_1.in_features, 256)
    assert not weight.any()


def test_a_missing_condition_is_an_error(build: Build) -> None:
    backbone = build("sd")
    net = backbone.make_net("student", rank=2, conditions=("guidance",))
    with pytest.raises(NotSupported, match="embed_scale"):
        raw(backbone, net)


@pytest.mark.parametrize(
    ("kind", "opts", "said"),
    [
        ("lora", {"rnk": 4}, "rnk"),
        ("copy", {"rank": 4}, "rank"),
        ("lora", {"conditions": ("speed",)}, "speed"),
        ("half", {}, "half"),
    ],
)
def test_wrong_options_are_refused(build: Build, kind: Any, opts: Any, said: str) -> None:
    with pytest.raises(NotSupported, match=said):
        build("sd").make_net("student", kind, **opts)
