"""Prompt sets: those of the embedded worlds, named sets on this disk, and files of the user.

A named set such as "hpsv2" is a folder `$DISTILLBENCH_DATA/prompts/<name>/` (without that variable
`~/.cache/distillbench/prompts/<name>/`) with one `<style>.json`, a list of strings, per category.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from distillbench.datadir import data_root
from distillbench.errors import BadInput

__all__ = ["PromptSet", "load_prompts", "planned_prompts", "prompt_file", "prompt_identity"]

GMM_PROMPTS = tuple(f"condition {k}" for k in range(8))
# HPSv2's file names against the names its tables use.
STYLE_NAMES = {"anime": "animation", "paintings": "painting"}
SUFFIXES = (".txt", ".json", ".jsonl")
_Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class PromptSet:
    """Prompts, each with a category name ("" for none); `sha256` is over both, line by line."""

    name: str
    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        lines = (f"{c}\t{p}\n" for c, p in zip(self.categories, self.prompts, strict=True))
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        object.__setattr__(self, "sha256", digest)

    def __len__(self) -> int:
        return len(self.prompts)


def load_prompts(name: str) -> PromptSet:
    """The prompt set of a name ("world-eval", "gmm-train", "hpsv2") or of a file.

    Files: .txt (one prompt a line), .json (a list of strings, or category -> list), .jsonl (strings
    or {"prompt": ..., "category": ...} a line). Sets with categories are interleaved, so that the
    first n prompts hold all categories evenly.

    Raises:
        BadInput: no such set or file, or a file that holds something else.
    """
    if name.startswith("world-"):
        from distillbench.world.prompts import prompt_set

        return prompt_set(name)
    if name in ("gmm-train", "gmm-eval"):
        return PromptSet(name, GMM_PROMPTS, ("",) * len(GMM_PROMPTS))
    if name.endswith(SUFFIXES):
        return _make(name, _read(Path(name).expanduser()))
    folder = _folder(name)
    files = sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES) if name else []
    if not files:
        raise BadInput(
            f"prompt set {name!r} is not on this disk: no {{style}}.json in {folder}",
            hint="put one JSON list of prompts per style there, or name a .txt/.json/.jsonl file",
        )
    return _make(name, [pair for path in files for pair in _read(path, _style(path))])


def prompt_file(name: str) -> str:
    """The absolute path of a set that is a file of the user, "" for a named one."""
    if name.startswith(("world-", "gmm-")) or not name.endswith(SUFFIXES):
        return ""
    return str(Path(name).expanduser().absolute())


def planned_prompts(name: str, sha256: str, *, file: str = "") -> PromptSet:
    """The set that a stage was planned with: a named one, or what lies in `file`.

    Raises:
        BadInput: it is another by now, or not there.
    """
    found = load_prompts(name or file)
    if sha256 not in ("", found.sha256):
        raise BadInput(f"prompt set {name or file} changed since this stage was planned")
    return found


def prompt_identity(name: str) -> str:
    """The set's sha256, or "missing:<name>" for a named set whose files are not on this disk.

    So a grid over a paper's prompts can be planned on a machine without them.

    Raises:
        BadInput: a file that is missing or malformed.
    """
    embedded = name.startswith(("world-", "gmm-")) or name.endswith(SUFFIXES)
    if name and not embedded and not any(_folder(name).glob("*")):
        return f"missing:{name}"
    return load_prompts(name).sha256


def _folder(name: str) -> Path:
    return data_root() / "prompts" / name


def _style(path: Path) -> str:
    return STYLE_NAMES.get(path.stem, path.stem)


def _make(name: str, pairs: _Pairs) -> PromptSet:
    columns = [
        [pair for pair in pairs if pair[1] == style] for style in dict.fromkeys(c for _, c in pairs)
    ]
    mixed = [pair for row in zip_longest(*columns) for pair in row if pair is not None]
    if not mixed:
        raise BadInput(f"{name}: holds no prompts")
    return PromptSet(name, tuple(p for p, _ in mixed), tuple(c for _, c in mixed))


def _read(path: Path, style: str = "") -> _Pairs:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise BadInput(f"{path}: cannot be read as a prompt file: {reason}") from None
    if path.suffix == ".txt":
        return [(line.strip(), style) for line in text.splitlines() if line.strip()]
    try:
        if path.suffix == ".json":
            return list(_entries(json.loads(text), style))
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        return list(_entries(rows, style))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not a list of prompts ({error})") from None


def _entries(data: Any, style: str) -> Iterable[tuple[str, str]]:
    if isinstance(data, dict):
        for category, prompts in data.items():
            yield from _entries(prompts, category)
        return
    for row in data if isinstance(data, list) else [data]:
        prompt, category = row, style
        if isinstance(row, dict):
            prompt, category = row["prompt"], row.get("category", style)
        if not isinstance(prompt, str) or not isinstance(category, str):
            raise TypeError(f"{row!r} is not a prompt")
        yield prompt, category
