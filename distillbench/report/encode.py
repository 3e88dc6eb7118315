"""Samples as a page shows them: pictures as PNG or JPEG, clips as animated WebP."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["EXACT", "FPS", "as_clip", "as_picture", "is_clip", "middle", "uri"]

EXACT = 96
"""Up to so many pixels a side samples are kept exactly, above they are compressed."""
FPS = 8
"""Frames of a clip in a second."""
_TYPES = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}


def is_clip(sample: np.ndarray) -> bool:
    """Whether a sample is frames (F, H, W, 3) and not one picture (H, W, 3)."""
    return sample.ndim == 4


def middle(sample: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) that stands for a sample: of a clip the frame in its middle."""
    return sample[len(sample) // 2] if is_clip(sample) else sample


def as_picture(picture: np.ndarray, *, most: int, exact: int = EXACT) -> bytes:
    """(H, W, 3) uint8, reduced to `most` pixels a side: PNG up to `exact` pixels, JPEG above."""
    from PIL import Image

    image = Image.fromarray(picture)
    quality = 92 if max(image.size) <= most else 85
    image.thumbnail((most, most), Image.Resampling.LANCZOS)
    if max(image.size) <= exact:
        return _saved(image, "PNG", compress_level=6)
    return _saved(image, "JPEG", quality=quality)


def as_clip(sample: np.ndarray, *, most: int | None = None) -> bytes:
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
        frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=1000 // FPS, loop=0,
        **kept,
    )  # fmt: skip


def uri(data: bytes) -> str:
    """A data URI of what the two functions above return."""
    from PIL import Image

    kind = Image.open(io.BytesIO(data)).format
    encoded = base64.b64encode(data).decode("ascii")
    return f"data:image/{_TYPES[str(kind)]};base64,{encoded}"


def _saved(image: Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()
