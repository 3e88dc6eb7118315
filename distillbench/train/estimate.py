"""How much memory a training takes, reckoned before it starts: its very losses on outlines.

The method's losses run there forward and backward, and what is alive at any moment is added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from distillbench.api.method import Batch, Method
from distillbench.outlines import META, Alive, Kernels, Memory, bytes_of, tensors_of
from distillbench.train.optimizer import MOMENTS, OptimizerKind
from distillbench.train.role import Role, make_role, only

__all__ = ["training_memory"]


def training_memory(
    method: Method, *, precision: str, batch_size: int, optimizer: OptimizerKind = "adamw"
) -> Memory:
    """Reckon the training of a method on its backbone, neither of them loaded yet.

    Args:
        batch_size: samples of a micro-batch.
        optimizer: kind of the roles' optimizers.
    """
    backbone = method.backbone
    backbone.load(META, dtype=precision)
    loaded = bytes_of(tensors_of(backbone))
    method.total_steps = 1000
    with torch.device(META):
        roles = {
            name: make_role(method, name, spec, seed=0, lr_scale=1.0, device=META)
            for name, spec in method.nets().items()
        }
    method.bind({name: role.net for name, role in roles.items()})
    own = [p for role in roles.values() for p in role.parameters]
    means = [p for r in roles.values() if r.net.ema is not None for p in r.net.ema.parameters()]
    most, turn, unknown = 0, "", ""
    for name in dict.fromkeys(method.turns(0)):
        try:
            found = _turn(method, name, roles, batch_size, _tensors(backbone, roles))
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            unknown = f"turn {name}: {' '.join(str(error).split())[:100]}"
            continue
        if found > most:
            most, turn = found, name
    moments = round(MOMENTS[optimizer] * sum(parameter.numel() for parameter in own))
    return Memory(loaded, bytes_of([*own, *means]), moments, most, turn, unknown)


def _turn(
    method: Method, name: str, roles: Mapping[str, Role], size: int, there: Iterable[Tensor]
) -> int:
    role = roles[name]
    only(name, roles.items())
    batch = _batch(method, size)
    tally = Alive(there)
    with Kernels(), tally, role.net.active():
        total: Any = method.loss(name, batch, 0).total
        total.backward()
    for parameter in role.parameters:
        parameter.grad = None
    return tally.peak


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
        module = role.net.module
        found += [*role.parameters, *module.parameters(), *module.buffers()]
    return found
