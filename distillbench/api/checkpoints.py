"""The catalogue of published few-step checkpoints, read from `checkpoints.toml` (no torch)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from distillbench.api.registry import BACKBONES
from distillbench.errors import NotSupported
from distillbench.files.marks import did_you_mean

__all__ = ["Checkpoint", "checkpoint", "checkpoints", "refuse_other_family"]

FILE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Checkpoint:
    """One entry.

    Attributes:
        name: what a row's `recipe` names it by.
        title: display name.
        backbone: the registered family it is for.
        nfe: network evaluations it is published for.
        mark: "read" in its sources, "recalled", "run" or "checked" with the real weights.
        sources: where its facts are from.
        params: settings of a row; empty where the weights were never released.
        unchecked: what of it nobody has checked; "" where all is.
        licence: of the weights, as far as known.
        published: tables that print it.
        unpublished: why there are no weights; "" where there are.
    """

    name: str
    title: str
    backbone: str
    nfe: tuple[int, ...]
    mark: str
    sources: tuple[str, ...]
    params: Mapping[str, Any]
    unchecked: str = ""
    licence: str = ""
    published: str = ""
    unpublished: str = ""


@cache
def checkpoints() -> Mapping[str, Checkpoint]:
    """Name -> entry, in the file's order."""
    read = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {name: _entry(name, dict(fields)) for name, fields in read.items()}


def _entry(name: str, fields: dict[str, Any]) -> Checkpoint:
    params = fields.pop("params", {})
    facts = {key: fields[key] for key in ("licence", "published", "unchecked") if key in fields}
    if params:
        params = {**params, "note": facts}
    nfe, sources = tuple(fields.pop("nfe")), tuple(fields.pop("sources"))
    return Checkpoint(name=name, nfe=nfe, sources=sources, params=params, **fields)


def checkpoint(name: str) -> Checkpoint:
    """The entry of a name.

    Raises:
        ValueError: there is none, or its weights were never released.
    """
    known = checkpoints()
    if name not in known:
        near = did_you_mean(name, known)
        raise ValueError(f"unknown checkpoint {name!r}; see: distillbench list checkpoints.{near}")
    if why := known[name].unpublished:
        raise ValueError(f"{known[name].title}: its weights were never released: {why}")
    return known[name]


def refuse_other_family(name: str, backbone: object) -> None:
    """Refuse an entry of another family before anything is fetched.

    A backbone that is of none of the families in the catalogue is left to the files' headers.

    Raises:
        NotSupported: the backbone is of another family.
        ValueError: as `checkpoint`.
    """
    entry = checkpoint(name)
    names = dict.fromkeys(other.backbone for other in checkpoints().values())
    families = [other for other in names if isinstance(backbone, BACKBONES.get(other))]
    if families and entry.backbone not in families:
        mine = families[0]
        raise NotSupported(f"{entry.title} is for {entry.backbone}, the backbone is of {mine}")
