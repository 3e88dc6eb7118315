"""Starting Python processes of ours, so that the current folder shadows no module.

`python -c` and `python -m` look for modules in the current folder first: a `json.py` that lies
there would run in place of the standard library's. Our processes start with `-P`, which leaves that
folder out, and find this package by its place, wherever it was imported from. Nothing of ours can
be imported before that is done, so what does it travels as text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["command", "import_path", "remote_call"]

_PACKAGE = str(Path(__file__).resolve().parent)
_ADOPT = """\
def adopt(package):
    import importlib.util, os, sys
    start = os.path.join(package, "__init__.py")
    if "distillbench" in sys.modules or not os.path.exists(start):
        return
    spec = importlib.util.spec_from_file_location(
        "distillbench", start, submodule_search_locations=[package])
    module = sys.modules["distillbench"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

def call(target, arguments):
    import importlib
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)
"""
_CHILD = """
import json, sys
package, path, target, arguments = json.loads(sys.argv[1])
sys.path[:] = path
adopt(package)
call(target, arguments)
"""
# A worker of Ray has an import path of its own; ours comes after it, for plug-ins alone.
_REMOTE = """
def remote(package, path, target, *arguments):
    import os, sys
    own = [p for p in sys.path if p and not os.path.abspath(p).startswith(package)]
    sys.path[:] = own + [p for p in path if p not in own]
    adopt(package)
    return call(target, arguments)
"""


def import_path() -> list[str]:
    """Where this process imports from, without what only means "the current folder"."""
    return [entry for entry in sys.path if entry]


def command(target: str, *arguments: str) -> list[str]:
    """The command line that calls `module:function` with text arguments in a new process."""
    job = json.dumps([_PACKAGE, import_path(), target, arguments])
    return [sys.executable, "-P", "-c", _ADOPT + _CHILD, job]


def remote_call() -> tuple[Callable[..., Any], tuple[str, list[str]]]:
    """A function for workers elsewhere, pickled by value, and its first two arguments.

    What follows them is `module:function` and that function's own arguments.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}  # what is of no module travels whole
    exec(_ADOPT + _REMOTE, namespace)
    outside = [p for p in import_path() if not p.startswith((sys.prefix, sys.base_prefix))]
    return namespace["remote"], (_PACKAGE, outside)
