"""Training batches as a function of (seed, step, micro-batch), never of what was drawn before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distillbench.api.method import Batch
from distillbench.core.noise import generator
from distillbench.data.captions import read_captions
from distillbench.data.latents import Latents
from distillbench.data.pictures import Resize, fitted, open_picture
from distillbench.errors import BadInput, NotSupported
from distillbench.specs.stages import FitSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    from distillbench.api.backbone import Backbone, Cond

__all__ = ["DataSource", "ImageFolder"]

ENCODE_CHUNK = 32
CACHE_BYTES = 1 << 30


class ImageFolder:
    """Captioned images: `captions.jsonl` with {"file": ..., "text": ...} beside the images.

    Args:
        root: the folder.
        size: (height, width) that images are brought to; None leaves them, and then the images of
            one batch must have one size.
        resize: how they are brought there; see `pictures.fitted`.
        background: what lies behind transparent parts and beside padded pictures.

    Raises:
        BadInput: no caption file, or lines that name no image and text; one line for each.
    """

    def __init__(
        self,
        root: Path,
        *,
        size: tuple[int, int] | None = None,
        resize: Resize = "center-crop",
        background: str = "white",
    ) -> None:
        found = read_captions(root)
        self.paths, self.captions = found.paths, found.texts
        self.size, self.resize, self.background = size, resize, background

    def read(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 (B, H, W, 3). Raises BadInput for a file that is no picture."""
        import numpy as np

        arrays = [np.asarray(self._picture(i)) for i in indices]
        if len({a.shape for a in arrays}) > 1:
            raise BadInput(f"{self.paths[0].parent}: images differ in size; resize them to one")
        return torch.from_numpy(np.stack(arrays))

    def _picture(self, index: int) -> Image:
        picture = open_picture(self.paths[index], self.background)
        if self.size is None:
            return picture
        return fitted(picture, self.size, self.resize, self.background)


class DataSource:
    """Draws the batches of a run.

    Args:
        backbone: a loaded backbone; encodes prompts and makes or encodes latents.
        prompts: the training prompts, ignored where `images` brings its own captions.
        seed: run seed.
        batch_size: samples of a micro-batch.
        latents: whether the method needs real latents.
        images: a folder with captioned images, "" for the backbone's own world.
        fit: how images come to their size and what their latents are, where not the default.
        device: where batches are put.
        content: identity of the images, which their latents are kept by; "" keeps none.
        tell: gets a line for the user.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[str],
        *,
        seed: int,
        batch_size: int,
        latents: bool = False,
        images: str = "",
        fit: FitSpec | None = None,
        device: str = "cpu",
        content: str = "",
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.backbone, self.seed, self.batch_size = backbone, seed, batch_size
        self.device, self.latents = device, latents
        size = backbone.image_size()
        fitted = fit or FitSpec(resize="center-crop", background="white")
        self.images = (
            ImageFolder(Path(images), size=size, resize=fitted.resize, background=fitted.background)
            if images
            else None
        )
        self.prompts = self.images.captions if self.images else tuple(prompts)
        self._kept = None
        if self.images and latents:
            sample, flip = fitted.latents == "sample", fitted.flip
            self._kept = Latents(
                backbone, self.images, content=content, sample=sample, flip=flip, tell=tell
            )
        with torch.no_grad():
            self.uncond = backbone.encode_null().to(device)
        self._chunks: dict[int, Cond] = {}
        self._cached: bool | None = None

    def settle(self, draws: int, tick: Callable[[], None]) -> None:
        """Encode ahead what is drawn anyway, and let networks rest that nothing is left for.

        Args:
            draws: samples that will be drawn; of a larger set not all may be.
            tick: called as it goes on.
        """
        all_drawn = draws >= len(self.prompts)
        text = all_drawn and (self._fits() or self.backbone.costly_text)
        if text:
            for start in range(0, len(self.prompts), ENCODE_CHUNK):
                self._encode(range(start, min(start + ENCODE_CHUNK, len(self.prompts))))
                tick()
        latents = not self.latents
        if self._kept is not None and all_drawn:
            latents = self._kept.fill(len(self.prompts), tick)
        self.backbone.rest(text=text, latents=latents)

    def batch(self, step: int, micro: int, repeat: int = 0) -> Batch:
        """The batch of a step.

        Args:
            step: number of the update.
            micro: index among all micro-batches of the step, over all processes.
            repeat: how often the same turn came before in this step.
        """
        key: tuple[int | str, ...] = (self.seed, "train", step, micro, repeat)
        draw = torch.randint(
            len(self.prompts), (self.batch_size,), generator=generator(*key, "prompts")
        )
        indices: list[int] = draw.tolist()
        prompts = [self.prompts[i] for i in indices]
        with torch.no_grad():
            cond, latents = self._encode(indices), self._latents(indices, prompts, key)
        shape = tuple(self.backbone.latent_shape)
        shared = (self.seed, "train", step, repeat)
        return Batch(prompts, cond, self.uncond, latents, shape, key, self.device, shared)

    def _latents(
        self, indices: Sequence[int], prompts: Sequence[str], key: tuple[Any, ...]
    ) -> torch.Tensor | None:
        if not self.latents:
            return None
        if self._kept is not None:
            return _moved(self._kept.batch(indices, key), self.device)
        made = self.backbone.training_latents(prompts, generator(*key, "latents"))
        if made is None:
            raise NotSupported(
                f"backbone {self.backbone.name} makes no training data",
                hint="name a folder of captioned images under data.images",
            )
        return made.to(self.device)

    def _encode(self, indices: Sequence[int]) -> Cond:
        """Conditions of prompts, kept where the whole set is small.

        Prompts are encoded in chunks that depend on the prompt set alone: a sum's last bit may
        change with the batch it is made in, and a resumed run must see the very same bits.
        """
        if not self._fits():
            return self.backbone.encode([self.prompts[i] for i in indices]).to(self.device)
        rows = [self._chunk(i // ENCODE_CHUNK)[_row(i)] for i in indices]
        cond = type(rows[0]).cat(rows)
        return type(cond)({n: _moved(value, self.device) for n, value in cond.tensors.items()})

    def _fits(self) -> bool:
        if self._cached is None:
            first = self._chunk(0)
            size = sum(v.numel() * v.element_size() for v in first.tensors.values())
            self._cached = size / len(first) * len(self.prompts) <= CACHE_BYTES
        return self._cached

    def _chunk(self, index: int) -> Cond:
        if index not in self._chunks:
            start = index * ENCODE_CHUNK
            prompts = self.prompts[start : start + ENCODE_CHUNK]
            self._chunks[index] = self.backbone.encode(prompts).to("cpu")
        return self._chunks[index]


def _moved(value: torch.Tensor, device: str) -> torch.Tensor:
    """On a device; a GPU copies pinned memory while others go on."""
    if device.startswith("cuda"):
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def _row(index: int) -> slice:
    return slice(index % ENCODE_CHUNK, index % ENCODE_CHUNK + 1)
