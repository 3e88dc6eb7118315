"""One trained role: its net, its optimizer, and how an update of it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import torch

from distillbench.api.method import Method, NetSpec, Optim
from distillbench.api.nets import NetHandle, head_handle
from distillbench.core.noise import generator
from distillbench.core.parts import is_dealt, joined, mine
from distillbench.errors import NotSupported
from distillbench.specs.settings import OptimizerKind
from distillbench.train import optimizer, shard, state
from distillbench.train.optimizer import States
from distillbench.train.ranks import Team

__all__ = ["Role", "make_role", "only"]


@dataclass
class Role:
    """A net with its optimizer.

    Attributes:
        net: the trained net.
        optim: its settings, the learning rate scaled by the run's `lr_scale`.
        optimizer: AdamW over `rows`, of whatever kind.
        parameters: of the net.
        rows: the same; of a sharded network, the rows of them that this rank holds.
        updates: updates so far.
    """

    net: NetHandle
    optim: Optim
    optimizer: torch.optim.Optimizer
    parameters: list[torch.nn.Parameter]
    rows: list[torch.nn.Parameter]
    updates: int = 0

    def gather(self, team: Team) -> torch.Tensor:
        """Average the gradients over ranks and clip them; returns whether they are finite."""
        team.average(self.parameters)
        if team.scaler:
            team.scaler.unscale_(self.optimizer)
        norm = shard.clip(self.parameters, self.rows, self.optim.clip_norm or math.inf)
        # A scaler meets infinite gradients in passing: it skips the step and lowers its scale.
        return torch.ones_like(norm, dtype=torch.bool) if team.scaler else norm.isfinite()

    def step(self, team: Team) -> None:
        """Update the weights by the gathered gradients; the scaler is updated by the caller."""
        optimizer.step(self.optimizer, self._rate(), team.scaler)
        for parameter in self.parameters:
            parameter.grad = None
        self.updates += 1
        self.net.update_ema()

    def _rate(self) -> float:
        warmup = self.optim.warmup_steps
        return self.optim.lr * (min(1.0, (self.updates + 1) / warmup) if warmup else 1.0)

    def tensors(self) -> States:
        """Whole weights, average and Adam moments, for a checkpoint; see `NetHandle.tensors`."""
        moments = optimizer.flatten(self.optimizer)
        whole = {
            key: joined(value, like) if is_dealt(like := self._like(key, value)) else value
            for key, value in moments.items()
        }
        parts = {"net": self.net.tensors(), "adam": whole}
        if self.net.ema is not None:
            parts["ema"] = self.net.ema.tensors()
        return {
            f"{self.net.name}/{part}/{key}": value
            for part, values in parts.items()
            for key, value in values.items()
        }

    def start_from(self, tensors: States) -> None:
        """Take another run's weights before the first update; an average starts there too."""
        self.net.load_tensors(tensors)
        if self.net.ema is not None:
            self.net.ema.load_tensors(tensors)

    def load(self, saved: state.Saved) -> None:
        """Continue from a checkpoint."""
        name = self.net.name
        self.net.load_tensors(saved.part(f"{name}/net"))
        if self.net.ema is not None:
            self.net.ema.load_tensors(saved.part(f"{name}/ema"))
        whole = saved.part(f"{name}/adam")
        moments = {key: mine(value, self._like(key, value)) for key, value in whole.items()}
        optimizer.restore(self.optimizer, moments)
        self.updates = saved.state["updates"][name]

    def _like(self, key: str, value: torch.Tensor) -> torch.Tensor:
        """What an optimizer's tensor is dealt out as: its parameter; a counter is itself."""
        return self.parameters[int(key.split("/")[0])] if value.ndim else value


def _sized(method: Method, name: str) -> torch.nn.Module:
    """The module of a head. Raises NotSupported where its sizes wait for a first batch."""
    module = method.make_head(name)
    if any(torch.nn.parameter.is_lazy(p) for p in module.parameters()):
        raise NotSupported(
            f"{method.name}: head {name!r} has layers without sizes (torch's Lazy modules)",
            hint="give them sizes: backbone.latent_shape is that of one latent, without the batch",
        )
    return module


def make_role(
    method: Method, name: str, spec: NetSpec, *, seed: int, lr_scale: float, device: str,
    kind: OptimizerKind = "adamw", deal: Callable[[NetHandle], None] | None = None,
) -> Role:  # fmt: skip
    """Build a role; its random initial weights depend on (seed, name) alone.

    Args:
        deal: deals its network out over ranks, before anything is made of its tensors.
    """
    with torch.random.fork_rng():
        torch.manual_seed(generator(seed, "init", name).initial_seed())
        if spec.kind == "head":
            net = head_handle(name, _sized(method, name).to(device))
        else:
            net = method.backbone.make_net(name, spec.kind, **spec.opts)
            if deal is not None:
                deal(net)
    if spec.ema is not None:
        net.start_ema(spec.ema)
    given, parameters = spec.optim, list(net.parameters())
    optim = Optim(
        given.lr * lr_scale, given.betas, given.weight_decay, given.eps, given.clip_norm,
        given.warmup_steps,
    )  # fmt: skip
    rows = [shard.rows_of(parameter) for parameter in parameters]
    return Role(net, optim, optimizer.make(kind, rows, optim, device), parameters, rows)


def only(trained: Collection[str], roles: Iterable[tuple[str, Role]]) -> None:
    """Let the nets of these roles alone require gradients.

    Explicitly for all of them: a parameter that is frozen when backward runs silently gets none.
    """
    for name, role in roles:
        for parameter in role.parameters:
            parameter.requires_grad_(name in trained)
