"""Isolated environments of packages that cannot share one with current transformers and diffusers.

They run as cross-check backends beside the native scorers (vbench: as the backend), each in its
own virtual environment made by `distillbench env create NAME`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distillbench.datadir import data_root
from distillbench.errors import BadInput, StageFailed

__all__ = ["ENVIRONMENTS", "Environment", "commands", "create", "environment_python", "home"]


@dataclass(frozen=True)
class Environment:
    """What one environment is made of.

    Attributes:
        requirements: pip requirements, resolved together.
        no_deps: requirements whose own pins would break the others; installed without them.
        imports: modules that must import in the finished environment.
        prelude: code run before these imports.
        notes: what the user still has to know.
    """

    requirements: tuple[str, ...]
    imports: tuple[str, ...]
    no_deps: tuple[str, ...] = ()
    prelude: str = ""
    notes: str = ""


ENVIRONMENTS: dict[str, Environment] = {
    # Its wheel pins protobuf 3 and an old pytest, and leaves the tokenizer's vocabulary out.
    "hpsv2": Environment(
        requirements=(
            "torch", "torchvision", "open_clip_torch>=3.0", "transformers", "clint", "webdataset",
            "braceexpand", "protobuf", "requests", "tqdm", "pandas",
        ),
        no_deps=("hpsv2==1.2.0",),
        imports=("hpsv2.img_score",),
        # The package imports a name from turtle, which needs tkinter.
        prelude="import sys, types; m = types.ModuleType('turtle'); m.forward = None; "
        "sys.modules['turtle'] = m",
        notes="copies open_clip's vocabulary into the package, which its wheel lacks",
    ),
    "image-reward": Environment(
        requirements=(
            "image-reward==1.5", "openai-clip==1.0.1", "transformers>=4.40,<4.56",
            "setuptools<81", "timm==0.6.13", "torch", "torchvision",
        ),
        imports=("ImageReward",),
        notes="needs transformers below 4.56 and setuptools below 81",
    ),
    "vbench": Environment(
        requirements=("vbench==0.1.5", "setuptools<81"),
        imports=("vbench",),
        notes="12 of 16 dimensions; object_class, multiple_objects, color and spatial_relationship "
        "also need detectron2, built from source",
    ),
}  # fmt: skip

_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def home() -> Path:
    """Where environments live: `$DISTILLBENCH_DATA/envs`, else under ~/.cache/distillbench."""
    return data_root() / "envs"


def environment_python(name: str) -> Path:
    """The interpreter of an environment that was created.

    Raises:
        BadInput: unknown, or not created yet.
    """
    _known(name)
    python = home() / name / "bin" / "python"
    if not python.is_file():
        raise BadInput(f"environment {name!r} is not there", hint=f"distillbench env create {name}")
    return python


def commands(name: str) -> list[list[str]]:
    """The commands that make an environment, in order; uv where it is installed, else pip.

    Raises:
        BadInput: unknown environment.
    """
    wanted, folder = _known(name), home() / name
    python = str(folder / "bin" / "python")
    if shutil.which("uv"):
        make = ["uv", "venv", "--python", sys.executable, str(folder)]
        install = ["uv", "pip", "install", "--python", python]
    else:
        make = [sys.executable, "-m", "venv", str(folder)]
        install = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    steps = [make, [*install, *wanted.requirements]]
    if wanted.no_deps:
        steps.append([*install, "--no-deps", *wanted.no_deps])
    return [*steps, [python, "-c", _check(wanted)]]


def create(name: str, *, say: Callable[[str], None]) -> Path:
    """Make an environment afresh and check that it imports; returns its folder.

    Raises:
        BadInput: unknown environment.
        StageFailed: a step failed; the half-made folder is removed.
    """
    steps = commands(name)
    folder = home() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps):
        say(" ".join(step) if number < len(steps) - 1 else "checking the imports")
        if number == len(steps) - 1:
            _mend(name, folder)
        result = subprocess.run(step, capture_output=True, text=True, check=False)
        if result.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            lines = (result.stderr or result.stdout).strip().splitlines() or ["no output"]
            raise StageFailed(f"environment {name}: `{step[0]}` failed: {lines[-1]}")
    return folder


def _check(wanted: Environment) -> str:
    imports = "import " + ", ".join(wanted.imports)
    return f"{wanted.prelude}; {imports}" if wanted.prelude else imports


def _mend(name: str, folder: Path) -> None:
    """Put open_clip's vocabulary where hpsv2 looks for it; the same file, left out of its wheel."""
    if name != "hpsv2":
        return
    for site in folder.glob("lib/python*/site-packages"):
        source = site / "open_clip" / _VOCABULARY
        target = site / "hpsv2" / "src" / "open_clip" / _VOCABULARY
        if source.is_file() and target.parent.is_dir():
            shutil.copyfile(source, target)


def _known(name: str) -> Environment:
    if name not in ENVIRONMENTS:
        from distillbench.config.marks import did_you_mean

        known = ", ".join(ENVIRONMENTS)
        guess = did_you_mean(name, ENVIRONMENTS)
        raise BadInput(f"unknown environment {name!r}; there are: {known}.{guess}")
    return ENVIRONMENTS[name]
