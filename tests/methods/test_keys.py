"""The keys that default parameters give: whatever changes them orphans every finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from distillbench.api import registry
from distillbench.api.fields import ADDED, SAMPLING, split
from distillbench.plan.identity import content_key

GOLDEN = Path(__file__).parents[1] / "golden" / "default_params.json"


def method_part(name: str) -> dict[str, Any]:
    """What a training's spec says of a method with its defaults, and what it leaves out."""
    method = registry.build_method(name, {}, registry.build_backbone("gmm", {}))
    parts = split(method.config)
    part = {"name": name, "version": method.version, "params": dict(parts.decisive)}
    return {"key": content_key(part), **part, "in no training's key": dict(parts.marked)}


def backbone_part(name: str) -> dict[str, Any]:
    """What it says of a backbone, but for the revision of weights that may not be here."""
    parts = split(registry.build_backbone(name, {}).config)
    part = {"name": name, "params": dict(parts.decisive)}
    return {"key": content_key(part), **part, "in no key": dict(parts.marked)}


def shipped(of: Any) -> list[str]:
    """Names that are not of a plug-in which another test of this process has added."""
    return [name for name in of.names() if not of.origin(name).startswith("--plugin")]


def found() -> dict[str, dict[str, Any]]:
    """Parts and keys of all methods and backbones."""
    parts = {
        "methods": [method_part(name) for name in shipped(registry.METHODS)],
        "backbones": [backbone_part(name) for name in shipped(registry.BACKBONES)],
    }
    return {kind: {part["name"]: part for part in of_kind} for kind, of_kind in parts.items()}


@pytest.mark.parametrize("kind", ["methods", "backbones"])
def test_default_parameters_have_their_golden_keys(kind: str) -> None:
    """A new field, name or default changes the key, and with it all that was trained before.

    Where that is meant, and for a new plug-in, write the file anew: run this file as a program.
    """
    golden = json.loads(GOLDEN.read_text())[kind]
    assert found()[kind] == golden


def test_an_added_field_is_in_no_key_at_its_default() -> None:
    class Config(BaseModel):
        old: int = 1
        new: Annotated[int, ADDED] = 2
        drawn: Annotated[int, ADDED, SAMPLING] = 3

    assert split(Config()).decisive == split(Config(new=2)).decisive == {"old": 1}
    assert split(Config(new=3)).decisive == {"old": 1, "new": 3}
    assert split(Config(drawn=4)).marked == {"drawn": 4}
    assert not split(Config()).marked


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(found(), indent=1) + "\n")
