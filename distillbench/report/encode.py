"""Samples as a page shows them: pictures as PNG or JPEG, clips as animated WebP."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["EXACT", "FPS", "Encoded", "as_clip", "as_picture", "is_clip", "middle"]

EXACT = 96
"""Up to so many pixels a side samples are kept exactly, above they are compressed."""
FPS = 8
"""Frames of a clip in a second."""


class Encoded(NamedTuple):
    """An image file: "png", "jpeg" or "webp", and its bytes."""

    kind: str
    data: bytes

    @property
    def uri(self) -> str:
        """It as a data URI."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode('ascii')}"


def is_clip(sample: np.ndarray) -> bool:
    """Whether a sample is frames (F, H, W, 3) and not one picture (H, W, 3)."""
    return sample.ndim == 4


def middle(sample: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) that stands for a sample: of a clip the frame in its middle."""
    return sample[len(sample) // 2] if is_clip(sample) else sample


def as_picture(picture: np.ndarray, *, most: int, exact: int = EXACT) -> Encoded:
    """(H, W, 3) uint8, reduced to `most` pixels a side: PNG up to `exact` pixels, JPEG above."""
    from PIL import Image

    image = Image.fromarray(picture)
    quality = 92 if max(image.size) <= most else 85
    image.thumbnail((most, most), Image.Resampling.LANCZOS)
    if max(image.size) <= exact:
        return _saved(image, "png", compress_level=6)
    return _saved(image, "jpeg", quality=quality)


def as_clip(sample: np.ndarray, *, most: int | None = None) -> Encoded:
    """Frames (F, H, W, 3) uint8 as a WebP without end, reduced to `most` pixels a side."""
    from PIL import Image

    frames = [Image.fromarray(frame) for frame in sample]
    if most is not None:
        for frame in frames:
            frame.thumbnail((most, most), Image.Resampling.LANCZOS)
    kept: dict[str, Any] = {"quality": 85}
    if max(frames[0].size) <= EXACT:
        kept = {"lossless": True, "exact": True}
    return _saved(
        frames[0], "webp", save_all=True, append_images=frames[1:], duration=1000 // FPS, loop=0,
        **kept,
    )  # fmt: skip


def _saved(image: Image, kind: str, **options: Any) -> Encoded:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return Encoded(kind, out.getvalue())
