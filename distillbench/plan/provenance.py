"""Where a stage's numbers come from: code, packages and machine. Never part of a key."""

from __future__ import annotations

import inspect
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import distillbench
from distillbench.files.io import sha256
from distillbench.plan.devices import gpu_names
from distillbench.plan.stage import Stage

__all__ = ["provenance"]

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
        "plugins": _plugins(stage.spec),
        "packages": _packages(),
        "python": platform.python_version(),
        "device": _device(device),
        "threads": stage.runtime.get("threads", 1),
        "host": platform.node(),
    }


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
def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _plugins(spec: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Source file and its digest, for each plug-in the stage names."""
    from distillbench.api.registry import BACKBONES, METHODS, METRICS

    found = {}
    for role, registry in (("backbone", BACKBONES), ("method", METHODS), ("metric", METRICS)):
        if role in spec:
            source = inspect.getsourcefile(registry.get(spec[role]["name"]))
            if source:
                found[role] = {"source": Path(source).name, "sha256": sha256(Path(source))}
    return found


def _device(device: str) -> str:
    if device.startswith("cuda"):
        return f"{device} ({gpu_names() or 'unknown'})"
    return f"cpu ({platform.processor() or platform.machine()}, {os.cpu_count()} cores)"
