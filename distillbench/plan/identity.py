"""Content keys: the hash of everything that may change a number, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from distillbench.specs.stages import IDENTITY_VERSION

__all__ = ["IDENTITY_VERSION", "canonical_json", "content_key"]

KEY_LENGTH = 20


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, ASCII only and floats as `repr` has them.

    Raises:
        ValueError: a number is not finite.
        TypeError: a value is not JSON-able.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def content_key(spec: Mapping[str, Any]) -> str:
    """The first 20 hex digits of the SHA-256 of a spec's canonical JSON."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:KEY_LENGTH]
