"""distillbench: train, sample, score and tabulate few-step diffusion distillation.

The engine names no method or metric. Those live in the top-level folders `methods/` and
`metrics/` of the project and install as `distillbench.methods` and `distillbench.metrics`.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

# `python -m distillbench` looks for modules in the current folder first: a json.py that lies there
# would run in place of the standard library's. This package needs nothing of that folder.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[0] == os.getcwd():
    del sys.path[0]

from distillbench._version import __version__

__all__ = ["__version__"]

_DOOR = ("compare", "load_student", "results")


def __getattr__(name: str) -> Any:
    """What `distillbench.python` offers, loaded at its first use; `run` is a package of that name
    that can be called."""
    if name in _DOOR:
        return getattr(import_module("distillbench.python"), name)
    if name == "run":
        return import_module("distillbench.run")
    raise AttributeError(f"module 'distillbench' has no attribute {name!r}")


# Checkout guard: in a source tree the two plug-in folders lie beside this package, not inside
# it, so make them importable as sub-packages there too (an installed wheel already has them).
_checkout = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_parts = (os.path.join(_checkout, name) for name in ("pyproject.toml", "methods"))
if all(map(os.path.exists, _parts)):
    __path__.append(_checkout)
