"""Handles: which role is active, state in and out, averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distillbench.api.nets import NetHandle, head_handle
from distillbench.backbones._lora import SharedBase
from distillbench.errors import ArtifactError, NotSupported

X = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).float()


def base() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def adapters(*names: str) -> tuple[SharedBase, list[NetHandle]]:
    shared = SharedBase(base())
    nets = [shared.add(n, rank=2, alpha=2.0, targets=("0", "2")) for n in names]
    for net in nets:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.normal_()
    return shared, nets


def output(net: NetHandle) -> torch.Tensor:
    with net.active(), torch.no_grad():
        return net.module(X)


def test_roles_do_not_mix_however_nested() -> None:
    shared, (student, fake) = adapters("student", "fake")
    plain, one, two = base()(X), output(student), output(fake)
    assert not torch.equal(one, two)
    assert torch.equal(shared.module(X), plain)
    with student.active():
        assert torch.equal(output(fake), two)
        with shared.slot.acting(None):
            assert torch.equal(shared.module(X), plain)
            assert torch.equal(output(student), one)
            assert torch.equal(shared.module(X), plain)
        with student.active():
            pass
        assert torch.equal(shared.module(X), one)
    assert torch.equal(shared.module(X), plain)


def test_a_role_is_left_when_its_body_raises() -> None:
    shared, (student,) = adapters("student")
    with pytest.raises(RuntimeError), student.active():
        raise RuntimeError
    assert torch.equal(shared.module(X), base()(X))


def test_switching_leaves_requires_grad_alone() -> None:
    _, (student, fake) = adapters("student", "fake")
    student.requires_grad_(True)
    fake.requires_grad_(False)
    output(fake)
    output(student)
    assert all(p.requires_grad for p in student.parameters())
    assert not any(p.requires_grad for p in fake.parameters())


def test_adding_a_role_leaves_the_others_as_they_are() -> None:
    shared, (student,) = adapters("student")
    before = output(student)
    student.requires_grad_(True)
    with student.active():
        shared.add("fake", rank=2, alpha=2.0, targets=("0",))
        assert torch.equal(shared.module(X), before)
    assert all(p.requires_grad for p in student.parameters())


def test_alpha_over_rank_scales_the_adapter() -> None:
    shared = SharedBase(base())
    net = shared.add("student", rank=2, alpha=8.0, targets=("0",))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    down, up = net.parameters()
    plain = base()
    with torch.no_grad():
        expected = plain[2](plain[1](plain[0](X) + 4.0 * X @ down.T @ up.T))
    torch.testing.assert_close(output(net), expected)


@pytest.mark.parametrize(("name", "targets"), [("student", ("0",)), ("new", ("no_such",))])
def test_wrong_roles_are_refused(name: str, targets: tuple[str, ...]) -> None:
    shared, _ = adapters("student")
    with pytest.raises(NotSupported, match=r"student|no_such"):
        shared.add(name, rank=2, alpha=2.0, targets=targets)


# ---- state ------------------------------------------------------------------------------


def test_state_holds_the_adapter_alone_and_restores_it() -> None:
    _, (student, fake) = adapters("student", "fake")
    saved, before = student.tensors(), output(student)
    assert sorted(saved) == [f"{i}.lora_{f}.weight" for i in (0, 2) for f in "AB"]
    fake.load_tensors(saved)
    assert torch.equal(output(fake), before)
    with torch.no_grad():
        student.parameters()[0].zero_()
    assert not torch.equal(output(student), before)
    student.load_tensors(saved)
    assert torch.equal(output(student), before)


@pytest.mark.parametrize("spoil", ["missing", "unknown", "shape"])
def test_wrong_state_is_refused_and_changes_nothing(spoil: str) -> None:
    _, (student,) = adapters("student")
    tensors, before = student.tensors(), output(student)
    tensors = {n: torch.zeros_like(v) for n, v in tensors.items()}
    if spoil == "missing":
        del tensors["0.lora_A.weight"]
    elif spoil == "unknown":
        tensors["5.weight"] = torch.zeros(1)
    else:
        tensors["0.lora_A.weight"] = torch.zeros(3, 4)
    with pytest.raises(ArtifactError, match="weights of net 'student'"):
        student.load_tensors(tensors)
    assert torch.equal(output(student), before)


def test_tensors_are_a_copy() -> None:
    head = head_handle("disc", nn.Linear(2, 1))
    saved = head.tensors()
    with torch.no_grad():
        head.module.weight.add_(1.0)
    assert not torch.equal(saved["weight"], head.module.weight)


# ---- average ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adapter", "whole"])
def test_ema_of_a_constant_closes_in_by_its_decay(kind: str) -> None:
    """Consistency models' mu = .95: the distance after n updates is .95^n."""
    net = adapters("student")[1][0] if kind == "adapter" else head_handle("head", base())
    ema = net.start_ema(0.95)
    assert net.ema is ema
    start = [p.detach().clone() for p in net.parameters()]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    for _ in range(20):
        net.update_ema()
    for before, mean in zip(start, ema.parameters(), strict=True):
        torch.testing.assert_close(mean, before + 1.0 - 0.95**20, rtol=1e-5, atol=1e-5)
        assert not mean.requires_grad


def test_ema_acts_with_its_own_tensors_and_saves_them() -> None:
    shared, (student,) = adapters("student")
    ema, first = student.start_ema(0.5), output(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(2.0)
    live = output(student)
    assert torch.equal(output(ema), first)
    assert torch.equal(output(student), live)
    with ema.active():
        assert torch.equal(output(student), live)
        assert torch.equal(shared.module(X), first)
    student.load_tensors(ema.tensors())
    assert torch.equal(output(student), first)


def test_ema_between_forward_and_backward_leaves_the_gradient() -> None:
    def gradient(look: bool) -> list[torch.Tensor]:
        _, (student,) = adapters("student")
        ema = student.start_ema(0.5)
        with torch.no_grad():
            for parameter in ema.parameters():
                parameter.zero_()
        student.requires_grad_(True)
        with student.active():
            loss = student.module(X).square().mean()
            if look:
                loss = loss + 0 * output(ema).mean()
            loss.backward()
        return [p.grad for p in student.parameters() if p.grad is not None]

    for seen, plain in zip(gradient(True), gradient(False), strict=True):
        assert torch.equal(seen, plain)


def test_ema_is_float32_beside_half_weights() -> None:
    net = head_handle("head", nn.Linear(2, 2).bfloat16())
    ema = net.start_ema(0.999)
    with torch.no_grad():
        net.module.weight.add_(1.0)
    net.update_ema()
    assert {p.dtype for p in ema.parameters()} == {torch.float32}
    with ema.active():
        assert net.module.weight.dtype == torch.bfloat16
