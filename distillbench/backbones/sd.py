"""Stable Diffusion 1.x and 2.x, and any StableDiffusionPipeline of that shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel

from distillbench.api.backbone import Cond
from distillbench.api.fields import SIZE
from distillbench.backbones._fits import equal, text
from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import SD
from distillbench.backbones._pipeline import PipelineBackbone, PipelineConfig, Resolution
from distillbench.backbones._steer_headers import unfit_steer
from distillbench.core.lazy import torch
from distillbench.errors import NotSupported

if TYPE_CHECKING:
    from PIL.Image import Image

    from distillbench.api.nets import NetHandle
    from distillbench.api.steering import Steer
    from distillbench.backbones._steered import Steering

__all__ = ["EmbeddedGuidance", "Sd", "SdConfig", "UnetBackbone"]


class EmbeddedGuidance(PipelineConfig):
    """Attributes:
    guidance_embed: the guidance scale that a UNet with such an embedding (LCM) is told; in the
        usual convention, 1 = none. Such a UNet needs one, others take none.
    """

    guidance_embed: float | None = None


class SdConfig(EmbeddedGuidance):
    """Attributes:
    resolution: side of the images in pixels or [height, width]; None is what the network was
        trained at.
    """

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    resolution: Annotated[Resolution | None, SIZE] = None


class UnetBackbone(PipelineBackbone):
    """A UNet that may be told its guidance scale, and that ControlNets and IP-Adapters steer."""

    _steering: Steering | None = None

    def unfit_steer(self, steer: Steer) -> Sequence[str]:
        """See `Backbone.unfit_steer`."""
        return tuple(unfit_steer(steer, self.network_tensors()))

    def steer(self, net: NetHandle | None, steers: Sequence[Steer]) -> None:
        """See `Backbone.steer`."""
        from distillbench.backbones._steered import Steering

        size = self.image_size()
        assert size is not None
        module = self._net.module if net is None else net.module
        self._steering = Steering(steers, self.pipe, module, size)
        self.controls = self._steering.controls

    def steered(
        self, cond: Cond, uncond: Cond | None, pictures: Sequence[Sequence[Image]]
    ) -> tuple[Cond, Cond | None]:
        """See `Backbone.steered`."""
        assert self._steering is not None
        return self._steering.conditions(cond, uncond, pictures)

    def _forward(
        self,
        module: torch.nn.Module,
        x: torch.Tensor,
        t: torch.Tensor,
        cond: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        if self._steering is None:
            return super()._forward(module, x, t, cond)
        arguments = self._steering.arguments(x, t, cond, self._arguments(x, cond))
        return self._output(module(x, timestep=t, return_dict=False, **arguments)[0])

    @property
    def embeds_guidance(self) -> bool:
        """See `Backbone.embeds_guidance`."""
        return getattr(self.config, "guidance_embed", None) is not None

    def _own_guidance(self, x: torch.Tensor) -> dict[str, Any]:
        """The embedding of `guidance_embed`, in the form of diffusers' pipelines."""
        if not self.embeds_guidance:
            return {}
        from distillbench.backbones._conditions import sinusoids

        config: Any = self.config
        scale = torch.full((len(x),), 1000.0 * (config.guidance_embed - 1), device=x.device)
        dim = self.pipe.unet.config.time_cond_proj_dim
        return {"timestep_cond": sinusoids(scale, dim).to(x.dtype)}

    def make_net(self, name: str, kind: Literal["lora", "copy"] = "lora", **opts: Any) -> NetHandle:
        """See `Backbone.make_net`; a second embedding of the guidance scale is refused."""
        if self.embeds_guidance and "guidance" in opts.get("conditions", ()):
            raise NotSupported(
                f"net {name!r}: the network is told its guidance by guidance_embed already"
            )
        return super().make_net(name, kind, **opts)

    def _own_misfits(self, folder: Folder) -> Iterator[str]:
        yield from self._size_misfits(folder)
        dim = folder.configs["unet"].get("time_cond_proj_dim")
        if dim is not None and not self.embeds_guidance:
            yield (
                f"unet/config.json: time_cond_proj_dim: {dim}: this network is told a guidance "
                "scale; set `guidance_embed` to the one it was distilled for (LCM: 8)"
            )
        if dim is None and self.embeds_guidance:
            yield "guidance_embed: this network is told no guidance scale; leave it out"
        if dim is not None and dim % 2:
            yield f"unet/config.json: time_cond_proj_dim: {dim} must be even"


class Sd(UnetBackbone):
    """UNet with one CLIP text encoder; predicts eps (1.x, 2.x base) or v (2.x)."""

    Config: ClassVar[type[BaseModel]] = SdConfig
    name = "sd"
    pipeline = "StableDiffusionPipeline"
    layout = SD
    published = (4_300_000_000, "CreativeML OpenRAIL-M")
    load_options: ClassVar[Mapping[str, Any]] = {
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip

    def _encode(self, prompts: Sequence[str]) -> Cond:
        tokens = self.pipe.encode_prompt(list(prompts), self.device, 1, False)[0]
        return Cond({"tokens": tokens.float()})

    def _arguments(self, x: torch.Tensor, cond: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return {"encoder_hidden_states": cond["tokens"], **self._own_guidance(x)}

    def _own_misfits(self, folder: Folder) -> Iterator[str]:
        yield from super()._own_misfits(folder)
        yield from text(folder, "text_encoder", "tokenizer")
        yield from equal(
            ("text_encoder hidden_size", folder.configs["text_encoder"]["hidden_size"]),
            ("unet cross_attention_dim", folder.configs["unet"]["cross_attention_dim"]),
        )

    def _shape(self) -> tuple[int, ...]:
        config: Any = self.config
        return self._sized(config.resolution)
