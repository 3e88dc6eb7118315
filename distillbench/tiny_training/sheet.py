"""A PNG sheet of captioned renders (no torch here)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from distillbench.drawings.render import SIZE
from distillbench.world.data import training_batch

COLUMNS: Final = 8
_LINES: Final = 4
_LINE_HEIGHT: Final = 11


def write(path: Path, *, rows: int, seed: int, zoom: int) -> None:
    """Write `rows` of eight renders of the training stream, each above its caption."""
    images, captions = training_batch(seed, 0, rows * COLUMNS)
    side = SIZE * zoom
    height = side + _LINES * _LINE_HEIGHT + 4
    sheet = Image.new("RGB", (COLUMNS * side, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = i % COLUMNS * side, i // COLUMNS * height
        tile = Image.fromarray(np.ascontiguousarray(image))
        sheet.paste(tile.resize((side, side), Image.Resampling.NEAREST), (x, y))
        pen.multiline_text((x + 3, y + side + 1), _wrapped(caption, side // 6), fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _wrapped(caption: str, width: int) -> str:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:_LINES])
