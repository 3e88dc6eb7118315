"""Pictures to network input, one function per published rule.

All take uint8 pictures (n, H, W, 3) and return float32 (n, 3, size, size).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from distillbench.errors import NotSupported
from distillbench.score.weights import too_small

__all__ = [
    "centre_patch",
    "clean_resize",
    "crop_square",
    "cut_square",
    "pad_square",
    "standardise",
    "stretch",
]

# OpenAI's CLIP statistics; HPSv2, AeS and every open_clip network here use the same.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def standardise(
    pixels: Tensor,
    means: tuple[float, ...] = CLIP_MEAN,
    deviations: tuple[float, ...] = CLIP_STD,
) -> Tensor:
    """(x - mean) / std per channel, for x in 0..1."""
    mean, std = torch.tensor(means), torch.tensor(deviations)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def pad_square(images: Tensor, size: int, *, antialias: bool = True) -> Tensor:
    """HPSv2's rule: to float, longest side to `size` (bicubic), centred on zeros; 0..1 or about.

    Nothing is cut off; a side keeps at least one pixel. Without `antialias` this is what
    torchvision < 0.17 did to tensors, which moves published HPSv2 numbers; the two must never
    share a column.
    """
    # Strided input is resized wrongly where a side shrinks to one or two pixels (torch 2).
    pixels = images.permute(0, 3, 1, 2).contiguous().float() / 255
    height, width = pixels.shape[-2:]
    scale = size / max(height, width)
    if scale != 1.0:
        shape = (max(round(height * scale), 1), max(round(width * scale), 1))
        pixels = interpolate(pixels, shape, mode="bicubic", antialias=antialias)
    down, right = size - pixels.shape[-2], size - pixels.shape[-1]
    return pad(pixels, (right // 2, right - right // 2, down // 2, down - down // 2))


def _each(images: Tensor, fitted: Callable[[np.ndarray], Tensor]) -> Tensor:
    """The pictures fitted one by one, in as many threads as the stage has; PIL frees the lock."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return torch.stack(list(pool.map(fitted, images.numpy())))


def crop_square(images: Tensor, size: int) -> Tensor:
    """OpenAI's rule: 8-bit PIL bicubic, short side to `size`, then the centre square; 0..1."""
    return cut_square(images, size).permute(0, 3, 1, 2).contiguous().float() / 255


def cut_square(images: Tensor, size: int) -> Tensor:
    """The same before it becomes numbers: uint8 (n, size, size, 3)."""
    return _each(images, lambda image: _crop(image, size))


def _crop(image: np.ndarray, size: int) -> Tensor:
    height, width = image.shape[:2]
    scale = size / min(height, width)
    picture = Image.fromarray(image)
    # The long side is cut to whole pixels and the margins rounded, as torchvision does.
    if scale != 1.0:
        long = int(size * max(height, width) / min(height, width))
        shape = (size, long) if width <= height else (long, size)
        picture = picture.resize(shape, Image.Resampling.BICUBIC)
    left, top = round((picture.width - size) / 2), round((picture.height - size) / 2)
    square = np.asarray(picture)[top : top + size, left : left + size]
    return torch.from_numpy(square.copy())


def stretch(images: Tensor, size: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Tensor:
    """8-bit PIL to a square, by default bicubic, the aspect ratio not kept; 0..1."""
    return _each(images, lambda image: _stretched(image, size, how)).float() / 255


def _stretched(image: np.ndarray, size: int, how: Image.Resampling) -> Tensor:
    fitted = Image.fromarray(image).resize((size, size), how)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def centre_patch(images: Tensor, size: int) -> Tensor:
    """The central `size` pixels as they are, 0..255. Raises NotSupported for smaller pictures."""
    height, width = images.shape[1:3]
    if what := too_small("a distance of patches", size, height, width):
        raise NotSupported(what)
    top, left = (height - size) // 2, (width - size) // 2
    return images[:, top : top + size, left : left + size].permute(0, 3, 1, 2).float()


def clean_resize(images: Tensor, size: int) -> Tensor:
    """clean-fid's rule: each channel alone as float32, PIL bicubic, clipped to 0..255, not rounded.

    The aspect ratio is not kept.
    """
    return _each(images, lambda image: _clean(image, size))


def _clean(image: np.ndarray, size: int) -> Tensor:
    channels = [
        Image.fromarray(image[:, :, c].astype(np.float32)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    return torch.from_numpy(np.stack([np.asarray(c) for c in channels])).clamp(0, 255)
