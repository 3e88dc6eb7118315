"""The denoising network of a pipeline with all its roles: one call, features, new roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn

from distillbench.api.backbone import Cond
from distillbench.api.nets import NetHandle
from distillbench.api.tuning import repeated
from distillbench.backbones._conditions import TimeConditions, TimeTap
from distillbench.backbones._layouts import BLOCKS
from distillbench.backbones._lora import SharedBase, patterns
from distillbench.backbones._merged import Merged
from distillbench.backbones._reading import reading
from distillbench.errors import NotSupported

__all__ = ["Network"]

Forward = Callable[[nn.Module, Tensor, Tensor, Mapping[str, Tensor]], Tensor]
DEFAULT_RANK = 64


class Network:
    """A frozen network in the load dtype, shared by adapters, and full copies of it.

    Adapters and the teacher run in the load dtype without autocast, so they agree bit for bit
    while the adapter is zero; adapter weights are float32 and cast where they are used. Full copies
    are float32 and run under autocast, so in half precision they agree with the teacher up to
    rounding.

    Args:
        module: the network, on its device, in its dtype.
        forward: how to call it with (module, x, t, conditions); returns the raw output.
        time_mlp: path of the time embedding's MLP inside `module`.
        targets: layers that get adapters unless a role names others.
        checkpointing: recompute activations in backward.
        image_output: which output of a layer that has several `features` means.
    """

    def __init__(
        self,
        module: nn.Module,
        forward: Forward,
        *,
        time_mlp: str,
        targets: Sequence[str],
        checkpointing: bool = False,
        image_output: int = 0,
    ) -> None:
        self.module, self._forward = module, forward
        first = next(module.parameters())
        self.dtype, self.device = first.dtype, first.device
        self._time_mlp, self._targets, self._checkpointing = time_mlp, targets, checkpointing
        self._image_output = image_output
        self._taps: dict[nn.Module, TimeTap] = {}
        self._compiler = ""
        self._prepare(module)
        self.base = SharedBase(module)
        self._merged: Merged | None = None

    def tune(self, *, merge_adapters: bool, compile: bool, compiler: str = "inductor") -> None:
        """See `Backbone.tune`; `compiler` is a backend of torch.compile."""
        self._merged = Merged(self.base) if merge_adapters else None
        self._compiler = compiler if compile else ""
        self._compile(self.module)

    def _compile(self, module: nn.Module) -> None:
        """Compile the blocks that repeat, each on its own: one network's take a minute, not ten."""
        if not self._compiler:
            return
        # One block serves all levels, roles and both kinds of passes: 8 would not do.
        torch._dynamo.config.recompile_limit = 64
        for block in repeated(module, BLOCKS):
            block.compile(backend=self._compiler)

    def _prepare(self, module: nn.Module) -> None:
        if isinstance(module, UNet2DConditionModel):
            module.to(memory_format=torch.channels_last)
        if self._checkpointing:
            module.enable_gradient_checkpointing()  # type: ignore[operator]
        self._taps[module] = TimeTap(module.get_submodule(self._time_mlp))
        self._compile(module)

    # ---- calls --------------------------------------------------------------------------

    def raw(
        self,
        net: NetHandle | None,
        x: Tensor,
        t: Tensor,
        cond: Cond,
        values: Mapping[str, Tensor | None],
    ) -> Tensor:
        """The network's output at (x, t), float32, in one forward."""
        module = self.module if net is None else net.module
        named = {n: v.to(self.dtype) if v.is_floating_point() else v
                 for n, v in cond.tensors.items()}  # fmt: skip
        with self._acting(net), self._carrying(net, values), self._precision(module):
            output = self._forward(module, x.to(self.dtype), t.expand(len(x)), named)
        return output.to(x.dtype)

    def features(
        self,
        net: NetHandle | None,
        x: Tensor,
        t: Tensor,
        cond: Cond,
        layers: Sequence[str],
        values: Mapping[str, Tensor | None],
    ) -> list[Tensor]:
        """Outputs of the layers at these paths, in that order; stops after the last of them.

        Raises:
            NotSupported: there is no such layer.
        """
        module = self.module if net is None else net.module
        with reading(module, layers, self._image_output) as found:
            self.raw(net, x, t, cond, values)
        return [found[name].float() for name in layers]

    def _acting(self, net: NetHandle | None) -> AbstractContextManager[None]:
        if net is None:
            return self.base.slot.acting(None)
        if self._merged and net.module is self.module and not torch.is_grad_enabled():
            return self._merged.acting(net)
        return net.active()

    def _carrying(
        self, net: NetHandle | None, values: Mapping[str, Tensor | None]
    ) -> AbstractContextManager[None]:
        tap = self._taps[self.module if net is None else net.module]
        if net is None or net.extras is None:
            return tap.carrying(0, 0)
        assert isinstance(net.extras, TimeConditions)
        with net.active():  # an averaged role has averaged embeddings
            return tap.carrying(*net.extras.signals(net.name, values))

    def _precision(self, module: nn.Module) -> AbstractContextManager[Any]:
        if self.device.type == "meta":
            return nullcontext()
        half = module is not self.module and self.dtype != torch.float32
        # The weight cache would hand one role's cast weights to another.
        return torch.autocast(self.device.type, self.dtype if half else torch.bfloat16,
                              enabled=half, cache_enabled=False)  # fmt: skip

    # ---- roles --------------------------------------------------------------------------

    def make(self, name: str, kind: str, opts: Mapping[str, Any]) -> NetHandle:
        """A role of `kind` "lora" or "copy"; see `Backbone.make_net`.

        Raises:
            NotSupported: unknown kind or option.
        """
        allowed = {
            "lora": {"rank", "alpha", "target_modules", "conditions", "layers", "prediction"},
            "copy": {"conditions", "prediction"},
        }
        if kind not in allowed:
            raise NotSupported(f"net kind {kind!r}; allowed: {', '.join(allowed)}")
        if unknown := sorted(opts.keys() - allowed[kind]):
            known = ", ".join(sorted(allowed[kind]))
            raise NotSupported(
                f"net {name!r}: no option {unknown[0]!r} for {kind}; allowed: {known}"
            )
        net = self._made(name, kind, opts)
        net.prediction = str(opts.get("prediction", ""))
        return net

    def _made(self, name: str, kind: str, opts: Mapping[str, Any]) -> NetHandle:
        conditions = tuple(opts.get("conditions", ()))
        extras = self._extras(conditions)
        if kind == "copy":
            return self._copy(name, conditions, extras)
        if layers := opts.get("layers"):
            return self.base.add_as(name, LoraConfig(**patterns(layers)), conditions, extras)
        rank = int(opts.get("rank", DEFAULT_RANK))
        return self.base.add(
            name, rank=rank, alpha=float(opts.get("alpha", rank)), conditions=conditions,
            targets=tuple(opts.get("target_modules") or self._targets), extras=extras,
        )  # fmt: skip

    def replace_teacher(self, net: NetHandle) -> None:
        """Make a role's weights those of the frozen network; see `Backbone.replace_teacher`."""
        if net.module is self.module:
            self.base.merge(net.name)
        else:
            _load_base(self.module, net.module.state_dict())
            del self._taps[net.module]  # nobody calls the copy again: let its memory go

    def _extras(self, conditions: tuple[str, ...]) -> TimeConditions | None:
        if not conditions:
            return None
        tap = self._taps[self.module]
        return TimeConditions(conditions, tap.inside, tap.outside).to(self.device)

    def _copy(
        self, name: str, conditions: tuple[str, ...], extras: TimeConditions | None
    ) -> NetHandle:
        module = self._another()
        module.to(self.device).eval()
        self._prepare(module)
        own = dict(module.named_parameters())
        if extras is not None:
            own |= {f"conditions.{n}": p for n, p in extras.named_parameters()}
        return NetHandle(name, module, parameters=own, conditions=conditions, extras=extras)

    def _another(self) -> nn.Module:
        """The network again; an outline is in the dtype that autocast would compute in."""
        kind: Any = type(self.module)
        if self.device.type == "meta":
            with self.device:
                outline: nn.Module = kind.from_config(self.module.config)
            return nn.Module.to(outline, self.dtype)
        module: nn.Module = kind.from_config(self.module.config)
        module.load_state_dict(base_weights(self.module))
        return module


def base_weights(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a network without its adapters, under the names it had before them."""
    return {
        name.replace(".base_layer.", "."): value
        for name, value in module.state_dict().items()
        if ".lora_A." not in name and ".lora_B." not in name
    }


def _load_base(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill the network below its adapters, in its own dtype."""
    for name, value in module.state_dict().items():
        plain = name.replace(".base_layer.", ".")
        if plain in weights:
            value.copy_(weights[plain])
