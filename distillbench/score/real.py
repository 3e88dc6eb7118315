"""A set of real pictures that samples are compared with: a folder, or statistics in a file.

Statistics are the .npz of clean-fid and pytorch-fid: `mu` and `sigma` (a Gaussian fitted to
features), or `feats` (the features themselves). They must be of the same network and resize rule;
no file says so. No torch here: planning looks at every file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from distillbench.api.fields import NEUTRAL
from distillbench.errors import BadInput, MissingWeights
from distillbench.files.hashes import file_sha256, folder_book
from distillbench.files.places import Need, data_root

if TYPE_CHECKING:
    import numpy

__all__ = [
    "RealPictures", "picture_files", "real_count", "real_identity", "real_need", "real_place",
    "real_problems", "statistics",
]  # fmt: skip

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MOMENTS = ("mu", "sigma")
FEATURES = ("feats",)
TOLD = 8
HINT = "name a folder of pictures, or make the statistics anew"


def _named(value: Any) -> Any:
    return value["images"] if isinstance(value, dict) and set(value) == {"images"} else value


RealPictures = Annotated[str, NEUTRAL, BeforeValidator(_named)]
"""A setting `reference`: text, or {images: text}; see `real_place`."""


def real_place(text: str) -> Path:
    """Where they lie: a path, or without a slash what is called so under `<data root>/images`."""
    return Path(text).expanduser() if _is_path(text) else data_root() / "images" / text


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text or text in (".", "..")


def real_identity(text: str) -> str:
    """Content hash: of the file, or of all pictures of the folder, whatever they are called.

    "missing:" and the name for a named set that is not on this disk.

    Raises:
        MissingWeights: nothing is at that path, or a folder without pictures.
    """
    path = real_place(text)
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        if _is_path(text):
            raise MissingWeights(_nothing(path))
        return f"missing:{text}"
    book = folder_book("images", path)
    digests = sorted(file_sha256(p, book=book) for p in picture_files(path))
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def real_need(text: str) -> Need:
    """The set as something a run needs."""
    path = real_place(text)
    if path.is_file():
        return Need("images", text)
    try:
        if path.is_dir():
            picture_files(path)
            return Need("images", text)
        what = _nothing(path)
    except MissingWeights as error:
        what = str(error)
    return Need("images", text, what, "put the pictures, or their statistics, there")


def real_problems(
    text: str, dim: int, *, moments: bool, misfit: Callable[[int, int], str]
) -> list[str]:
    """What is wrong with a set, one line each; nothing where a named one is not on this disk.

    Args:
        text: of the setting.
        dim: of the features; 0 where it is not known yet.
        moments: whether `mu` and `sigma` will do.
        misfit: what is wrong with pictures of a height and width, see `Metric.misfit`.
    """
    path = real_place(text)
    try:
        if path.is_file():
            statistics(path, dim, moments=moments)
            return []
        if not path.is_dir():
            return [_nothing(path)] if _is_path(text) else []
        files = [str(p.relative_to(path)) for p in picture_files(path)]
    except (BadInput, MissingWeights) as error:
        return [error.line]
    from distillbench.data.looked_at import damaged

    bad = damaged(path, files)
    more = [f"{path}: {len(bad) - TOLD} more such files"] if len(bad) > TOLD else []
    return [*bad[:TOLD], *more] if bad else _unfit(path, files, misfit)


def _unfit(path: Path, files: list[str], misfit: Callable[[int, int], str]) -> list[str]:
    """One line on pictures of a size that the metric does not take."""
    from distillbench.data.looked_at import picture_sizes

    # Where a picture of one pixel will do all sizes do, and none is looked at.
    sizes = picture_sizes(path, files) if misfit(1, 1) else []
    told = {size: misfit(*reversed([int(n) for n in size.split("x")])) for size in set(sizes)}
    bad = [(file, told[size]) for file, size in zip(files, sizes) if told[size]]
    if not bad:
        return []
    file, what = bad[0]
    return [f"{path}: {len(bad)} of these {len(files)} pictures cannot be scored ({file}): {what}"]


def real_count(text: str) -> int:
    """Pictures of the set, as far as that is known; else 0. For a set without problems."""
    path = real_place(text)
    if path.is_dir():
        return len(picture_files(path))
    found = statistics(path, 0, moments=True) if path.is_file() else {}
    return len(found["feats"]) if "feats" in found else 0


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder and those below it, in order of their paths.

    Raises:
        MissingWeights: there are none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)
    if not found:
        raise MissingWeights(f"no pictures ({', '.join(PICTURES)}) in {folder}")
    return found


def _nothing(path: Path) -> str:
    return f"no folder of pictures and no .npz file at {path}"


def statistics(path: Path, dim: int, *, moments: bool) -> dict[str, numpy.ndarray]:
    """`feats` (n, d) of a file, else `mu` (d,) and `sigma` (d, d) where these will do.

    Args:
        path: the .npz.
        dim: of the network that they must be of; 0 takes any.
        moments: whether `mu` and `sigma` will do.

    Raises:
        BadInput: it is no such file, or its numbers cannot be what they are called.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            there = set(archive.files)
            names = MOMENTS if moments and "feats" not in there else FEATURES
            if not there.issuperset(names):
                held = ", ".join(sorted(there)) or "nothing"
                raise BadInput(f"{path} holds {held}, not {' and '.join(names)}", hint=HINT)
            found = {name: np.asarray(archive[name]) for name in names}
    except BadInput:
        raise
    except Exception as error:  # zip and numpy raise whatever a damaged file leads them to
        reason = " ".join(str(error).split())[:160]
        raise BadInput(f"{path} is no .npz file ({reason})", hint=HINT) from None
    _check(path, found, dim)
    return found


def _check(path: Path, arrays: dict[str, Any], dim: int) -> None:
    import numpy as np

    wide = dim or _width(arrays)
    for name, array in arrays.items():
        fits = array.shape == {"mu": (wide,), "sigma": (wide, wide)}.get(name, (len(array), wide))
        if not fits or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise BadInput(
                f"{path}: {name} has shape {array.shape}; finite numbers of {wide} dimensions are "
                "wanted, of the same network", hint=HINT,
            )  # fmt: skip
    if "sigma" in arrays:
        sigma = arrays["sigma"]
        even = np.allclose(sigma, sigma.T, rtol=1e-4, atol=1e-6 * float(np.abs(sigma).max()))
        if not even or (np.diag(sigma) < 0).any():
            raise BadInput(f"{path}: sigma is no covariance matrix", hint=HINT)


def _width(arrays: dict[str, Any]) -> int:
    one = arrays.get("mu", arrays.get("feats"))
    return int(one.shape[-1]) if one is not None and one.ndim else 0
