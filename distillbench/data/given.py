"""Samples that another tool made: which file is of which prompt, and whether all can be read.

A file is led to its prompt by the first of these that there is: `samples.jsonl` or
`captions.jsonl` in the folder; folders that are called as the categories of the prompts; names that
are the prompts; the order of the files, by the numbers in their names. No torch here.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distillbench.api.prompts import PromptSet
from distillbench.data.captions import read_captions
from distillbench.data.looked_at import remembered
from distillbench.data.moving import VIDEOS, read_frames, require_decoder
from distillbench.data.pictures import open_picture
from distillbench.data.prompts import STYLE_NAMES
from distillbench.errors import BadInput
from distillbench.files.hashes import file_sha256, folder_book

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GivenSamples", "given_samples", "read_sample"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LISTS = {"samples.jsonl": "prompt", "captions.jsonl": "text"}
_BESIDE = (".txt", ".json", ".jsonl", ".csv", ".md", ".yaml", ".yml", ".log", ".html", ".pdf")
_WRONG = "! "
_LISTED = 'say which is which in samples.jsonl: {"file": "a.png", "prompt": "..."} a line'


@dataclass(frozen=True)
class GivenSamples:
    """One file a sample, in the order of the prompts.

    Attributes:
        looks: what all of them are, such as "picture 512x512".
    """

    root: Path
    files: tuple[str, ...]
    looks: str

    @property
    def modality(self) -> Literal["image", "video"]:
        """Of all of them."""
        return "video" if self.looks.startswith("video") else "image"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of all of them."""
        width, height = self.looks.split()[-1].split("x")
        return int(height), int(width)

    @property
    def sha256(self) -> str:
        """Over the content of the files in the order of the prompts; names change nothing."""
        book, digest = folder_book("samples", self.root), hashlib.sha256()
        for file in self.files:
            digest.update(f"{file_sha256(self.root / file, book=book)}\n".encode())
        return digest.hexdigest()


def given_samples(root: Path, prompts: PromptSet, n: int) -> GivenSamples:
    """The files of a folder for the first `n` prompts, a short set cycled; each is decoded once.

    Raises:
        BadInput: there is no such folder, prompts lack files, files cannot be read or are not
            alike; one line for each.
    """
    if not root.is_dir():
        raise BadInput(f"no folder {root}" if not root.exists() else f"{root}: is no folder")
    files = _assigned(root, prompts, n)
    if twice := [file for file, count in Counter(files).items() if count > 1]:
        raise BadInput(f"{root}: {len(twice)} files are of several samples: {_shown(twice)}")
    require_decoder(files)
    looks = remembered(root, files, _looks, shelf="samples")
    bad = [f"{root / file}: {look.removeprefix(_WRONG)}"
           for file, look in zip(files, looks, strict=True) if look.startswith(_WRONG)]  # fmt: skip
    if bad:
        raise BadInput("\n".join(bad))
    kinds: dict[str, list[str]] = defaultdict(list)
    for file, look in zip(files, looks, strict=True):
        kinds[look].append(file)
    if len(kinds) > 1:
        told = "; ".join(f"{look}: {_shown(named)}" for look, named in kinds.items())
        raise BadInput(f"{root}: samples of a row must be alike in size and length; {told}")
    return GivenSamples(root, tuple(files), next(iter(kinds)))


def read_sample(path: Path) -> np.ndarray:
    """A picture (H, W, 3) or a video (frames, H, W, 3), uint8.

    Pictures come as `open_picture` brings them: RGB, upright, transparent parts laid on white.

    Raises:
        BadInput: it cannot be read; one line.
    """
    import numpy as np

    if path.suffix.lower() in VIDEOS:
        return read_frames(path)
    return np.asarray(open_picture(path))


def _looks(path: Path) -> str:
    """What a file is, or behind `_WRONG` why it is no sample."""
    try:
        shape = read_sample(path).shape
    except BadInput as error:
        return _WRONG + error.line.removeprefix(f"{path}: ")
    except MemoryError:
        return f"{_WRONG}too large for this machine's memory"
    size = f"{shape[-2]}x{shape[-3]}"
    return f"picture {size}" if len(shape) == 3 else f"video of {shape[0]} frames {size}"


# ---- files and prompts --------------------------------------------------------------------


def _assigned(root: Path, prompts: PromptSet, n: int) -> list[str]:
    listed = [name for name in LISTS if (root / name).is_file()]
    if len(listed) > 1:
        raise BadInput(f"{root}: has {' and '.join(listed)}; leave one of them")
    if listed:
        read = read_captions(root, listed[0], LISTS[listed[0]])
        return _by_prompt(root, list(zip(read.files, read.texts, strict=True)), prompts, n)
    files = _files(root)
    if named := _named(root, files, prompts):
        return _by_prompt(root, named, prompts, n)
    if not files:
        return _by_category(root, prompts, n)
    if prompts.reordered:
        raise BadInput(
            f"{root}: the order of its files does not say which is of which prompt: prompts of "
            f"several categories are taken in turn, and stand otherwise in {prompts.name}",
            hint=f"put them into folders called as the categories, or {_LISTED}",
        )
    return _in_order(root, files, n, len(prompts))


def _wanted(values: Sequence[str], n: int) -> list[str]:
    return [values[i % len(values)] for i in range(n)]


def _by_prompt(
    root: Path, pairs: Iterable[tuple[str, str]], prompts: PromptSet, n: int
) -> list[str]:
    """Files by the prompts that they are said to be of; more than are asked for may be there."""
    waiting: dict[str, deque[str]] = defaultdict(deque)
    for file, prompt in pairs:
        waiting[prompt].append(file)
    strange = [waiting[p][0] for p in waiting.keys() - set(prompts.prompts)]
    asked = _wanted(prompts.prompts, n)
    found = [waiting[p].popleft() if waiting.get(p) else "" for p in asked]
    lacking = [p for p, file in zip(asked, found, strict=True) if not file]
    said = []
    if lacking:
        said.append(f"{len(lacking)} of {n} prompts have no file ({_shown(lacking, quoted=True)})")
    if strange:
        said.append(f"{len(strange)} files are of no prompt of the set ({_shown(strange)})")
    if said:
        raise BadInput(f"{root}: {'; '.join(said)}")
    return found


def _named(root: Path, files: Sequence[str], prompts: PromptSet) -> list[tuple[str, str]]:
    """(file, prompt) where names are prompts, or prompts with a number behind (VBench's)."""
    known = set(prompts.prompts)
    found = {}
    for file in files:
        stem = Path(file).stem
        prompt = stem if stem in known else re.sub(r"-[0-9]+$", "", stem)
        if prompt in known:
            found[file] = prompt
    if found and len(found) < len(files):
        lone = [file for file in files if file not in found]
        raise BadInput(f"{root}: names of files are prompts, but for {len(lone)}: {_shown(lone)}")
    return list(found.items())


def _in_order(root: Path, files: Sequence[str], n: int, size: int) -> list[str]:
    """The first n files, where their number says which prompts they are of.

    Of several files a prompt a part is none that can be told: they may go through the set again and
    again, as samples do, or stand together by prompt.
    """
    if len(files) == n or len(files) == size > n:
        return list(files[:n])
    raise BadInput(
        f"{root}: {len(files)} files for {n} samples; in the order of their names there must be "
        f"one for each of {n}, or for each prompt of the set ({size})",
        hint=f"or {_LISTED}",
    )


def _by_category(root: Path, prompts: PromptSet, n: int) -> list[str]:
    """Files in folders that are called as the categories are, in order within each."""
    folders = {STYLE_NAMES.get(p.name, p.name): p for p in root.iterdir() if p.is_dir()}
    asked, whole = Counter(_wanted(prompts.categories, n)), Counter(prompts.categories)
    if "" in asked or not folders.keys() & asked.keys():
        raise BadInput(f"{root}: no pictures or videos in it")
    if lacking := sorted(asked.keys() - folders.keys()):
        raise BadInput(f"{root}: no folder for the category {_shown(lacking)}")
    waiting = {}
    for name, count in asked.items():
        place = folders[name]
        files = _in_order(place, _files(place), count, whole[name])
        waiting[name] = deque(f"{place.name}/{file}" for file in files)
    return [waiting[name].popleft() for name in _wanted(prompts.categories, n)]


def _files(folder: Path) -> list[str]:
    """Names of the samples in a folder, by the numbers in them; texts beside them do not count."""
    paths = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    found = sorted((p for p in paths if p.suffix.lower() not in _BESIDE), key=_place)
    strange = [p.name for p in found if p.suffix.lower() not in (*PICTURES, *VIDEOS)]
    if strange:
        kinds = ", ".join((*PICTURES[:3], *VIDEOS[:2]))
        raise BadInput(f"{folder}: {_shown(strange)}: no picture or video ({kinds}, ...)")
    stems = Counter(p.stem.lower() for p in found)
    if twice := [p.name for p in found if stems[p.stem.lower()] > 1]:
        raise BadInput(f"{folder}: files of one name: {_shown(twice)}")
    return [p.name for p in found]


def _place(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", path.stem)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name


def _shown(names: Sequence[str], *, quoted: bool = False) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(n) if quoted else n for n in names[:3]) + more
