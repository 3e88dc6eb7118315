"""Compiled blocks compute as plain ones, whichever role a shared base plays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch


def losses(backbone: Any, compiler: str, kind: str) -> list[torch.Tensor]:
    """Answers of teacher and roles, and a gradient, in the order of a training step."""
    if compiler:
        backbone._net.tune(merge_adapters=False, compile=True, compiler=compiler)
    torch.manual_seed(0)
    nets = [backbone.make_net(name, kind) for name in ("student", "fake")]
    with torch.no_grad():
        for net in nets:
            for parameter in net.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    x = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(1))
    t, cond = torch.tensor([900, 100]), backbone.encode(["red", "blue"])
    found = []
    with torch.no_grad():
        found += [backbone.predict(net, x, t, cond).raw for net in (None, *nets)]
    with nets[0].active():
        raw = backbone.predict(nets[0], x, t, cond).raw
        with torch.no_grad():
            found.append(backbone.predict(None, x, t, cond).raw)
        raw.square().mean().backward()
    found += [p.grad for p in nets[0].parameters() if p.grad is not None]
    found += backbone.features(nets[1], x, t, cond, ["mid"])
    return [value.detach() for value in found]


@pytest.mark.parametrize("kind", ["lora", "copy"])
def test_roles_are_told_apart(build: Callable[..., Any], kind: str) -> None:
    """The eager backend traces and guards as all do, and computes the very same."""
    plain, traced = (losses(build("sd"), compiler, kind) for compiler in ("", "eager"))
    assert len(plain) == len(traced)
    assert all(torch.equal(a, b) for a, b in zip(plain, traced, strict=True))
    assert not torch.equal(plain[0], plain[1])
