"""Running a plan: `driver` walks the stages, `worker` runs one, `local` and `ray` lend a place.

Called, it runs an experiment: `distillbench.run(FILE)`; `distillbench.python.run` is that.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package that is also the function of its name in `distillbench.python`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("distillbench.python").run(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
