"""Paths in an experiment file: what lies beside the file is found from wherever it is run.

A path is looked for beside the file first, then from the working folder, as a plug-in's is. Those
of `--set` are typed in the working folder, and are looked for there alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, Final

from distillbench.api.fields import neutral
from distillbench.api.registry import BACKBONES, METHODS, METRICS, Registry
from distillbench.errors import PluginError
from distillbench.files.marks import MapNode, Mark, Path, SeqNode, locate, set_path

__all__ = ["beside", "found_beside", "looked_in"]

PLACES: Final = frozenset({"prompts", "images", "samples", "weights", "encoder"})
"""Keys that name files or folders; of a plug-in's settings, those marked NEUTRAL do."""
_SLASHED: Final = frozenset({"images", "reference"})
"""Here a text without a slash is the name of a set in the data folder."""
_AFTER: Final = {"prompts": ":", "samples": "{", "weights": "#"}
"""What may stand behind a path: categories, the seed, a digest."""
_KINDS: Final[dict[str, Registry[Any]]] = {"backbones": BACKBONES, "metrics": METRICS}


def found_beside(tree: MapNode, folder: FilePath) -> MapNode:
    """The experiment, with paths of what lies in the file's folder leading there."""
    if _is_here(folder):
        return tree
    result: MapNode = tree
    for path, text in _texts(tree, ()):
        mark, _ = locate(tree, path)
        led = text if mark.source.startswith("--") else beside(text, folder, _setting(tree, path))
        if led != text:
            result = set_path(result, path, led, mark)
    return result


def beside(text: str, folder: FilePath, setting: str) -> str:
    """Where the file that a setting names lies in `folder`; the text as it is where none does.

    Args:
        setting: its name, which decides what is a path; "" names no file.
    """
    for path in dict.fromkeys((text, text.partition(_AFTER.get(setting, "#"))[0])):
        if _is_path(path, setting) and (folder / path).exists():
            return os.path.join(folder, text)
    return text


def looked_in(text: str, mark: Mark) -> str:
    """What a message about a path where nothing is says behind it: the folders it can be in.

    Nothing where there is one such folder: of a whole path, or of one typed behind `--set`.
    """
    folder = FilePath(mark.source).parent
    one = mark.source.startswith("--") or _is_here(folder)
    whole = os.path.isabs(os.path.expanduser(text))
    return "" if one or whole else f" (neither beside {mark.source} nor in {FilePath.cwd()})"


def _is_here(folder: FilePath) -> bool:
    return folder.resolve() == FilePath.cwd()


def _is_path(text: str, setting: str) -> bool:
    if not text or not setting or os.path.isabs(os.path.expanduser(text)):
        return False
    ending = FilePath(text).suffix[1:2]  # begins with a letter: "hpsv2.1" is a name
    named = setting in _SLASHED or not ending.isalpha()
    return "/" in text or setting == "samples" or not named


def _texts(node: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """All texts of a tree and where they stand."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, MapNode | SeqNode):
        entries = node.items() if isinstance(node, MapNode) else enumerate(node)
        for part, value in entries:
            yield from _texts(value, (*path, part))


def _setting(tree: MapNode, path: Path) -> str:
    """The name of the setting at a path, "" where it names no file."""
    words = [word for part in path if isinstance(part, str) for word in part.split(".")]
    if "params" not in words:
        return words[-1] if words[-1] in PLACES else ""
    own = words[words.index("params") + 1 :]
    return own[0] if own and own[0] in _own(tree, path) else ""


def _own(tree: MapNode, path: Path) -> frozenset[str]:
    """The settings that are in no key of the plug-in that a path is of."""
    try:
        return neutral(_KINDS.get(str(path[0]), METHODS).get(_plugin(tree, path)).Config)
    except PluginError:  # told where plug-ins are looked at
        return frozenset()


def _plugin(tree: MapNode, path: Path) -> str:
    """Its name: said beside the settings or above them, for rows also by `base`."""
    if path[0] == "for_method":
        return str(path[1])
    node: Any = tree
    base = tree.get("base")
    name = base.get("method", "") if isinstance(base, dict) else ""
    for part in path[:-1]:
        node = node[part]
        if isinstance(node, dict):
            name = node.get("use") or node.get("method") or name
    return str(name)
