"""Passes without gradient through merged weights: near the adapters, fresh, and without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distillbench.api.backbone import Backbone
from distillbench.api.nets import NetHandle

Build = Callable[..., Any]


def roles(backbone: Any, *, merged: bool, **opts: Any) -> tuple[NetHandle, NetHandle]:
    """A student with an average and a fake score, moved off zero, on `backbone`."""
    backbone.tune(merge_adapters=merged)
    torch.manual_seed(0)
    student, fake = (backbone.make_net(n, "lora", rank=2, **opts) for n in ("student", "fake"))
    student.start_ema(0.5)
    for net in (student, student.ema, fake):
        move(net)
    return student, fake


def move(net: Any, by: float = 0.1) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += by * torch.randn_like(parameter)


def answer(backbone: Backbone, net: NetHandle | None, **told: Any) -> torch.Tensor:
    """What a role says of one fixed input."""
    x = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(1))
    return backbone.predict(
        net, x, torch.tensor([900, 100]), backbone.encode(["red"] * 2), **told
    ).raw


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "pixart", "cogvideox"])
def test_near_the_adapters_in_every_family(build: Build, family: str) -> None:
    backbone = build(family)
    student, fake = roles(backbone, merged=True)
    for net in (student, student.ema, fake):
        with_gradient = answer(backbone, net).detach()
        with torch.no_grad():
            merged = answer(backbone, net)
            teacher = answer(backbone, None)
        torch.testing.assert_close(merged, with_gradient, rtol=1e-3, atol=1e-4)
        assert float((merged - teacher).abs().max()) > 1e-2


def test_passes_with_gradient_and_the_base_stay_bit_for_bit(build: Build) -> None:
    plain, merging = build("sd"), build("sd")
    answers = []
    for backbone, merged in ((plain, False), (merging, True)):
        student, fake = roles(backbone, merged=merged)
        with torch.no_grad():
            for net in (student, student.ema, fake):
                answer(backbone, net)
            teacher = answer(backbone, None)
        with student.active():
            raw = answer(backbone, student)
            with torch.no_grad():
                answer(backbone, fake)  # between a role's forward and its backward
            raw.square().mean().backward()
        answers.append([teacher, raw, *(p.grad for p in student.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("how", ["optimizer", "checkpoint", "average"])
def test_a_change_of_the_role_is_seen(build: Build, how: str) -> None:
    backbone = build("sd")
    student, _ = roles(backbone, merged=True)
    net: Any = student.ema if how == "average" else student
    with torch.no_grad():
        before = answer(backbone, net)
        assert torch.equal(answer(backbone, net), before)
    if how == "optimizer":
        answer(backbone, student).square().mean().backward()
        torch.optim.AdamW(student.parameters(), lr=0.1).step()
    elif how == "checkpoint":
        student.load_tensors({n: v + 0.1 for n, v in student.tensors().items()})
    else:
        student.update_ema()
    with torch.no_grad():
        after = answer(backbone, net)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, answer(backbone, net).detach(), rtol=1e-3, atol=1e-4)


def test_conditions_and_features_are_those_of_the_role(build: Build) -> None:
    backbone = build("sd")
    student, _ = roles(backbone, merged=True, conditions=("guidance",))
    told = {"embed_scale": torch.tensor([3.0, 8.0])}
    with_gradient = answer(backbone, student, **told).detach()
    x, cond = torch.randn(2, *backbone.latent_shape), backbone.encode(["red"] * 2)
    (deep,) = backbone.features(student, x, torch.tensor([500]), cond, ["mid"], **told)
    with torch.no_grad():
        torch.testing.assert_close(
            answer(backbone, student, **told), with_gradient, rtol=1e-3, atol=1e-4
        )
        (merged,) = backbone.features(student, x, torch.tensor([500]), cond, ["mid"], **told)
    torch.testing.assert_close(merged, deep.detach(), rtol=1e-3, atol=1e-4)


def test_full_copies_are_not_merged(build: Build) -> None:
    backbone = build("sd")
    backbone.tune(merge_adapters=True)
    net = backbone.make_net("student", "copy")
    with_gradient = answer(backbone, net).detach()
    with torch.no_grad():
        assert torch.equal(answer(backbone, net), with_gradient)
