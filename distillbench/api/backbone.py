"""What a teacher family must offer: one backbone is one pretrained network with its schedule.

A backbone is built without torch (so that planning is instant) and becomes usable with
`load`. All tensors it returns are float32; only the network call runs in the load dtype.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from distillbench.api.adopting import Adopting
from distillbench.api.times import Times
from distillbench.api.tuning import Tuning
from distillbench.core.lazy import torch
from distillbench.errors import NotSupported
from distillbench.files.places import Need

if TYPE_CHECKING:
    from PIL.Image import Image

    from distillbench.api.nets import NetHandle
    from distillbench.core.process import NoiseProcess

__all__ = ["RESTING_PLACE", "Backbone", "Cond", "Footprint", "Modality", "Prediction"]

Modality = Literal["image", "video", "point"]

RESTING_PLACE = "cpu"
"""The device that networks wait on which are not called."""


@dataclass(frozen=True)
class Cond:
    """Encoded prompts: named tensors, each with the batch first.

    Holds whatever the network wants (token states, pooled vectors, micro-conditioning).
    """

    tensors: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: slice | torch.Tensor) -> Cond:
        return Cond({name: value[index] for name, value in self.tensors.items()})

    def to(self, device: torch.device | str) -> Cond:
        """The same conditions on another device."""
        return Cond({name: value.to(device) for name, value in self.tensors.items()})

    def expand(self, size: int) -> Cond:
        """Repeat a single condition `size` times; a batch of that size is returned as is."""
        if len(self) == size:
            return self
        return Cond({n: v.expand(size, *v.shape[1:]) for n, v in self.tensors.items()})

    @staticmethod
    def cat(parts: Sequence[Cond]) -> Cond:
        """Join conditions along the batch."""
        names = parts[0].tensors
        return Cond({name: torch.cat([p.tensors[name] for p in parts]) for name in names})


@dataclass(frozen=True)
class Prediction:
    """A network's prediction at (x_t, t), each (B, *latent_shape) float32.

    `raw` is what the network put out (after guidance), `x0` and `eps` its two readings.
    """

    x0: torch.Tensor
    eps: torch.Tensor
    raw: torch.Tensor


@dataclass(frozen=True)
class Footprint:
    """Parameters of the network; bytes, and height and width in pixels, of one decoded sample."""

    parameters: int = 0
    sample_bytes: int = 0
    sample_size: tuple[int, int] = (0, 0)


class Backbone(Adopting, Times, Tuning, ABC):
    """One pretrained teacher: network, noise process, text encoder and decoder.

    Its name, the kind of its process and its times are those of `Times`; see `Tuning` too.

    Attributes:
        Config: the keys an experiment may set for it (path, revision, dtype and the like).
        modality: what a decoded sample is.
        train_prompts, eval_prompts: prompt sets used where an experiment names none.
        costly_text: it encodes each prompt once and keeps that on disk.
        forward_mode: whether its networks, real times included, have derivatives in forward mode
            (torch.func.jvp), which fused attention kernels lack.
        process: alpha_t and sigma_t; available after `load`.
        latent_shape: shape of one latent, without the batch.
        prediction_type: epsilon | v_prediction | sample | flow.
    """

    Config: ClassVar[type[BaseModel]]
    modality: ClassVar[Modality] = "image"
    train_prompts: ClassVar[str] = ""
    eval_prompts: ClassVar[str] = ""
    costly_text: ClassVar[bool] = False
    forward_mode: ClassVar[bool] = False
    latent_shape: tuple[int, ...]
    prediction_type: str
    process: NoiseProcess

    def __init__(self, config: BaseModel) -> None:
        self.config = config

    # ---- known without torch ------------------------------------------------------------

    @property
    def has_features(self) -> bool:
        """Whether the family offers hidden activations, which discriminators read."""
        return type(self).features is not Backbone.features

    def problems(self) -> Sequence[str]:
        """What of the weights' own files would not be honoured, one line each; looked up at once.

        A network that is called otherwise than its settings say gives other samples without a
        word, so that planning refuses it.
        """
        return ()

    @property
    def embeds_guidance(self) -> bool:
        """Whether the teacher is told its guidance scale, and so takes none from outside."""
        return False

    def requirements(self) -> Sequence[Need]:
        """What loading it takes that the project does not bring, met or not.

        Only what can be looked for at once and without torch: files, packages, never the network.
        """
        return ()

    def check_prompts(self, prompts: Sequence[str], *, latents: bool) -> None:
        """Refuse prompts that the backbone knows nothing of; known without torch.

        Args:
            latents: real latents are to be made for them too (`training_latents`).

        Raises:
            BadInput: naming the first of them.
        """

    def cut_prompts(self, prompts: Sequence[str]) -> int:
        """How many prompts are longer than all a text encoder reads; 0 too where nobody knows."""
        return 0

    def footprint(self) -> Footprint:
        """Sizes that the disk space of a run is reckoned from, and metrics are asked about.

        Zeros where they are not known.
        """
        return Footprint()

    @abstractmethod
    def revision(self) -> str:
        """Identity of the weights (a content hash or a pinned hub commit); part of every key."""

    # ---- known after load ---------------------------------------------------------------

    @abstractmethod
    def load(self, device: str = "cpu", *, dtype: str = "float32") -> None:
        """Read the weights onto `device`; network calls run in `dtype`.

        Raises:
            MissingWeights: the weights are not on this disk and cannot be fetched.
        """

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Cond:
        """Text conditions of `prompts` (batch first), on the backbone's device."""

    def encode_null(self) -> Cond:
        """The unconditional branch, batch of one. Families with zeros for it override this."""
        return self.encode([""])

    @abstractmethod
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
        """Evaluate a network at (x_t, t) and read x0 and eps from it.

        Args:
            net: the role to evaluate; None is the frozen teacher.
            x_t: (B, *latent_shape) float32.
            t: (B,) times, integer for VP and 1000 * sigma for flow matching.
            cond: conditions of the same batch.
            guidance_scale: usual convention, 1 = none; a (B,) tensor sets it per sample. Anything
                else than 1 evaluates both branches in ONE batched forward and needs `uncond`.
            uncond: unconditional branch, batch of one or of B.
            end_t: (B,) end times, for nets made with the "end_t" condition.
            steps_k: (B,) number of student steps K, for nets made with the "steps_k" condition.
            embed_scale: (B,) guidance scale that a net made with the "guidance" condition is to
                imitate without a second branch.
        """

    def steered(
        self, cond: Cond, uncond: Cond | None, pictures: Sequence[Sequence[Image]]
    ) -> tuple[Cond, Cond | None]:
        """Both branches of conditions with what pictures say: for each steer one a sample."""
        raise NotSupported(f"backbone {self.name} takes no ControlNets and IP-Adapters")

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
        """Hidden activations at the named layers, for discriminator heads.

        Layers are a family's own names, and "mid" for the middle of any network. Activations are
        (B, C, h, w), (B, C, f, h, w) of video or (B, C) of points. The further arguments are those
        of `predict`.
        """
        raise NotImplementedError(f"{self.name} offers no features")

    @abstractmethod
    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        """Samples: uint8 (B, H, W, 3) or (B, frames, H, W, 3); points are float32 (B, d)."""

    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of the pictures whose latents have `latent_shape`; known after load.

        None where the family does not say: training pictures must then have that size already.
        """
        return None

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Latents of uint8 images (B, H, W, 3), scaled as the network expects them."""
        raise NotImplementedError(f"{self.name} encodes no images")

    def encode_posterior(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the latents of uint8 images, scaled as `encode_images`."""
        raise NotImplementedError(f"{self.name} encodes images to one latent each")

    def latents_identity(self) -> str:
        """Identity of what `encode_images` depends on."""
        return self.revision()

    def training_latents(self, prompts: Sequence[str], rng: torch.Generator) -> torch.Tensor | None:
        """Fresh real latents for `prompts` where the world can make them; None where it cannot."""
        return None

    @abstractmethod
    def make_net(self, name: str, kind: Literal["lora", "copy"] = "lora", **opts: Any) -> NetHandle:
        """A trainable role that starts as the teacher.

        Args:
            name: the role ("student", "fake", ...), unique within a run.
            kind: "lora" adds an adapter to the ONE frozen base all roles share; "copy" copies it.
            opts: `rank`, `alpha`, `target_modules` for lora; `conditions` (a tuple out of
                "guidance", "end_t", "steps_k") adds zero-initialised scalar conditions.
        """

    def replace_teacher(self, net: NetHandle) -> None:
        """Put a trained role in the teacher's place, and let new roles start from it.

        Called after `load` and before the roles of a training are made; the role is used up.
        """
        raise NotSupported(f"backbone {self.name} takes no trained net as its teacher")
