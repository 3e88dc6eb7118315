"""Odd pictures, and right files with a few bytes changed, for `fuzz_data.py`."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_texts import ODD, PLAIN, Case, caption_row, captioned, file_of, odd_file
from PIL import Image

RED = (255, 0, 0)


def _picture(name: str, raw: bytes | None, odd: str = "") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file_of(name, raw)(folder) if raw is not None else odd_file(name, odd)(folder)
        (folder / "captions.jsonl").write_text(json.dumps({"file": name, "text": "a"}))
        return folder

    return make


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture_cases() -> Iterator[Case]:
    """Pictures of every mode, size and format, whole and cut off."""
    clear = Image.new("RGBA", (9, 7), (1, 2, 3, 0))
    white = (255, 255, 255)
    grey16 = Image.fromarray(np.full((7, 9), 257 * 90, np.uint16))
    kinds: dict[str, tuple[Image.Image, str, Any]] = {
        "red png": (Image.new("RGB", (9, 7), RED), "png", RED),
        "red tiff": (Image.new("RGB", (9, 7), RED), "tiff", RED),
        "red bmp": (Image.new("RGB", (9, 7), RED), "bmp", RED),
        "red gif": (Image.new("RGB", (9, 7), RED), "gif", RED),
        "1 bit": (Image.new("1", (9, 7), 1), "png", white),
        "grey": (Image.new("L", (9, 7), 90), "png", (90,) * 3),
        "16 bits": (grey16, "png", (90,) * 3),
        "16 bits tiff": (grey16, "tiff", (90,) * 3),
        "float": (Image.fromarray(np.full((7, 9), 90 / 255, np.float32)), "tiff", (90,) * 3),
        "clear png": (clear, "png", white),
        "clear tiff": (clear, "tiff", white),
        "clear grey": (Image.new("LA", (9, 7), (3, 0)), "png", white),
        "cmyk": (Image.new("CMYK", (9, 7), (0, 255, 255, 0)), "tiff", RED),
        "palette": (Image.new("RGB", (9, 7), RED).quantize(4), "png", RED),
        "1 x 1": (Image.new("RGB", (1, 1), RED), "png", RED),
        "long": (Image.new("RGB", (4000, 2), RED), "png", RED),
        "float of 2": (Image.fromarray(np.full((7, 9), 2, np.float32)), "tiff", None),
        "float NaN": (Image.fromarray(np.full((7, 9), np.nan, np.float32)), "tiff", None),
        "32 bits": (Image.fromarray(np.full((7, 9), 9, np.int32)), "tiff", None),
    }
    for name, (image, kind, right) in kinds.items():
        yield Case("pictures", name, _picture(f"a.{kind}", encoded(image, kind)), right)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
        raw = encoded(noise, kind)
        for part in (0, 1, 8, len(raw) // 3, len(raw) // 2, len(raw) - 60):
            yield Case("pictures", f"{kind} cut to {part}", _picture(f"a.{kind}", raw[:part]))
    exif = Image.Exif()
    for turn in range(1, 9):
        exif[0x0112] = turn
        raw = encoded(Image.new("RGB", (9, 7), RED), "png", exif=exif)
        yield Case("pictures", f"exif {turn}", _picture("a.png", raw), RED)
    for odd in ODD:
        yield Case("pictures", odd, _picture("a.png", None, odd))
    for name, text in {
        "text": b"no picture",
        "svg": b"<svg/>",
        "html": b"<html>404</html>",
    }.items():
        yield Case("pictures", name, _picture("a.png", text))


# ---- mutations ----------------------------------------------------------------------------


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """The bytes with a few of them changed, left out, doubled or cut off."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        choice = rng.randrange(5)
        if choice == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif choice == 1:
            del data[at : at + rng.randint(1, 8)]
        elif choice == 2:
            data[at:at] = data[at : at + rng.randint(1, 16)]
        elif choice == 3:
            data[at:at] = rng.choice(
                [b"\r", b"\n", b'"', b"{", b"\\u", b"\xff", b"\0", b",", b"\t"]
            )
        else:
            del data[at:]
    return bytes(data)


def mutations(seed: int, count: int) -> Iterator[Case]:
    """Right files with a few bytes changed: refused, or read as another reader reads them."""
    rng = random.Random(seed)
    rows = [json.dumps({"prompt": p, "category": ""}, ensure_ascii=False) for p in PLAIN]
    lines = [caption_row(json.dumps(p, ensure_ascii=False)) for p in PLAIN]
    for number in range(count):
        raw = mutated("\n".join(PLAIN).encode(), rng)
        yield Case("prompts", f"mutated txt {number}", file_of("a.txt", raw), _read_plain(raw))
        raw = mutated("\n".join(rows).encode(), rng)
        yield Case("prompts", f"mutated jsonl {number}", file_of("a.jsonl", raw), ...)
        raw = mutated(json.dumps(PLAIN).encode(), rng)
        yield Case("prompts", f"mutated json {number}", file_of("a.json", raw), ...)
        raw = mutated("\n".join(["prompt,category", *(f'"{p}",x' for p in PLAIN)]).encode(), rng)
        yield Case("prompts", f"mutated csv {number}", file_of("a.csv", raw), ...)
        yield Case(
            "captions", f"mutated {number}", captioned(mutated("\n".join(lines).encode(), rng)), ...
        )
        kind = rng.choice(["png", "jpeg", "gif", "bmp", "tiff", "webp"])
        raw = mutated(encoded(Image.effect_noise((24, 24), 90).convert("RGB"), kind), rng)
        yield Case("pictures", f"mutated {kind} {number}", _picture(f"a.{kind}", raw), ...)


def _read_plain(raw: bytes) -> tuple[str, ...] | None:
    """Lines as another reader has them; None for what is refused."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    found = [x.removesuffix("\r") for x in text.removeprefix("\ufeff").split("\n")]
    prompts = tuple(x.strip(" \t") for x in found if x.strip())
    bad = not prompts or "\0" in text or any("\r" in x for x in found if x.strip())
    return None if bad else prompts
