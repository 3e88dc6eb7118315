"""A set of real pictures that samples are compared with: a folder, or statistics in a file.

Statistics are clean-fid's .npz: `mu` and `sigma` (a Gaussian fitted to features), or `feats` (the
features themselves). They must be of the same network and resize rule; no file says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distillbench.core.lazy import torch
from distillbench.errors import BadInput, MissingWeights
from distillbench.files.hashes import file_sha256, folder_book
from distillbench.files.places import Need

__all__ = ["pictures", "real_features", "real_identity", "real_moments", "real_need"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def real_identity(path: Path) -> str:
    """Content hash: of the file, or of all pictures of the folder, whatever they are called.

    Raises:
        MissingWeights: nothing is there, or a folder without pictures.
    """
    if path.is_file():
        return file_sha256(path)
    book = folder_book("images", path)
    digests = sorted(file_sha256(p, book=book) for p in _files(path))
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def real_need(path: Path) -> Need:
    """The set as something a run needs."""
    try:
        if not path.is_file():
            _files(path)
    except MissingWeights as error:
        return Need("images", str(path), str(error), "name a folder of pictures or an .npz file")
    return Need("images", str(path))


def _files(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)
    if not found:
        raise MissingWeights(f"no pictures ({', '.join(PICTURES)}) in {folder}")
    return found


def pictures(folder: Path) -> Iterator[torch.Tensor]:
    """Each picture as uint8 (1, H, W, 3), in order of their paths; grey becomes three channels.

    Raises:
        MissingWeights: there are none.
        BadInput: a file that is no picture, with its path.
    """
    import numpy as np
    from PIL import Image

    for path in _files(folder):
        try:
            with Image.open(path) as picture:
                array = np.array(picture.convert("RGB"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} cannot be read as a picture ({error})") from None
        yield torch.from_numpy(array)[None]


def real_features(path: Path, net: Any) -> torch.Tensor:
    """(n, d) float64 features of a folder through `net.encode`, or those of a file.

    Raises:
        BadInput: the file holds none, or of another dimension.
    """
    if path.is_dir():
        from distillbench.score.progress import tick

        found = []
        for number, picture in enumerate(pictures(path)):
            found.append(net.encode(picture))
            tick(number, number + 1)
        return torch.cat(found).double()
    feats = _npz(path, ("feats",), net.dim)[0]
    return torch.from_numpy(feats).double()


def real_moments(path: Path, net: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (d,) and covariance (d, d) of a file with `mu` and `sigma`. Raises BadInput."""
    mean, covariance = _npz(path, ("mu", "sigma"), net.dim)
    if covariance.shape != (net.dim, net.dim):
        raise BadInput(f"{path}: sigma has shape {covariance.shape}, not {(net.dim, net.dim)}")
    return torch.from_numpy(mean).double(), torch.from_numpy(covariance).double()


def holds_features(path: Path) -> bool:
    """Whether single features are to be had: a folder, or a file with `feats`."""
    return path.is_dir() or "feats" in _names(path)


def _names(path: Path) -> set[str]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return set(archive.files)
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} is no .npz file ({error})") from None


def _npz(path: Path, names: tuple[str, ...], dim: int) -> list[Any]:
    import numpy as np

    if missing := sorted(set(names) - _names(path)):
        there = ", ".join(sorted(_names(path))) or "nothing"
        raise BadInput(f"{path} holds {there}, not {' and '.join(missing)}",
                       hint="name a folder of pictures, or make the statistics anew")  # fmt: skip
    with np.load(path, allow_pickle=False) as archive:
        arrays = [archive[name] for name in names]
    for name, array in zip(names, arrays, strict=True):
        if array.shape[-1] != dim or not np.isfinite(array).all():
            raise BadInput(f"{path}: {name} has shape {array.shape}; finite numbers of {dim} "
                           "dimensions are wanted, of the same network")  # fmt: skip
    return arrays
