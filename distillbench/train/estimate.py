"""How much memory a training takes, reckoned before it starts: its very losses on outlines.

The method's losses run there forward and backward, and what is alive at any moment is added up.
Of a sharded training it is what one rank holds, with what it gathers: of the network that runs, the
weights beside its blocks and two blocks, and where it is trained as much of gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from distillbench.api.backbone import Backbone
from distillbench.api.method import Batch, Method
from distillbench.api.tuning import repeated
from distillbench.outlines import META, Alive, Memory, bytes_of, kernels, tensors_of
from distillbench.specs.settings import MOMENTS, OptimizerKind
from distillbench.train.role import Role, make_role, only

__all__ = ["training_memory"]

FLOAT32 = 4
"""Bytes of a number of what is trained."""


def training_memory(
    method: Method, *, precision: str, batch_size: int, optimizer: OptimizerKind = "adamw",
    ranks: int = 1,
) -> Memory:  # fmt: skip
    """Reckon the training of a method on its backbone, neither of them loaded yet.

    Args:
        batch_size: samples of a micro-batch.
        optimizer: kind of the roles' optimizers.
        ranks: how many share each network; 1 for a training that is not sharded.
    """
    backbone = method.backbone
    backbone.load(META, dtype=precision)
    frozen = backbone.frozen if ranks > 1 else None
    teacher = bytes_of(frozen.parameters()) if frozen is not None else 0
    loaded = bytes_of(tensors_of(backbone)) - teacher + teacher // ranks
    least = _gathered(frozen, backbone) if frozen is not None else 0
    method.total_steps = 1000
    with torch.device(META):
        roles = {
            name: make_role(method, name, spec, seed=0, lr_scale=1.0, device=META)
            for name, spec in method.nets().items()
        }
    method.bind({name: role.net for name, role in roles.items()})
    shares = {name: _share(method, role, ranks) for name, role in roles.items()}
    most, turn, unknown = 0, "", ""
    for name in dict.fromkeys(method.turns(0)):
        try:
            found = _turn(method, name, roles, batch_size, shares, least)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            unknown = f"turn {name}: {' '.join(str(error).split())[:100]}"
            continue
        if found > most:
            most, turn = found, name
    numbers = {name: _numbers(role) / shares[name] for name, role in roles.items()}
    averaged = [n for name, n in numbers.items() if roles[name].net.ema is not None]
    trained = round(FLOAT32 * sum([*numbers.values(), *averaged]))
    moments = round(MOMENTS[optimizer] * sum(numbers.values()))
    return Memory(loaded, trained, moments, most, turn, unknown)


def _share(method: Method, role: Role, ranks: int) -> int:
    """How many ranks share a role's network: adapters and heads are small, and each has them."""
    head = method.nets()[role.net.name].kind == "head"
    return 1 if head or role.net.module is method.backbone.frozen else ranks


def _numbers(role: Role) -> int:
    return sum(parameter.numel() for parameter in role.parameters)


def _turn(
    method: Method, name: str, roles: Mapping[str, Role], size: int, shares: Mapping[str, int],
    least: int,
) -> int:  # fmt: skip
    """Most bytes alive at once in a turn, of which at least so many are gathered of a network."""
    trained = {role: roles[role] for role in method.trains(name)}
    only(trained, roles.items())
    batch = _batch(method, size)
    sharded = [p for n, role in trained.items() if shares[n] > 1 for p in role.parameters]
    hooks = [
        p.register_post_accumulate_grad_hook(_deal_out)  # type: ignore[no-untyped-call]
        for p in sharded
    ]
    tally = Alive(_tensors(method.backbone, roles))
    with kernels(), tally, roles[name].net.active():
        total: Any = method.loss(name, batch, 0).total
        total.backward()
    for hook in hooks:
        hook.remove()
    for role in trained.values():
        for parameter in role.parameters:
            parameter.grad = None
    lacks = sum(_uncounted(method, role, shares[n]) for n, role in trained.items())
    for name, role in roles.items():
        if shares[name] > 1:
            times = 2 if name in trained else 1
            least = max(least, times * _gathered(role.net.module, method.backbone, FLOAT32))
    return tally.peak + lacks + least


def _deal_out(parameter: Tensor) -> None:
    parameter.grad = None


def _uncounted(method: Method, role: Role, share: int) -> int:
    """Bytes of a trained role that its outline does not show.

    An outline has the dtype that autocast computes in; weights and gradients are float32 really,
    and every cast weight waits for backward, except where that computes it anew.
    """
    below = sum((FLOAT32 - p.element_size()) * p.numel() for p in role.parameters)
    if share == 1:
        return below
    anew = getattr(method.backbone.config, "gradient_checkpointing", False)
    return FLOAT32 * _numbers(role) // share + (0 if anew else below)


def _gathered(network: nn.Module, backbone: Backbone, each: int | None = None) -> int:
    """Bytes that a rank gathers of a network at once: all but blocks, the largest block twice.

    Args:
        each: of a number; None is that of the network's dtype.
    """
    size = each or next(network.parameters()).element_size()
    blocks = [sum(p.numel() for p in b.parameters()) for b in repeated(network, backbone.blocks)]
    outside = sum(p.numel() for p in network.parameters()) - sum(blocks)
    return size * (outside + 2 * max(blocks, default=0))


def _batch(method: Method, size: int) -> Batch:
    backbone = method.backbone
    with torch.no_grad():
        cond, uncond = backbone.encode([""] * size), backbone.encode_null()
    latents = torch.empty((size, *backbone.latent_shape), device=META)
    return Batch(
        [""] * size, cond, uncond, latents if "latents" in method.needs else None,
        backbone.latent_shape, (0, 0), device=META,
    )  # fmt: skip


def _tensors(backbone: Any, roles: Mapping[str, Role]) -> list[Tensor]:
    found = tensors_of(backbone)
    for role in roles.values():
        module, average = role.net.module, role.net.ema
        found += [*role.parameters, *module.parameters(), *module.buffers()]
        found += average.parameters() if average is not None else ()
    return found
