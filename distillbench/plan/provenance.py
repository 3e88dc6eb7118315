"""Where a stage's numbers come from: code, packages and machine. Never part of a key."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import distillbench
from distillbench.plan.devices import gpu_names
from distillbench.plan.origin import origin_of
from distillbench.plan.stage import Stage
from distillbench.specs.stages import AnySpec

__all__ = ["made_by", "package_versions", "provenance"]

_PACKAGES = (
    "accelerate", "diffusers", "numpy", "open_clip_torch", "peft", "safetensors", "torch",
    "torchvision", "transformers",
)  # fmt: skip


def provenance(stage: Stage, *, device: str, attempt: int) -> dict[str, Any]:
    """Describe one attempt at a stage."""
    return {
        "attempt": attempt,
        "started": time.time(),
        "code": {"distillbench": distillbench.__version__, **_checkout()},
        **made_by(stage.record),
        "python": platform.python_version(),
        "device": _device(device),
        "threads": stage.options.threads,
        "host": platform.node(),
    }


def made_by(spec: AnySpec) -> dict[str, Any]:
    """The code that makes a stage of this spec here: sources of plug-ins, versions of packages.

    Raises:
        PluginError: a plug-in that it names is not there.
    """
    from distillbench.api.registry import BACKBONES, METHODS, METRICS

    known: dict[str, Any] = {"backbone": BACKBONES, "method": METHODS, "metric": METRICS}
    found = {
        role: {"name": plugin.name, **origin_of(known[role].get(plugin.name)).as_json()}
        for role, plugin in spec.plugins.items()
    }
    return {"plugins": found, "packages": dict(package_versions())}


@cache
def _checkout() -> dict[str, Any]:
    """Commit and dirty flag of the source tree; empty for an installed package."""
    root = Path(distillbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {}
    commit = _git(root, "rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))} if commit else {}


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):  # provenance is best effort without git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def package_versions() -> dict[str, str]:
    """Package -> version, of those that may change a number."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _device(device: str) -> str:
    if device.startswith("cuda"):
        return f"{device} ({gpu_names() or 'unknown'})"
    return f"cpu ({platform.processor() or platform.machine()}, {os.cpu_count()} cores)"
