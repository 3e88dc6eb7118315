"""Pictures that steer sampling: which is of which prompt, and a ControlNet's made of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.api.prompts import PromptSet
from distillbench.api.steering import Made
from distillbench.data.given import given_samples
from distillbench.data.pictures import open_picture
from distillbench.errors import BadInput, NotSupported
from distillbench.files.hashes import file_sha256
from distillbench.files.places import images_folder, is_images_path

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SteeringPictures", "control_picture", "pictures_place", "steering_pictures"]


@dataclass(frozen=True)
class SteeringPictures:
    """One picture a prompt; a short list is cycled as the prompts are.

    Attributes:
        sha256: over their content in the order of the prompts; names change nothing.
    """

    files: tuple[Path, ...]
    sha256: str

    def of(self, position: int) -> Path:
        """The picture of a sample."""
        return self.files[position % len(self.files)]


def pictures_place(images: str) -> Path:
    """The folder or the picture that is named: one here, else a set of this machine's images."""
    place = Path(images).expanduser()
    return place if place.exists() or is_images_path(images) else images_folder(images)


def steering_pictures(place: Path, prompts: PromptSet, n: int) -> SteeringPictures:
    """The pictures of a folder for the first `n` prompts, or one picture for all of them.

    Files are led to prompts as samples of other tools are; see `data.given`.

    Raises:
        BadInput: there is no such place, prompts lack a picture, or files cannot be read; one line
            for each.
    """
    if place.is_file():
        open_picture(place)
        files: tuple[Path, ...] = (place,)
        digests = [file_sha256(place)]
        return SteeringPictures(files, hashlib.sha256(f"{digests[0]}\n".encode()).hexdigest())
    found = given_samples(place, prompts, min(n, len(prompts)))
    if found.modality != "image":
        raise BadInput(f"{place}: holds videos, no pictures")
    return SteeringPictures(tuple(place / file for file in found.files), found.sha256)


def control_picture(path: Path, made: Made, size: tuple[int, int]) -> Image:
    """A ControlNet's picture of `size` (height, width), RGB.

    Edges are those of the picture at that size, white on black, by OpenCV's Canny.
    """
    from PIL.Image import Resampling, fromarray

    picture = open_picture(path).resize(size[::-1], Resampling.LANCZOS)
    if made.make != "canny":
        return picture
    import numpy as np

    try:
        cv2: Any = import_module("cv2")
    except ImportError:
        raise NotSupported(
            "edges are found by OpenCV, which is not installed",
            hint='pip install "distillbench[control]"',
        ) from None
    edges = cv2.Canny(np.asarray(picture), made.low, made.high)
    return fromarray(np.stack([edges] * 3, -1))
