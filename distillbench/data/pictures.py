"""Training pictures as a viewer shows them, brought to the size a network is trained at.

Whatever a file holds becomes 8-bit RGB: turned upright as its EXIF orientation says, transparent
parts laid on a background, 16-bit and 0-to-1 float values scaled to 0..255; of several frames the
first. Colour profiles are not applied. No torch here, so that planning can look at every file.
"""

from __future__ import annotations

import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distillbench.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Resize", "fitted", "open_picture"]

Resize = Literal["center-crop", "pad", "stretch"]
WIDE = ("I;16", "I;16B", "I;16L", "I;16N")
SIXTEEN_BIT_FORMATS = ("PNG", "PPM", "JPEG2000")


def open_picture(path: Path, background: str = "white") -> Image:
    """The picture in a file, RGB and upright.

    Raises:
        BadInput: there is no such picture, it cannot be decoded whole, or its values have no
            known range; one line that names the file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a fifo would wait for ever
            raise BadInput(f"{path}: not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                image.verify()  # checksums, and the end of the file; the picture is used up by it
            with Image.open(path) as image:
                return _rgb(image, background)
    except BadInput:
        raise
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise BadInput(f"{path}: not a picture of a known format") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BadInput(f"{path}: cannot be decoded: {reason}") from None


def fitted(image: Image, size: tuple[int, int], how: Resize, background: str = "white") -> Image:
    """An RGB picture at (height, width); antialiased bicubic where it has to be resized.

    Args:
        how: "center-crop" cuts the middle of the wanted shape out, "pad" keeps all of the picture
            between bars of the background, "stretch" ignores its shape.
    """
    from PIL import Image as images

    height, width = size
    if image.size == (width, height):
        return image
    if how == "pad":
        scale = min(width / image.width, height / image.height)
        inner = _at_least_1(image.width * scale), _at_least_1(image.height * scale)
        canvas = images.new("RGB", (width, height), background)
        place = (width - inner[0]) // 2, (height - inner[1]) // 2
        canvas.paste(image.resize(inner, images.Resampling.BICUBIC), place)
        return canvas
    box = _middle(image.size, (width, height)) if how == "center-crop" else None
    return image.resize((width, height), images.Resampling.BICUBIC, box=box)


def _at_least_1(length: float) -> int:
    return max(1, round(length))


def _middle(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest centred part with the shape of `wanted`."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _rgb(image: Image, background: str) -> Image:
    from PIL import Image as images
    from PIL import ImageOps

    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode in WIDE or upright.mode in ("I", "F"):
        upright = _eight_bit(upright, image.format or "")
    if not upright.has_transparency_data:
        return upright if upright.mode == "RGB" else upright.convert("RGB")
    over = upright.convert("RGBA")
    under = images.new("RGBA", over.size, background)
    return images.alpha_composite(under, over).convert("RGB")


def _eight_bit(image: Image, kind: str) -> Image:
    """Grey of 16 bits, or of floats from 0 to 1, as 8-bit grey; its one clear value as alpha."""
    import numpy as np
    from PIL import Image as images

    values = np.asarray(image)
    if image.mode == "F":
        high = 1.0
    elif image.mode in WIDE or kind in SIXTEEN_BIT_FORMATS:
        high = 65535.0
    else:
        raise ValueError("32-bit integers, whose range is not known; save it with 8 or 16 bits")
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > high:
        low, top = float(np.nanmin(values)), float(np.nanmax(values))
        raise ValueError(f"values from {low:g} to {top:g}, outside 0..{high:g}")
    grey = images.fromarray(np.rint(values * (255.0 / high)).astype(np.uint8))
    clear: Any = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    alpha = images.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    return images.merge("LA", (grey, alpha))
