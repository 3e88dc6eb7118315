"""What a backbone makes of weights that others trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distillbench.core.lazy import torch
from distillbench.core.process import NoiseProcess
from distillbench.errors import NotSupported

if TYPE_CHECKING:
    from distillbench.api.nets import NetHandle
    from distillbench.api.published import Published
    from distillbench.api.steering import Steer

__all__ = ["Adopting"]


class Adopting:
    """The part of `Backbone` that takes published weights; a family that reads none leaves it.

    Attributes:
        own_prediction: what its network puts out, where its files say something else; "" else.
        controls: the ControlNets that steer it; None for none.
    """

    name: str
    num_timesteps: int
    process: NoiseProcess
    prediction_type: str
    own_prediction: str = ""
    controls: torch.nn.Module | None = None

    def network_tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of its network's weights, by their headers; empty where nobody knows."""
        return {}

    def unfit(self, published: Published) -> Sequence[str]:
        """Why such weights cannot be a student here, one line each, by their headers alone."""
        return (f"backbone {self.name} reads no weights of others",)

    def adopt(self, name: str, published: Published) -> tuple[NetHandle, str, dict[str, Any]]:
        """A role that is made of them, with the kind and the options that `make_net` takes for it.

        Called after `load`.

        Raises:
            BadInput: they do not fit this network, or not all of them would be used.
        """
        raise NotSupported(f"backbone {self.name} reads no weights of others")

    def with_pipeline(self, published: Published, guidance_embed: float | None) -> Any:
        """A backbone of the same family that loads a published pipeline in place of its own."""
        raise NotSupported(f"backbone {self.name} reads no weights of others")

    def unfit_steer(self, steer: Steer) -> Sequence[str]:
        """Why a ControlNet or an IP-Adapter cannot steer it, one line each, by their headers."""
        return (f"backbone {self.name} takes no ControlNets and IP-Adapters",)

    def steer(self, net: NetHandle | None, steers: Sequence[Steer]) -> None:
        """Let them steer all further calls; called after `load`, with the net that is sampled."""
        raise NotSupported(f"backbone {self.name} takes no ControlNets and IP-Adapters")

    def prediction_of(self, net: NetHandle | None) -> str:
        """What a network puts out: its own `prediction_type`, or that of published weights."""
        own = net.prediction if net is not None else ""
        return own or self.own_prediction or self.prediction_type

    def process_of(self, net: NetHandle | None) -> NoiseProcess:
        """The noise process of a network: a velocity is learned on straight paths alone."""
        straight = self.prediction_of(net) in ("flow", "velocity")
        if straight and self.process.kind != "flow":
            return NoiseProcess.flow(self.num_timesteps)
        return self.process
