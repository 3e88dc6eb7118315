"""distillbench: train, sample, score and tabulate few-step diffusion distillation.

The engine names no method or metric. Those live in the top-level folders `methods/` and
`metrics/` of the project and install as `distillbench.methods` and `distillbench.metrics`.
"""

from __future__ import annotations

from pathlib import Path

from distillbench._version import __version__

__all__ = ["__version__"]

# Checkout guard: in a source tree the two plug-in folders lie beside this package, not inside
# it, so make them importable as sub-packages there too (an installed wheel already has them).
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "methods").is_dir():
    __path__.append(str(_checkout))
