"""Hidden vectors of the exact world's networks, which discriminators read."""

from __future__ import annotations

import pytest
import torch

from distillbench.backbones.gmm import Gmm, GmmConfig
from distillbench.errors import NotSupported

PROMPTS = [f"condition {k}" for k in range(8)]
X = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
T = torch.arange(8) * 120


@pytest.fixture(scope="module")
def backbone() -> Gmm:
    made = Gmm(GmmConfig())
    made.load()
    return made


def test_the_rest_of_the_network_makes_its_output_of_them(backbone: Gmm) -> None:
    net, cond = backbone.make_net("rest", "copy"), backbone.encode(PROMPTS)
    (hidden,) = backbone.features(net, X, T, cond, ["mid"])
    assert hidden.shape == (8, 64)
    silu, points = torch.nn.functional.silu, net.module
    whole = points(X, T, cond.tensors["label"], {}, 3)
    shifts: list[torch.Tensor] = []
    hook = points.shifts[2].register_forward_hook(lambda m, args, out: shifts.append(out))
    raw = backbone.predict(net, X, T, cond).raw
    hook.remove()
    last = hidden + points.layers[2](silu(hidden + shifts[0]))
    torch.testing.assert_close(last, whole)
    torch.testing.assert_close(points.leave(silu(last)), raw)


def test_the_teachers_are_those_of_a_new_role(backbone: Gmm) -> None:
    cond = backbone.encode(PROMPTS)
    (teacher,) = backbone.features(None, X, T, cond, ["mid"])
    (role,) = backbone.features(backbone.make_net("new", "copy"), X, T, cond, ["mid"])
    assert torch.equal(teacher, role)
    assert not teacher.requires_grad


def test_gradients_reach_input_and_network_up_to_the_middle(backbone: Gmm) -> None:
    net, x = backbone.make_net("graded", "copy"), X.clone().requires_grad_()
    backbone.features(net, x, T, backbone.encode(PROMPTS), ["mid"])[0].square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.any())
    assert net.module.layers[1].weight.grad is not None
    assert net.module.layers[2].weight.grad is None
    assert net.module.leave.weight.grad is None


def test_a_net_with_conditions_needs_them(backbone: Gmm) -> None:
    net, cond = backbone.make_net("told", "copy", conditions=("steps_k",)), backbone.encode(PROMPTS)
    with pytest.raises(NotSupported, match="steps_k"):
        backbone.features(net, X, T, cond, ["mid"])
    with torch.no_grad():
        net.module.extra["steps_k"].weight.fill_(0.1)
    one, four = (
        backbone.features(net, X, T, cond, ["mid"], steps_k=torch.full((8,), k))[0] for k in (1, 4)
    )
    assert not torch.equal(one, four)


def test_there_is_only_a_middle(backbone: Gmm) -> None:
    cond = backbone.encode(PROMPTS)
    with pytest.raises(NotSupported, match="no layer 'top'"):
        backbone.features(None, X, T, cond, ["mid", "top"])
    both = backbone.features(None, X, T, cond, ["mid", "mid"])
    assert torch.equal(*both)
