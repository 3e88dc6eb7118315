"""Which training images and captions exactly: their identity in the key of a training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from distillbench.api.prompts import PromptSet
from distillbench.data.captions import read_captions
from distillbench.errors import BadInput
from distillbench.files.hashes import file_sha256, folder_book
from distillbench.specs.stages import DataSpec

__all__ = ["captions_identity", "images_identity", "planned_images"]


def images_identity(folder: Path) -> str:
    """sha256 over the content of every captioned image and its caption, in their order.

    What the files are called, and files that no caption names, change nothing. Each image is hashed
    once; see `files.hashes`.

    Raises:
        BadInput: captions or images that cannot be read.
    """
    captions, book = read_captions(folder), folder_book("images", folder)
    digest = hashlib.sha256()
    try:
        for path, text in zip(captions.paths, captions.texts, strict=True):
            digest.update(f"{file_sha256(path, book=book)}\t{json.dumps(text)}\n".encode())
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def captions_identity(folder: Path) -> str:
    """sha256 of the captions alone, which is that of a prompt set of the same texts.

    Raises:
        BadInput: captions that cannot be read.
    """
    texts = read_captions(folder).texts
    return PromptSet("", texts, ("",) * len(texts)).sha256


def planned_images(data: DataSpec, folder: str) -> str:
    """The folder of training images, or of captions alone, that a stage was planned with.

    Args:
        data: of the stage's spec.
        folder: where they lie; "" where none are read, and then that is returned.

    Raises:
        BadInput: it holds something else by now, or is not there.
    """
    pictures = data.images_sha256
    planned = pictures or (data.prompts_sha256 if folder else "")
    identity = images_identity if pictures else captions_identity
    if planned and (not Path(folder).is_dir() or identity(Path(folder)) != planned):
        raise BadInput(
            f"{folder}: not the training images that this run was planned with",
            hint="plan again on a machine that has them, and leave them as they are meanwhile",
        )
    return folder
