"""`distillbench doctor`: what this machine has, what is missing, and how to fix it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import distillbench
from distillbench.cli import arguments
from distillbench.cli.common import examples, nearest, open_experiment, print_json, store_of
from distillbench.errors import BadInput, DistillbenchError

if TYPE_CHECKING:
    from distillbench.plan.requirements import Requirement

__all__ = ["EPILOG", "Finding", "doctor", "examine"]

EPILOG = examples(
    "distillbench doctor",
    "distillbench doctor experiments/table1.yaml --profile paper",
    "distillbench doctor --results /data/results --json",
)
OLDEST_PYTHON = (3, 11)
LITTLE_DISK = 5 << 30
LATEX = ("pdflatex", "tectonic", "lualatex", "xelatex")


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `fix` says what to do about anything but "ok"."""

    state: Literal["ok", "warn", "fail"]
    what: str
    fix: str = ""


def doctor(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Experiment whose needs are checked.")
    ] = None,
    profile: arguments.Profile = None,
    results: arguments.Results = Path("results"),
    sets: arguments.Set = None,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Check this machine, or all that an experiment needs: weights, data, devices, disk."""
    needs: list[Requirement] = []
    if file is not None:
        from distillbench.plan.requirements import requirements

        _, plan = open_experiment(file, profile=profile, sets=sets, plugins=plugin)
        needs = requirements(plan, store_of(results))
        findings = [_finding(found) for found in needs]
    elif profile or sets or plugin:
        raise BadInput("--profile, --set and --plugin speak of an experiment; name its file")
    else:
        findings = list(examine(results))
    if json:
        more: list[dict[str, Any]] = [found.as_json() for found in needs] or [{} for _ in findings]
        print_json([asdict(f) | extra for f, extra in zip(findings, more, strict=True)])
    else:
        for finding in findings:
            fix = f"; {finding.fix}" if finding.fix else ""
            print(f"{finding.state:4}  {finding.what}{fix}")
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def _finding(found: Requirement) -> Finding:
    return Finding("fail" if found.need.problem else "ok", found.line)


def examine(results: Path) -> Iterator[Finding]:
    """All findings, in order; a check that breaks is a finding of its own."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _torch,
        _versions,
        _plugins,
        _weights,
        lambda: _results(results),
        _ray,
        _latex,
        _environments,
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            name = getattr(check, "__name__", "check").strip("_")
            yield Finding("fail", f"{name}: {type(error).__name__}: {error}")


def _python() -> Iterator[Finding]:
    needed = ".".join(map(str, OLDEST_PYTHON))
    old = sys.version_info[:2] < OLDEST_PYTHON
    state: Literal["ok", "fail"] = "fail" if old else "ok"
    what = f"Python {platform.python_version()}, distillbench {distillbench.__version__}"
    yield Finding(state, what, f"install Python {needed} or newer" if old else "")


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("fail", "torch is not installed", "pip install torch")
        return
    import torch

    yield Finding("ok", f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    if not torch.cuda.is_available():
        fix = "tiny profiles need none; paper profiles want a GPU and its driver"
        yield Finding("warn", "no GPU is visible to torch", fix)
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding("ok", f"cuda:{index} {name}, {free >> 30} of {total >> 30} GiB free")


def _versions() -> Iterator[Finding]:
    """Installed versions against constraints.txt, which a checkout has and a wheel has not."""
    path = Path(distillbench.__file__).parent.parent / "constraints.txt"
    if not path.is_file():
        yield Finding("ok", "versions: no constraints.txt here (an installed wheel)")
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "==" in line]
    pinned = dict(line.split("==", 1) for line in lines if not line.startswith("#"))
    wanted = {_plain(name) for name in _requirements()} or {_plain(name) for name in pinned}
    for name, version in pinned.items():
        if _plain(name) not in wanted:
            continue
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("fail", f"{name} is not installed", f"pip install {name}=={version}")
            continue
        if have.split("+")[0] != version:
            what = f"{name} {have}, tested with {version}"
            yield Finding("warn", what, "pip install -c constraints.txt -e .")
    yield Finding("ok", f"versions compared with {path.name}")


def _requirements() -> list[str]:
    import tomllib

    path = Path(distillbench.__file__).parent.parent / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return [re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0] for line in project["dependencies"]]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _plugins() -> Iterator[Finding]:
    from distillbench.api.registry import BACKBONES, METHODS, METRICS

    for registry in (METHODS, METRICS, BACKBONES):
        names = registry.names()
        for name in names:
            try:
                registry.get(name)
            except DistillbenchError as error:
                yield Finding("fail", error.line, "fix or remove the plug-in")
        yield Finding("ok", f"{len(names)} {registry.kind}s: {', '.join(names)}")


def _weights() -> Iterator[Finding]:
    from distillbench.world import weights

    fix = "reinstall distillbench, or check out its files again"
    present = weights.available()
    for name in sorted({*weights.NAMES} - {*present}):
        yield Finding("fail", f"weights {name} are missing from {weights.root()}", fix)
    for name in present:
        if weights.hash_files(weights.root() / name) == weights.card(name)["files"]:
            yield Finding("ok", f"weights {name} are intact")
        else:
            yield Finding("fail", f"weights {name} differ from their card", fix)


def _results(results: Path) -> Iterator[Finding]:
    there = nearest(results)
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
    except OSError as error:
        fix = "make it writable, or give another folder with --results"
        yield Finding("fail", f"{there} cannot be written: {error.strerror}", fix)
        return
    free = shutil.disk_usage(there).free
    what = f"results go to {results} ({free >> 30} GiB free)"
    if free < LITTLE_DISK:
        yield Finding("warn", what, "make room, or give another folder with --results")
    else:
        yield Finding("ok", what)


def _ray() -> Iterator[Finding]:
    if importlib.util.find_spec("ray") is None:
        yield Finding("warn", "ray is not installed", "pip install 'distillbench[ray]'")
    else:
        yield Finding("ok", f"ray {importlib.metadata.version('ray')}")


def _latex() -> Iterator[Finding]:
    found = next(filter(None, map(shutil.which, LATEX)), None)
    if found:
        yield Finding("ok", f"LaTeX: {found}")
    else:
        fix = "only needed to compile .tex tables; they are written without it"
        yield Finding("warn", f"no LaTeX ({', '.join(LATEX)})", fix)


def _environments() -> Iterator[Finding]:
    from distillbench.score import envs

    for name in envs.ENVIRONMENTS:
        if envs.is_created(name):
            yield Finding("ok", f"environment {name} is at {envs.home() / name}")
        else:
            fix = f"only for cross-checks: distillbench env create {name}"
            yield Finding("ok", f"environment {name} is not made", fix)
