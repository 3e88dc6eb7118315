"""Videos of other tools as frames: GIF through Pillow, MP4 and its like through PyAV."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

__all__ = ["VIDEOS", "read_frames", "require_decoder"]

VIDEOS = (".gif", ".mp4", ".webm", ".mov", ".mkv", ".avi")


def require_decoder(files: Iterable[str]) -> None:
    """Raise BadInput where there are videos among the files that nothing here decodes."""
    kinds = sorted({Path(file).suffix.lower() for file in files} & set(VIDEOS) - {".gif"})
    if kinds and find_spec("av") is None:
        raise BadInput(f"{kinds[0]} files need a decoder of videos", hint="pip install av")


def read_frames(path: Path) -> np.ndarray:
    """All frames of a video, (frames, H, W, 3) uint8; its timing is not read.

    Raises:
        BadInput: it cannot be decoded, or nothing here decodes its kind; one line.
    """
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = _gif(path) if path.suffix.lower() == ".gif" else _stream(path)
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BadInput(f"{path}: cannot be decoded: {reason}") from None
    if not frames:
        raise BadInput(f"{path}: has no frames")
    return np.stack(frames)


def _gif(path: Path) -> list[np.ndarray]:
    import numpy as np
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def _stream(path: Path) -> list[np.ndarray]:
    require_decoder([path.name])
    av: Any = import_module("av")
    with av.open(str(path)) as opened:
        return [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
