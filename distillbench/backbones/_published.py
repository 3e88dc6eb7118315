"""Weights that others trained, as students of a diffusers pipeline; `adopt` imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distillbench.api.backbone import Backbone
from distillbench.api.published import Published
from distillbench.backbones import _headers
from distillbench.backbones._checked import CheckedBackbone
from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import BLOCKS
from distillbench.backbones._on_disk import local_folder
from distillbench.errors import DistillbenchError
from distillbench.files.weight_files import Tensors

if TYPE_CHECKING:
    from torch import nn

    from distillbench.api.nets import NetHandle

__all__ = ["PublishedWeights"]


class PublishedWeights(CheckedBackbone):
    """Reads them; `pipe` is the loaded pipeline."""

    blocks = BLOCKS
    pipe: Any

    @property
    def frozen(self) -> nn.Module:
        """See `Backbone.frozen`: the pipeline's network, which adapters are in."""
        network: nn.Module = getattr(self.pipe, self.network)
        return network

    def unfit(self, published: Published) -> Sequence[str]:
        """See `Backbone.unfit`; the network's own headers are looked at where they are there."""
        return tuple(_headers.unfit(published, self.network_tensors()))

    def network_tensors(self) -> Tensors:
        """See `Backbone.network_tensors`."""
        try:
            path = local_folder(self.source())
        except DistillbenchError:
            path = None
        folder = self._read(path)[0] if path is not None else Folder()
        return folder.tensors.get(self.network, {})

    def adopt(self, name: str, published: Published) -> tuple[NetHandle, str, dict[str, Any]]:
        """See `Backbone.adopt`."""
        from distillbench.backbones._adopt import read_adapter, read_network

        if published.kind == "lora":
            read = read_adapter(published, self.pipe, self.network)
        else:
            read = read_network(published, getattr(self.pipe, self.network))
        opts = {**read.opts, "prediction": published.prediction}
        net = self.make_net(name, read.kind, **opts)  # type: ignore[arg-type]
        net.load_tensors(read.tensors)
        return net, read.kind, opts

    def with_pipeline(self, published: Published, guidance_embed: float | None) -> Backbone:
        """See `Backbone.with_pipeline`; size and text length stay as they are here."""
        config: Any = self.config
        place = published.path
        where = {"model": published.repository if place is None else str(place),
                 "revision": published.revision if place is None else "",
                 "variant": published.variant}  # fmt: skip
        embed = {} if guidance_embed is None else {"guidance_embed": guidance_embed}
        made = type(self)(type(config)(**{**config.model_dump(), **where, **embed}))
        made.name, made.own_prediction = self.name, published.prediction
        return made
