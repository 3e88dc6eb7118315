"""Nested mappings as dotted paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["leaves"]


def leaves(value: Any, path: str = "", *, between: str = ".") -> Iterator[tuple[str, Any]]:
    """`("a.b", 1)` for every value that is no mapping; tuples become lists, as JSON has them.

    An empty mapping is a leaf of its own.
    """
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            name = f"{path}{between}{key}" if path else str(key)
            yield from leaves(inner, name, between=between)
    elif isinstance(value, tuple):
        yield path, list(value)
    else:
        yield path, value
