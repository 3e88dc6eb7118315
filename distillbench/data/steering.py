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
from distillbench.data.rendered import RENDERS, rendered, rendered_identity
from distillbench.errors import BadInput, NotSupported
from distillbench.files.hashes import file_sha256
from distillbench.files.places import images_folder, is_images_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels = NDArray[np.uint8]

__all__ = [
    "SteeringPictures", "control_picture", "edges_of", "is_there", "pictures_place",
    "steering_pictures",
]  # fmt: skip


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
    """The folder or the picture that is named: one here, else a set of this machine's images.

    RENDERS, where no folder here is called so, is itself.
    """
    place = Path(images).expanduser()
    if place.exists() or is_images_path(images) or images == RENDERS:
        return place
    return images_folder(images)


def is_there(place: Path) -> bool:
    """Whether there are such pictures, or they are drawn when they are wanted."""
    return place.exists() or str(place) == RENDERS


def steering_pictures(
    place: Path, prompts: PromptSet, n: int, *, draw: bool = True
) -> SteeringPictures:
    """The pictures of a folder for the first `n` prompts, or one picture for all of them.

    Files are led to prompts as samples of other tools are; see `data.given`. For RENDERS they are
    drawn, see `data.rendered`.

    Args:
        draw: False for a plan, which writes nothing: drawn pictures need not be there yet.

    Raises:
        BadInput: there is no such place, prompts lack a picture, or files cannot be read; one line
            for each.
    """
    if not place.exists() and is_there(place):
        asked = prompts.prompts[: min(n, len(prompts))]
        return SteeringPictures(rendered(asked, draw=draw), rendered_identity(asked))
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

    return fromarray(np.stack([edges_of(np.asarray(picture), made)] * 3, -1))


def edges_of(pixels: Pixels, made: Made) -> Pixels:
    """(H, W) edges of a picture (H, W, 3), 255 on 0, by OpenCV's Canny.

    Raises:
        NotSupported: OpenCV is not installed.
    """
    try:
        cv2: Any = import_module("cv2")
    except ImportError:
        raise NotSupported(
            "edges are found by OpenCV, which is not installed",
            hint='pip install "distillbench[control]"',
        ) from None
    edges: Pixels = cv2.Canny(pixels, made.low, made.high)
    return edges
