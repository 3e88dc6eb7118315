"""Handles on trainable networks: which role a module plays now, its own tensors, its average.

Several roles may live in ONE module (adapters on a shared frozen base, or a net and its average).
A `Slot` knows which of them the module is at the moment; entering a role's `active()` leaves the
previous role and comes back to it, so nested use and the teacher in between are safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from distillbench.core.lazy import torch
from distillbench.core.parts import is_dealt, joined, part, put
from distillbench.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["NetHandle", "Slot", "head_handle"]

Activate = Callable[[], AbstractContextManager[Any]]


class Slot:
    """Which role a module acts as; None is its plain self, the teacher of a shared base."""

    def __init__(self) -> None:
        self._role: NetHandle | None = None
        self._inside: AbstractContextManager[Any] = nullcontext()

    @contextmanager
    def acting(self, role: NetHandle | None) -> Iterator[None]:
        """Act as `role`, and as whatever was before afterwards; roles never stack up."""
        previous = self._role
        if role is previous:
            yield
            return
        self._switch(role)
        try:
            yield
        finally:
            self._switch(previous)

    def _switch(self, role: NetHandle | None) -> None:
        self._inside.__exit__(None, None, None)
        self._role, self._inside = role, nullcontext()
        if role is not None:
            inside = role.activate()
            inside.__enter__()
            self._inside = inside


class NetHandle:
    """One trainable role.

    Args:
        name: of the role, unique within a run.
        module: the network to call inside `active()`.
        parameters: the role's own trainable tensors by name; default: all of `module`.
        conditions: scalar inputs it takes beside time: "guidance", "end_t", "steps_k".
        activate: context in which `module` acts as this role; default: it always does.
        slot: shared by all roles that live in `module`; default: one of its own.
        extras: modules of this role that are not inside `module` (its conditions' embeddings).

    Attributes:
        ema: the role with averaged tensors, None unless `start_ema` was called.
        prediction: what it puts out where that is not what its backbone does; "" else.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        *,
        parameters: Mapping[str, nn.Parameter] | None = None,
        conditions: tuple[str, ...] = (),
        activate: Activate = nullcontext,
        slot: Slot | None = None,
        extras: nn.Module | None = None,
    ) -> None:
        own = dict(module.named_parameters()) if parameters is None else dict(parameters)
        self.name, self.module, self.conditions = name, module, conditions
        self.activate, self.slot, self.extras = activate, slot or Slot(), extras
        self.ema: NetHandle | None = None
        self.prediction = ""
        self._own, self._decay = own, 0.0

    def active(self) -> AbstractContextManager[None]:
        """Context in which `module` is this role; may be nested in any role's, even its own.

        Run backward inside it too: checkpointed layers run their forward again there.
        """
        return self.slot.acting(self)

    def parameters(self) -> list[nn.Parameter]:
        """The trainable tensors, in a fixed order."""
        return list(self._own.values())

    def named(self) -> dict[str, nn.Parameter]:
        """The trainable tensors by name; of a sharded network, each a process's rows of it."""
        return dict(self._own)

    def replace(self, made: Mapping[nn.Parameter, nn.Parameter]) -> None:
        """Take others in place of some trainable tensors; before an average is started."""
        self._own = {name: made.get(p, p) for name, p in self._own.items()}

    def requires_grad_(self, flag: bool) -> NetHandle:
        """Let the role's own tensors require gradients or not; switching roles never does."""
        for parameter in self._own.values():
            parameter.requires_grad_(flag)
        return self

    # ---- state --------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """A CPU copy of the trainable tensors by name; nothing of a frozen base is in it.

        Of a sharded network all ranks ask for it, and it is rank 0 that gets them.
        """
        return {name: joined(part(p.detach()), p) for name, p in self._own.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave, or what another's `named` gives.

        Raises:
            ArtifactError: a name is missing or unknown, or a shape differs.
        """
        missing, unknown = self._own.keys() - tensors.keys(), tensors.keys() - self._own.keys()
        differ = [
            f"{n} is {tuple(tensors[n].shape)}, not {tuple(p.shape)}"
            for n, p in self._own.items()
            if n in tensors and tensors[n].shape != p.shape
        ]
        for what, names in (("lack", missing), ("do not know", unknown), ("differ in", differ)):
            if names:
                first, more = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise ArtifactError(
                    f"weights of net {self.name!r} {what} {first}{more}",
                    hint="they were made with other settings of the net",
                )
        for name, parameter in self._own.items():
            put(parameter, tensors[name])

    # ---- average ------------------------------------------------------------------------

    def start_ema(self, decay: float) -> NetHandle:
        """Keep an exponential moving average of the trainable tensors, float32, as `ema`.

        It is a role of its own in the same module: its tensors take the place of this role's while
        it is active, so an averaged adapter costs no second network. Averaging the two factors of
        an adapter is not averaging their product; the difference is second order.
        """
        averages = {name: p.detach().float().clone() for name, p in self._own.items()}
        mean = {name: torch.nn.Parameter(value, False) for name, value in averages.items()}
        self._decay = decay
        self.ema = NetHandle(
            f"{self.name}_ema",
            self.module,
            parameters=mean,
            conditions=self.conditions,
            activate=lambda: self._as_ema(mean),
            slot=self.slot,
            extras=self.extras,
        )
        return self.ema

    def update_ema(self) -> None:
        """ema <- decay ema + (1 - decay) net; nothing where no average is kept."""
        if self.ema is None:
            return
        new = [part(p.detach()).float() for p in self._own.values()]
        mean = [part(p) for p in self.ema.parameters()]
        with torch.no_grad():
            torch._foreach_lerp_(mean, new, 1.0 - self._decay)

    @contextmanager
    def _as_ema(self, mean: Mapping[str, nn.Parameter]) -> Iterator[None]:
        dealt = {name: p for name, p in self._own.items() if is_dealt(p)}
        live = {name: p.data for name, p in self._own.items() if name not in dealt}
        # FSDP2 gathers from memory of its own: there rows are exchanged, not tensors.
        rows = {name: part(p).clone() for name, p in dealt.items()}
        with self.activate():
            for name, value in live.items():
                self._own[name].data = mean[name].data.to(value.dtype)
            for name, parameter in dealt.items():
                put(parameter, mean[name])
            try:
                yield
            finally:
                for name, value in live.items():
                    self._own[name].data = value
                for name, parameter in dealt.items():
                    part(parameter).copy_(rows[name])


def head_handle(name: str, module: nn.Module) -> NetHandle:
    """A handle on a free-standing module, such as a discriminator head."""
    return NetHandle(name, module)
