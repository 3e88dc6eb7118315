"""A stand-in for torch that imports the real one on first use.

Listing, planning, validating and tabulating read the plug-in files for their names and their
`Config`, which must not cost the seconds that importing torch takes. Modules on that path
write `from distillbench.core.lazy import torch` and touch no attribute while being imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["F", "torch"]


class _LazyModule:
    """Forward attribute access to a module that is imported when first needed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch = _LazyModule("torch")
    F = _LazyModule("torch.nn.functional")
