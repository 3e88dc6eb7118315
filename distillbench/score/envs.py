"""Isolated environments of packages that cannot share one with current transformers and diffusers.

They run as cross-check backends beside the native scorers (vbench: as the backend), each in its
own virtual environment made by `distillbench env create NAME`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillbench.errors import BadInput, StageFailed
from distillbench.files.places import data_root

__all__ = [
    "ENVIRONMENTS",
    "Environment",
    "commands",
    "create",
    "environment_python",
    "home",
    "is_created",
]


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

_MARKER = "distillbench-complete"
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def home() -> Path:
    """Where environments live: `$DISTILLBENCH_DATA/envs`, else under ~/.cache/distillbench."""
    return data_root() / "envs"


def environment_python(name: str) -> Path:
    """The interpreter of an environment whose creation was finished.

    Raises:
        BadInput: unknown, or not created yet.
    """
    _known(name)
    if not is_created(name):
        raise BadInput(f"environment {name!r} is not there", hint=f"distillbench env create {name}")
    return home() / name / "bin" / "python"


def is_created(name: str) -> bool:
    """Whether an environment was made to its end; a killed creation leaves none."""
    folder = home() / name
    return (folder / _MARKER).is_file() and (folder / "bin" / "python").is_file()


def commands(name: str, folder: Path | None = None) -> list[list[str]]:
    """The commands that make an environment, in order; uv where it is installed, else pip.

    Args:
        name: of the environment.
        folder: where it is made; None is where it will be found.

    Raises:
        BadInput: unknown environment.
    """
    wanted, folder = _known(name), folder or home() / name
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

    It is made beside the old one, which stays until the new one imports. What its commands print is
    said line by line.

    Raises:
        BadInput: unknown environment.
        StageFailed: a step failed; the half-made folder is removed, the old one is still there.
    """
    _known(name)
    folder, new = home() / name, home() / f".{name}-new"
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        _make(name, new, say)
        (new / _MARKER).write_text("complete\n", encoding="utf-8")
        old = home() / f".{name}-old"
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _make(name: str, folder: Path, say: Callable[[str], None]) -> None:
    steps = commands(name, folder)
    for step in steps[:-1]:
        say(" ".join(step))
        _run(name, step, say)
    _mend(name, folder)
    say("checking the imports")
    _run(name, steps[-1], say)


def _run(name: str, step: Sequence[str], say: Callable[[str], None]) -> None:
    last = "no output"
    with subprocess.Popen(
        step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in filter(str.strip, process.stdout):
            last = line.strip()
            say(f"  {line.rstrip()}")
    if process.returncode:
        raise StageFailed(f"environment {name}: `{step[0]}` failed: {last}")


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
        from distillbench.files.marks import did_you_mean

        known = ", ".join(ENVIRONMENTS)
        guess = did_you_mean(name, ENVIRONMENTS)
        raise BadInput(f"unknown environment {name!r}; there are: {known}.{guess}")
    return ENVIRONMENTS[name]
