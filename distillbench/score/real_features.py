"""Real pictures through a feature net; see `score.real` for where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from distillbench.data.pictures import open_picture
from distillbench.errors import BadInput
from distillbench.score.progress import made_ahead, tick
from distillbench.score.real import picture_files, statistics

__all__ = ["pictures", "real_features", "real_moments"]

DEEP = ("I", "F")  # modes of more than 8 bits begin so


def pictures(folder: Path) -> Iterator[torch.Tensor]:
    """Each picture as uint8 (1, H, W, 3), in order of their paths; the next is read meanwhile.

    As clean-fid and torch-fidelity read them: grey becomes three channels and transparency is
    dropped; more than 8 bits are scaled, which they would cut off.

    Raises:
        MissingWeights: there are none.
        BadInput: a file that is no picture, with its path.
    """
    return made_ahead(_read, picture_files(folder))


def _read(path: Path) -> torch.Tensor:
    try:
        with Image.open(path) as picture:
            deep = picture.mode.startswith(DEEP)
            array = np.array((open_picture(path) if deep else picture).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"{path} cannot be read as a picture ({error})") from None
    return torch.from_numpy(array)[None]


def real_features(path: Path, net: Any) -> torch.Tensor:
    """(n, d) float64 features of a folder through `net.encode`, or those of a file.

    Raises:
        BadInput: the file holds none, or of another dimension.
    """
    if not path.is_dir():
        feats = statistics(path, net.dim, moments=False)["feats"]
        return torch.from_numpy(feats).double()
    found = []
    for number, picture in enumerate(pictures(path)):
        found.append(net.encode(picture))
        tick(number, number + 1)
    return torch.cat(found).double()


def real_moments(path: Path, net: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mean (d,) and covariance (d, d) of a file that holds no features, else None. Raises BadInput.

    A file with features is read through `real_features`.
    """
    if path.is_dir():
        return None
    found = statistics(path, net.dim, moments=True)
    if "feats" in found:
        return None
    return torch.from_numpy(found["mu"]).double(), torch.from_numpy(found["sigma"]).double()
