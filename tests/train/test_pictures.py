"""Pictures of every kind come out as a viewer shows them, at the size that is asked for."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from distillbench.data.pictures import Resize, fitted, open_picture
from distillbench.errors import BadInput


def pixel(path: Path, x: int = 0, y: int = 0, background: str = "white") -> Any:
    return open_picture(path, background).getpixel((x, y))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(tmp_path: Path, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path, exif=exif)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    assert np.array_equal(np.asarray(open_picture(path)), np.asarray(upright))
    assert open_picture(path).size == ((9, 6) if orientation < 5 else (6, 9))


def test_transparent_parts_show_the_background(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 4), np.uint8)
    values[..., 0] = 255  # the hidden colour
    values[1, 1] = [0, 0, 255, 255]
    values[2, 2] = [0, 0, 255, 128]
    Image.fromarray(values).save(tmp_path / "a.png")
    assert pixel(tmp_path / "a.png") == (255, 255, 255)
    assert pixel(tmp_path / "a.png", 1, 1) == (0, 0, 255)
    assert pixel(tmp_path / "a.png", 2, 2) == (127, 127, 255)
    assert pixel(tmp_path / "a.png", background="#102030") == (16, 32, 48)


def one(mode: str, value: Any) -> Image.Image:
    return Image.new(mode, (3, 2), value)


def palette(clear: int | None) -> Image.Image:
    image = one("P", 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    if clear is not None:
        image.info["transparency"] = clear
    return image


SIXTEEN = Image.fromarray(np.full((2, 3), 257 * 80, np.uint16))
KINDS: dict[str, tuple[Image.Image, str, tuple[int, int, int]]] = {
    "one bit": (one("1", 1), "png", (255, 255, 255)),
    "grey": (one("L", 77), "png", (77, 77, 77)),
    "grey with alpha": (one("LA", (77, 0)), "png", (255, 255, 255)),
    "palette": (palette(None), "png", (10, 20, 30)),
    "palette with a clear colour": (palette(1), "png", (255, 255, 255)),
    "16 bits": (SIXTEEN, "png", (80, 80, 80)),
    "16 bits of tiff": (SIXTEEN, "tiff", (80, 80, 80)),
    "16 bits of pgm": (SIXTEEN, "pgm", (80, 80, 80)),
    "float": (Image.fromarray(np.full((2, 3), 0.5, np.float32)), "tiff", (128, 128, 128)),
    "cmyk": (one("CMYK", (0, 255, 255, 0)), "tiff", (255, 0, 0)),
    "webp": (one("RGBA", (1, 2, 3, 0)), "webp", (255, 255, 255)),
    "bmp": (one("RGB", (1, 2, 3)), "bmp", (1, 2, 3)),
    "gif": (one("RGB", (255, 0, 0)), "gif", (255, 0, 0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_right_colour(tmp_path: Path, kind: str) -> None:
    image, suffix, colour = KINDS[kind]
    options = {"lossless": True} if suffix == "webp" else {}
    image.save(tmp_path / f"a.{suffix}", **options)
    made = open_picture(tmp_path / f"a.{suffix}")
    assert (made.mode, made.size) == ("RGB", (3, 2))
    assert made.getpixel((0, 0)) == colour


def test_a_clear_value_of_16_bits(tmp_path: Path) -> None:
    SIXTEEN.save(tmp_path / "a.png", transparency=257 * 80)
    assert pixel(tmp_path / "a.png") == (255, 255, 255)


def test_the_first_of_several_frames_is_taken(tmp_path: Path) -> None:
    frames = [one("RGB", colour) for colour in ("red", "blue")]
    for suffix in ("gif", "png", "tiff", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert pixel(path) == (255, 0, 0), suffix


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 2), 2.0, np.float32), r"values from 2 to 2, outside 0\.\.1"),
        (np.array([[0, np.nan]], np.float32), r"outside 0\.\.1"),
        (np.full((2, 2), 70000, np.int32), "32-bit integers, whose range is not known"),
    ],
)
def test_values_without_a_known_range_are_refused(
    tmp_path: Path, values: Any, message: str
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(BadInput, match=message):
        open_picture(tmp_path / "a.tiff")


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "jpeg")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:1500])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "fifo.png")
    messages = {
        "cut.jpg": "cannot be decoded: .*truncated",
        "text.png": "not a picture of a known format",
        "empty.png": "not a picture of a known format",
        "fifo.png": "not a regular file",
        ".": "not a regular file",
        "none.png": "no such file",
    }
    for name, message in messages.items():
        with pytest.raises(BadInput, match=message):
            open_picture(tmp_path / name)


def halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right, a green band along the top edge."""
    values = np.zeros((height, width, 3), np.uint8)
    values[:, : width // 2, 0] = 255
    values[:, width // 2 :, 2] = 255
    values[: height // 4] = [0, 255, 0]
    return Image.fromarray(values)


@pytest.mark.parametrize("how", ["center-crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(64, 32), (32, 64), (7, 7), (400, 3), (1, 1), (48, 32)])
@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_any_picture_comes_to_the_size(
    how: Resize, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    one = fitted(halves(*shape), size, how)
    assert one.size == (size[1], size[0])
    assert one.tobytes() == fitted(halves(*shape), size, how).tobytes()


def test_how_a_picture_is_fitted() -> None:
    wide = halves(64, 32)
    assert fitted(halves(32, 32), (32, 32), "center-crop").tobytes() == halves(32, 32).tobytes()
    cut = np.asarray(fitted(wide, (32, 32), "center-crop"))
    assert np.array_equal(cut, np.asarray(wide)[:, 16:48])
    padded = fitted(wide, (32, 32), "pad", "grey")
    assert padded.getpixel((0, 0)) == padded.getpixel((0, 31)) == (128, 128, 128)
    assert padded.getpixel((2, 20)) == (255, 0, 0)
    stretched = fitted(wide, (32, 32), "stretch")
    assert stretched.getpixel((0, 31)) == (255, 0, 0)
    assert stretched.getpixel((31, 31)) == (0, 0, 255)
