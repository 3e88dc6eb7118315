"""Sharded training (torch's fully_shard, FSDP2): each rank keeps its rows of every network.

A block's weights are gathered where it runs, forward and backward, and its gradients are averaged
over ranks as they are dealt out again; optimizer and averages see a rank's rows alone. The teacher
is dealt out too. Adapters, heads and embeddings of conditions are small: each rank has all of them,
and they are averaged as in plain data parallelism.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from distillbench.api.backbone import Backbone
from distillbench.api.nets import NetHandle
from distillbench.api.tuning import repeated
from distillbench.core.parts import is_dealt, part
from distillbench.errors import PluginError
from distillbench.train.ranks import Team

__all__ = ["Shards", "clip", "rows_of"]


class Shards:
    """Deals the networks of a training out over its ranks."""

    def __init__(self, team: Team, backbone: Backbone) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        self._backbone, self._device = backbone, torch.device(team.device)
        self._mesh = init_device_mesh(self._device.type, (team.size,))

    def deal(self, net: NetHandle) -> None:
        """Deal out a role's own network; an adapter's base is dealt out last, without it."""
        if net.module is not self._backbone.frozen:
            net.replace(self._shard(net.module, ()))

    def deal_frozen(self, nets: Iterable[NetHandle]) -> None:
        """Deal out the frozen network once all roles are made of it."""
        if (frozen := self._backbone.frozen) is not None:
            adapters = [p for net in nets if net.module is frozen for p in net.parameters()]
            self._shard(frozen, adapters)

    def _shard(
        self, network: nn.Module, whole: Iterable[nn.Parameter]
    ) -> dict[nn.Parameter, nn.Parameter]:
        """Old parameters -> those in their place."""
        from torch.distributed.fsdp import fully_shard

        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # in channels_last it cannot be dealt out
        before = dict(network.named_parameters())
        for module in (*repeated(network, self._backbone.blocks), network):
            # The outermost would stay gathered, as if its backward were next: a teacher has none.
            fully_shard(
                module, mesh=self._mesh, reshard_after_forward=True, ignored_params=set(whole)
            )
        after = dict(network.named_parameters())
        return {before[name]: after[name] for name in before}

    def keep_in_step(self, name: str) -> None:
        """Have ranks compare each call of a network from now on, before they gather its weights.

        Ranks that call different networks would gather from each other what the other never asked
        for: at best they wait for ever.

        Args:
            name: of the method, for the error.
        """
        # Of a GPU, messages between processors: nothing waits for what it was given to do.
        group = None if self._device.type == "cpu" else dist.new_group(backend="gloo")
        for call in ("predict", "features"):
            inner = getattr(self._backbone, call)
            setattr(self._backbone, call, _in_step(inner, call, name, group))


def _in_step(inner: Callable[..., Any], call: str, name: str, group: Any) -> Callable[..., Any]:
    def checked(net: NetHandle | None, *args: Any, **options: Any) -> Any:
        role = "teacher" if net is None else net.name
        code = zlib.crc32(f"{call} {role} {torch.is_grad_enabled()}".encode())
        least = torch.tensor([code, -code])
        dist.all_reduce(least, dist.ReduceOp.MIN, group=group)
        if least.tolist() != [code, -code]:
            raise PluginError(
                f"{name}: ranks of a sharded training call networks in different orders ({call} of "
                f"{role} here)",
                hint="decide by Batch.shared_randint or Batch.anywhere, or leave out train.shard",
            )
        return inner(net, *args, **options)

    return checked


def rows_of(parameter: nn.Parameter) -> nn.Parameter:
    """What an optimizer of this rank updates: the parameter, or its rows in the same memory."""
    return nn.Parameter(part(parameter)) if is_dealt(parameter) else parameter


def clip(parameters: Sequence[nn.Parameter], rows: Sequence[nn.Parameter], most: float) -> Tensor:
    """Hand the gradients of dealt parameters to their rows, clip all, and return their norm.

    As `torch.nn.utils.clip_grad_norm_` does of whole tensors.

    Args:
        rows: `rows_of` each parameter.
    """
    if not any(map(is_dealt, parameters)):
        return torch.nn.utils.clip_grad_norm_(parameters, most)
    dealt, whole = list[Tensor](), list[Tensor]()
    for parameter, own in zip(parameters, rows, strict=True):
        if parameter.grad is None:
            continue
        if is_dealt(parameter):
            own.grad = part(parameter.grad)
        assert own.grad is not None
        (dealt if is_dealt(parameter) else whole).append(own.grad)
    square = torch.nn.utils.get_total_norm(dealt).to(rows[0].device).double().square()
    dist.all_reduce(square)
    rest = torch.nn.utils.get_total_norm(whole).to(square.device).double().square()
    norm = (square + rest).sqrt().float()
    torch.nn.utils.clip_grads_with_norm_(rows, most, norm)
    return norm
