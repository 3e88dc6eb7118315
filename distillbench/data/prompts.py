"""Prompt sets: those of the embedded worlds, named sets on this disk, and files of the user.

A named set such as "hpsv2" is a folder `$DISTILLBENCH_DATA/prompts/<name>/` (without that variable
`~/.cache/distillbench/prompts/<name>/`) with one `<style>.json`, a list of strings, per category.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from distillbench.api.prompts import PromptSet
from distillbench.data.prompt_files import SUFFIXES, is_prompt_file, read_prompt_file
from distillbench.errors import BadInput
from distillbench.files.places import data_root

__all__ = [
    "find_prompts", "load_prompts", "planned_prompts", "prompt_file", "prompt_identity",
    "prompts_folder",
]  # fmt: skip

GMM_PROMPTS = tuple(f"condition {k}" for k in range(8))
# HPSv2's file names against the names its tables use.
STYLE_NAMES = {"anime": "animation", "paintings": "painting"}
_Pairs = Sequence[tuple[str, str]]


def load_prompts(name: str) -> PromptSet:
    """The prompt set of a name ("world-eval", "gmm-train", "hpsv2") or of a file.

    Files (UTF-8, with or without a byte order mark): .txt, one prompt a line of the file; .csv and
    .tsv, whose header names a column `prompt` and maybe `category`; .json, a list of prompts or an
    object category -> list; .jsonl, a prompt a line. A prompt in JSON is a string or an object
    {"prompt": ..., "category": ...}. Blank lines are passed over. Sets with categories are
    interleaved, so that the first n prompts hold all categories evenly. A colon and categories
    behind a name leave these alone, such as "world-train:photo,painting".

    Raises:
        BadInput: no such set or file, or entries that are no prompts, one line for each.
    """
    found = find_prompts(name)
    if found is None:
        raise BadInput(
            f"prompt set {name!r} is not on this disk: no {{style}}.json in {prompts_folder(name)}",
            hint="put one JSON list of prompts per style there, or name a .txt/.json/.jsonl file",
        )
    return found


def find_prompts(name: str) -> PromptSet | None:
    """As `load_prompts`, but None for a named set whose files are not on this disk."""
    name, _, categories = _parts(name)
    if categories:
        whole = find_prompts(name)
        return _only(whole, categories.split(",")) if whole is not None else None
    if name.startswith("world-"):
        from distillbench.world.prompts import prompt_set

        return prompt_set(name)
    if name in ("gmm-train", "gmm-eval"):
        return PromptSet(name, GMM_PROMPTS, ("",) * len(GMM_PROMPTS))
    if is_prompt_file(name):
        return _make(name, [Path(os.path.expanduser(name))])
    if "/" in name or "\\" in name or name in ("", ".", ".."):
        raise BadInput(
            f"{name!r} is neither a prompt file ({', '.join(SUFFIXES)}) nor the name of a set"
        )
    folder = prompts_folder(name)
    files = sorted(p for p in folder.glob("*") if is_prompt_file(p.name))
    return _make(name, files, styled=True) if files else None


def prompts_folder(name: str) -> Path:
    """Where a named set belongs."""
    return data_root() / "prompts" / _parts(name)[0]


def prompt_file(name: str) -> str:
    """The absolute path of a set that is a file of the user, "" for a named one."""
    stem, colon, categories = _parts(name)
    if stem.startswith(("world-", "gmm-")) or not is_prompt_file(stem):
        return ""
    return str(Path(os.path.expanduser(stem)).absolute()) + colon + categories


def planned_prompts(name: str, sha256: str) -> PromptSet:
    """The set of that name, or in that file, that a stage was planned with.

    Raises:
        BadInput: it is another by now, or not there.
    """
    found = load_prompts(name)
    if sha256 != found.sha256:
        raise BadInput(f"prompt set {name} changed since this stage was planned")
    return found


def prompt_identity(name: str) -> str:
    """The set's sha256, or "missing:<name>" for a named set whose files are not on this disk.

    So a grid over a paper's prompts can be planned on a machine without them.

    Raises:
        BadInput: a file that is missing or malformed.
    """
    found = find_prompts(name)
    return found.sha256 if found else f"missing:{name}"


def _make(name: str, files: Sequence[Path], *, styled: bool = False) -> PromptSet:
    read, problems = [], []
    for path in files:
        try:
            read.append(read_prompt_file(path, _style(path) if styled else ""))
        except BadInput as error:
            problems.append(error.line)
    if problems:
        raise BadInput("\n".join(problems))
    written = [pair for file in read for pair in file.pairs]
    mixed = _interleaved(written)
    if not mixed:
        raise BadInput(f"{name}: holds no prompts")
    unread = tuple(dict.fromkeys(name for file in read for name in file.unread))
    prompts, categories = zip(*mixed, strict=True)
    return PromptSet(name, prompts, categories, unread, mixed != written)


def _parts(name: str) -> tuple[str, str, str]:
    """A set's name, and behind a colon the categories that are wanted of it."""
    if is_prompt_file(name) or ":" not in name:
        return name, "", ""
    return name.rpartition(":")


def _only(whole: PromptSet, wanted: Sequence[str]) -> PromptSet:
    if strange := [name for name in wanted if name not in whole.categories]:
        known = ", ".join(sorted(set(whole.categories)))
        raise BadInput(f"{whole.name}: no category {strange[0]!r}; it has: {known or 'none'}")
    kept = [i for i, category in enumerate(whole.categories) if category in wanted]
    prompts, categories = (tuple(v[i] for i in kept) for v in (whole.prompts, whole.categories))
    reordered = whole.reordered and len(set(categories)) > 1
    name = f"{whole.name}:{','.join(wanted)}"
    return PromptSet(name, prompts, categories, whole.unread, reordered)


def _style(path: Path) -> str:
    return STYLE_NAMES.get(path.stem, path.stem)


def _interleaved(pairs: _Pairs) -> list[tuple[str, str]]:
    """The first of each category, then the second of each, and so on."""
    columns: dict[str, list[tuple[str, str]]] = {}
    for pair in pairs:
        columns.setdefault(pair[1], []).append(pair)
    if len(columns) == 1:
        return list(pairs)
    return [pair for row in zip_longest(*columns.values()) for pair in row if pair is not None]
