"""What all families share whose teacher is a diffusers pipeline; torch is imported by `load`."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from distillbench.api.backbone import Cond, Prediction
from distillbench.api.fields import NEUTRAL, split
from distillbench.backbones._layouts import UNET_LAYERS
from distillbench.backbones._published import PublishedWeights
from distillbench.core.lazy import torch
from distillbench.core.parameterization import guided, x0_eps
from distillbench.errors import BadInput, NotSupported, StageFailed
from distillbench.finite import require_finite

if TYPE_CHECKING:
    from distillbench.api.nets import NetHandle
    from distillbench.backbones._diffusers import ImageCodec, VideoCodec
    from distillbench.backbones._network import Network

__all__ = ["NetworkConfig", "PipelineBackbone", "PipelineConfig", "Resolution"]

Resolution = PositiveInt | tuple[PositiveInt, PositiveInt]
"""Side of square images in pixels, or [height, width]."""


class NetworkConfig(BaseModel):
    """How the network is run.

    Attributes:
        gradient_checkpointing: recompute activations in backward: less memory, a third more time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gradient_checkpointing: Annotated[bool, NEUTRAL] = False


class PipelineConfig(NetworkConfig):
    """Which weights, beside how they are run.

    Attributes:
        model: a folder in diffusers format, or a hub repository "owner/name".
        revision: branch, tag or (better) commit of the repository.
        variant: of the weight files, such as fp16; "" is the plain files, or the only ones.
    """

    model: Annotated[str, NEUTRAL]
    revision: Annotated[str, NEUTRAL] = ""
    variant: Annotated[str, NEUTRAL] = ""


class PipelineBackbone(PublishedWeights):
    """Base of the families; a family says how prompts and the network's arguments are made.

    Attributes:
        pipeline: class name of the pipeline in diffusers.
        time_mlp: path of the time embedding's MLP in that part.
        targets: layers that get adapters by default.
        middle: path of the layer that `features` calls "mid".
        image_output: which of a layer's outputs is the image, where layers have several.
    """

    pipeline: ClassVar[str]
    time_mlp: ClassVar[str] = "time_embedding"
    targets: ClassVar[tuple[str, ...]] = UNET_LAYERS
    image_output: ClassVar[int] = 0

    pipe: Any
    codec: ImageCodec | VideoCodec

    # ---- what a family says ---------------------------------------------------------------

    @abstractmethod
    def _encode(self, prompts: Sequence[str]) -> Cond:
        """Conditions from the pipeline's own text encoders."""

    @abstractmethod
    def _arguments(self, x: torch.Tensor, cond: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Keyword arguments of the network beside input and time."""

    @abstractmethod
    def _shape(self) -> tuple[int, ...]:
        """Shape of one latent."""

    def call_arguments(self) -> dict[str, Any]:
        """What the pipeline's call needs, beside prompt and sampler, to draw as this backbone."""
        height, width = (side * self.pipe.vae_scale_factor for side in self.latent_shape[-2:])
        return {"height": height, "width": width, "negative_prompt": None}

    def _output(self, raw: torch.Tensor) -> torch.Tensor:
        return raw

    def _middle(self) -> str:
        return "mid_block"

    def _as_map(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    # ---- Backbone ---------------------------------------------------------------------------

    def revision(self) -> str:
        """Content hash of a folder, a pinned commit, or "unpinned:..."."""
        return self.source().revision(unused=self.load_options)

    def load(self, device: str = "cpu", *, dtype: str = "float32") -> None:
        """Read the pipeline; its VAE stays float32."""
        from distillbench.backbones._diffusers import load_pipeline, process_of
        from distillbench.backbones._network import Network
        from distillbench.backbones._resting import Resting
        from distillbench.backbones._text import TextCache

        self.device = device
        self.pipe = load_pipeline(
            self.pipeline, self.source(), device, getattr(torch, dtype), self.load_options,
            layout=self.layout, variant=getattr(self.config, "variant", ""), check=self.checked,
        )  # fmt: skip
        scheduler = self.pipe.scheduler.config
        self.process = process_of(scheduler)
        self.num_timesteps = self.process.num_timesteps
        flow = self.process_kind == "flow"
        if self.process.kind != self.process_kind:
            raise BadInput(
                f"backbone {self.name}: the scheduler of {self.source()} is of a "
                f"{self.process.kind} process, these networks are trained on {self.process_kind}"
            )
        self.prediction_type = "flow" if flow else scheduler.get("prediction_type", "epsilon")
        self.codec, self.latent_shape = self._codec(), self._shape()
        config: Any = self.config
        self._net: Network = Network(
            getattr(self.pipe, self.network), self._forward, time_mlp=self.time_mlp,
            targets=self.targets, checkpointing=config.gradient_checkpointing,
            image_output=self.image_output,
        )  # fmt: skip
        # Settings such as the text's length decide an encoding too; where the weights lie does not.
        settings = json.dumps(split(config).decisive, sort_keys=True)
        parts = self.pipe.components
        self._encoders = [Resting(p) for n, p in parts.items() if n.startswith("text_") and p]
        text = [name for name in parts if name.startswith(("text_", "tokenizer"))]
        encoders = self.source().revision(unused=self.load_options, only=text)
        identity = f"{self.name} {encoders} {dtype} {settings}"
        self._text = TextCache(self._finite_encode, identity, device) if self.costly_text else None

    def _sized(self, pixels: Resolution | None) -> tuple[int, ...]:
        """Latent shape of images; `pixels` None is the size the network was trained at."""
        config = getattr(self.pipe, self.network).config
        if pixels is None:
            return (config.in_channels, *_both(config.sample_size))
        height, width = (side // self.pipe.vae_scale_factor for side in _both(pixels))
        return (config.in_channels, height, width)

    def _codec(self) -> ImageCodec | VideoCodec:
        from distillbench.backbones._diffusers import ImageCodec

        return ImageCodec(self.pipe.vae)

    def encode(self, prompts: Sequence[str]) -> Cond:
        """Conditions of prompts, float32."""
        if self._text is not None:
            return self._text(prompts)
        return self._finite_encode(prompts)

    def _finite_encode(self, prompts: Sequence[str]) -> Cond:
        for encoder in self._encoders:
            encoder.awake()
        try:
            with torch.no_grad():
                cond = self._encode(prompts)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            # What the files' headers do not show: special tokens that the vocabulary lacks.
            raise StageFailed(
                f"backbone {self.name}: its text encoder cannot read what its tokenizer gives "
                f"({' '.join(str(error).split())[:120]})",
                hint="compare pad, bos and eos of the tokenizer's and the encoder's config files",
            ) from None
        for name, value in cond.tensors.items():
            require_finite(value, f"text conditions ({name})")
        return cond

    def predict(
        self,
        net: NetHandle | None,
        x_t: torch.Tensor,
        t: torch.Tensor,
        cond: Cond,
        *,
        guidance_scale: float | torch.Tensor = 1.0,
        uncond: Cond | None = None,
        end_t: torch.Tensor | None = None,
        steps_k: torch.Tensor | None = None,
        embed_scale: torch.Tensor | None = None,
    ) -> Prediction:
        """See `Backbone.predict`."""
        size = len(x_t)
        values = {"guidance": embed_scale, "end_t": end_t, "steps_k": steps_k}
        cond, t = cond.expand(size), t.expand(size)
        if isinstance(guidance_scale, (int, float)) and guidance_scale == 1.0:
            raw = self._net.raw(net, x_t, t, cond, values)
        else:
            if uncond is None:
                raise NotSupported("guidance needs the unconditional branch: pass uncond")
            both = Cond.cat([cond, uncond.expand(size)])
            twice = {n: None if v is None else v.repeat(2) for n, v in values.items()}
            raw = self._net.raw(net, torch.cat([x_t, x_t]), t.repeat(2), both, twice)
            on, off = raw.chunk(2)
            raw = guided(on, off, guidance_scale)
        process = self.process_of(net)
        if process.kind == "vp":  # planning lets none but piecewise flows begin above T - 1
            t = t.clamp(max=process.num_timesteps - 1)
        alpha, sigma = process.alpha_sigma(t, x_t)
        return Prediction(*x0_eps(raw, x_t, alpha, sigma, self.prediction_of(net)), raw)

    def features(
        self,
        net: NetHandle | None,
        x_t: torch.Tensor,
        t: torch.Tensor,
        cond: Cond,
        layers: Sequence[str],
        *,
        end_t: torch.Tensor | None = None,
        steps_k: torch.Tensor | None = None,
        embed_scale: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """Activations (B, C, h, w), or (B, C, f, h, w) of video, at module paths or at "mid".

        The forward stops after the last of them, so "mid" runs half of a UNet. The further
        arguments are those of `predict`, for nets with such conditions.
        """
        values = {"guidance": embed_scale, "end_t": end_t, "steps_k": steps_k}
        paths = [self._middle() if name == "mid" else name for name in layers]
        size = len(x_t)
        found = self._net.features(net, x_t, t.expand(size), cond.expand(size), paths, values)
        return [self._as_map(hidden) for hidden in found]

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        """uint8 images (B, H, W, 3), or videos (B, frames, H, W, 3)."""
        return self.codec.decode(x0)

    def image_size(self) -> tuple[int, int] | None:
        """See `Backbone.image_size`; None for video."""
        if self.modality != "image":
            return None
        height, width = (side * self.pipe.vae_scale_factor for side in self.latent_shape[-2:])
        return height, width

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Latents of uint8 images (B, H, W, 3)."""
        return self.encode_posterior(images)[0]

    def encode_posterior(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Backbone.encode_posterior`."""
        from distillbench.backbones._diffusers import ImageCodec

        if not isinstance(self.codec, ImageCodec):
            raise NotSupported(f"{self.name} encodes no images")
        return self.codec.posterior(images)

    def rest(self, *, text: bool, latents: bool) -> None:
        """See `Backbone.rest`."""
        for encoder in self._encoders if text else ():
            encoder.rest()
        if latents:
            self.codec.rest()

    def latents_identity(self) -> str:
        """The autoencoder's weights."""
        return self.source().revision(unused=self.load_options, only=["vae"])

    def make_net(self, name: str, kind: Literal["lora", "copy"] = "lora", **opts: Any) -> NetHandle:
        """See `Backbone.make_net`; `alpha` defaults to `rank`, `rank` to 64."""
        return self._net.make(name, kind, opts)

    def replace_teacher(self, net: NetHandle) -> None:
        """See `Backbone.replace_teacher`."""
        self._net.replace_teacher(net)

    def tune(self, *, merge_adapters: bool = False, compile: bool = False) -> None:
        """See `Backbone.tune`."""
        self._net.tune(merge_adapters=merge_adapters, compile=compile)

    def _forward(
        self,
        module: torch.nn.Module,
        x: torch.Tensor,
        t: torch.Tensor,
        cond: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        output = module(x, timestep=t, return_dict=False, **self._arguments(x, cond))[0]
        return self._output(output)


def _both(side: Any) -> tuple[int, int]:
    """(height, width) of a side or a pair."""
    return (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
