"""The pages tell the truth: links lead somewhere, commands and options exist, names are listed."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import distillbench.api
from distillbench.api import INDEX
from distillbench.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "experiments/README.md",
        ROOT / "methods/README.md", ROOT / "metrics/README.md", ROOT / "results/README.md",
        ROOT / "results/reference/README.md",
    ]
)  # fmt: skip
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@PAGE
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@PAGE
def test_commands_and_their_options_exist(page: Path) -> None:
    """Every `distillbench ...` in code: inline, indented, or in the first line of a plug-in."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    wrong = []
    found = r"(?:^ {4}|`|run it with +)distillbench ([a-z][^`#\n]*)"
    for line in re.findall(found, page.read_text(), re.MULTILINE):
        name, *rest = line.split()
        known = commands.get(name)
        flags = {o for p in known.params for o in p.opts} | {"--help", "-h"} if known else set()
        for command in getattr(known, "commands", {}).values():
            flags |= {o for p in command.params for o in p.opts}
        wrong += [line] * (known is None)
        wrong += [word for word in rest if known and re.match(r"--?[a-z]", word)
                  and word.split("=")[0] not in flags]  # fmt: skip
    assert wrong == []


@PAGE
def test_modules_and_files_it_names_exist(page: Path) -> None:
    """Dotted names (`distillbench.a.b.C`), and paths with a folder."""
    wrong = []
    for name in re.findall(r"`(distillbench(?:\.\w+)+)`", page.read_text()):
        if not named(name):
            wrong.append(name)
    for path in re.findall(r"`((?:[\w-]+/)+[\w.-]*\.(?:py|yaml|md|txt))`", page.read_text()):
        places = (ROOT, page.parent, ROOT / "distillbench")
        if not any((place / path).exists() for place in places):
            wrong.append(path)
    assert wrong == []


def named(name: str) -> bool:
    """Whether it is a module, what a module holds, or a group of entry points."""
    if name in {f"distillbench.{kind}" for kind in ("methods", "metrics", "backbones")}:
        return True
    parent, _, last = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(parent), last) or bool(importlib.import_module(name))
    except ImportError:
        return False


def test_the_interface_is_listed_name_by_name() -> None:
    """Each name of the index has one line of the page, and the page no other."""
    page = (ROOT / "docs/plugin-api.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(name for names in INDEX.values() for name in names)


def test_the_interface_is_there_and_public() -> None:
    for module, names in INDEX.items():
        assert not any(part.startswith("_") for part in module.split("."))
        for name in names:
            assert getattr(distillbench.api, name) is getattr(importlib.import_module(module), name)
    assert sorted(distillbench.api.__all__) == dir(distillbench.api)


def test_types_are_declared_for_the_whole_index() -> None:
    source = (ROOT / "distillbench/api/__init__.py").read_text()
    typed = re.findall(r"^    from ([\w.]+) import (\w+) as \2$", source, re.MULTILINE)
    assert sorted(typed) == sorted((m, n) for m, names in INDEX.items() for n in names)


def test_the_interface_costs_no_torch() -> None:
    code = "from distillbench.api import *; import sys; assert 'torch' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_an_unknown_name_of_the_interface_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        distillbench.api.Nothing  # noqa: B018


def test_the_page_of_places_names_files_that_are_there() -> None:
    rows = [r for r in (ROOT / "docs/architecture.md").read_text().splitlines() if r[:2] == "| "]
    assert len(rows) > 10
    for row in rows[1:]:
        here = ROOT
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", row):
            place = ROOT / name if "/" in name else here / name
            assert place.exists(), f"{row}: {name}"
            here = place if place.is_dir() else place.parent
    from distillbench.api import Sampler
    from distillbench.report.table import rank
    from distillbench.store.layout import Store

    assert Sampler.nfe
    assert rank
    assert Store.commit


def test_every_room_says_what_it_holds() -> None:
    for init in (ROOT / "distillbench").glob("*/__init__.py"):
        text = init.read_text()
        assert text.startswith('"""'), init
        assert "See the modules" not in text, init
