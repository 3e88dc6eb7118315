"""The documentation as a site: every page is in its menu, and it builds where MkDocs is there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from distillbench.cli.reference import commands_page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def config() -> dict[str, Any]:
    return dict(YAML(typ="safe").load(ROOT / "mkdocs.yml"))


def pages(nav: Any) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else pages(value)


def test_every_page_is_in_the_menu_once() -> None:
    listed = sorted(pages(config()["nav"]))
    lists = {f"lists/{name}.md" for name in ("experiments", "methods", "metrics")}
    assert listed == sorted({*lists, *(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))})


def test_links_between_pages_are_relative_to_files_that_are_there() -> None:
    """No page points outside the folder, but for the lists that are pages of the site."""
    outside = set()
    for page in DOCS.glob("*.md"):
        outside |= set(re.findall(r"\]\((\.\./[^)]+)\)", page.read_text()))
    assert outside == {f"../{n}/README.md" for n in ("experiments", "methods", "metrics")}


def test_the_page_of_commands_is_what_the_program_says() -> None:
    assert (DOCS / "commands.md").read_text() == commands_page(), (
        "run: python -m distillbench.cli.reference > docs/commands.md"
    )


def test_variables_of_the_environment_are_listed() -> None:
    told = set(re.findall(r"`([A-Z_]{3,})`", (DOCS / "reference.md").read_text()))
    read = set()
    for path in (ROOT / "distillbench").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        read |= set(re.findall(r"environ[^\n]{0,12}\"([A-Z_]+)\"", text))
        read |= set(re.findall(r"\"(DISTILLBENCH_[A-Z_]+)\"", text))
    assert read <= told


def test_every_file_of_a_stage_is_listed(tmp_path: Path) -> None:
    import distillbench

    done = distillbench.run(
        {"name": "files", "backbones": {"gmm": "gmm"}, "base": {"backbone": "gmm", "nfe": 4,
         "sample": {"n": 32}, "train": {"updates": 1, "batch_size": 4}},
         "rows": [{"method": "lcm", "params": {"teacher_guidance": 1.0}}], "metrics": ["sw"]},
        results=tmp_path / "results", workers=1,
    )  # fmt: skip
    told = set(re.findall(r"`([\w-]+\.\w+)`", (DOCS / "reference.md").read_text()))
    there = {re.sub(r"-[0-9]+\.", "-NNNNN.", p.name)
             for p in (done.root / "store").glob("*/*/*") if p.is_file()}  # fmt: skip
    assert there <= told


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: the site was not built")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))  # strict, as it says
    assert len([*tmp_path.rglob("*.html")]) > len([*DOCS.glob("*.md")])
    index = (tmp_path / "index.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//[^\"]+\.(?:js|css|woff2?)", index)


def test_the_hooks_turn_links_into_pages() -> None:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.on_page_markdown("[a](../methods/README.md)") == "[a](lists/methods.md)"
