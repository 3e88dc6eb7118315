"""Hooks of MkDocs: the lists beside methods, metrics and experiments are pages of the site, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LISTS = ("experiments", "methods", "metrics")
ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Any, config: Any) -> Any:
    """Add README.md of each folder as `lists/<folder>.md`."""
    from mkdocs.structure.files import File

    for name in LISTS:
        text = (
            (ROOT / name / "README.md").read_text(encoding="utf-8").replace("](../docs/", "](../")
        )
        files.append(File.generated(config, f"lists/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **page: Any) -> str:
    """Links to those files lead to the pages."""
    for name in LISTS:
        markdown = markdown.replace(f"](../{name}/README.md)", f"](lists/{name}.md)")
    return markdown
