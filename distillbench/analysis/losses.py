"""The log of a training's losses, train.jsonl, as far as it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["read_losses"]


def read_losses(path: Path) -> list[dict[str, Any]]:
    """The lines of a train.jsonl, up to one that is torn; [] where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows
