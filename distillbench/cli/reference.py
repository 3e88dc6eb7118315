"""The page of all commands, written from the commands so that it cannot drift.

`python -m distillbench.cli.reference` prints `docs/commands.md`; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from distillbench.cli.main import app

__all__ = ["commands_page"]

_HEAD = """# Commands

Every command with its options, written from the program: `python -m distillbench.cli.reference`.
All take `-h`; those with `--json` print one document to standard output, and what is for people to
standard error. Exit codes: [reference.md](reference.md).
"""


def commands_page() -> str:
    """The page, as Markdown."""
    return _HEAD + "".join(_section(name, command) for name, command in _commands(get_command(app)))


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([f"distillbench {name}", *(p.metavar or p.name.upper() for p in arguments)])
    rows = "".join(f"| `{_flags(p)}` | {_told(p)} |\n" for p in command.params if _shown(p))
    table = f"\n| argument or option | |\n|---|---|\n{rows}" if rows else ""
    examples = "".join(f"    {line.strip()}\n" for line in _examples(command))
    told = " ".join((command.help or "").split())
    return f"\n## `{usage}`\n\n{told}\n{table}" + (f"\n{examples}" if examples else "")


def _shown(param: Any) -> bool:
    return not getattr(param, "hidden", False) and param.name != "help"


def _flags(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    value = "" if getattr(param, "is_flag", False) else f" {param.metavar or param.name.upper()}"
    return ", ".join(param.opts) + value.replace("|", "\\|")


def _told(param: Any) -> str:
    text = str(getattr(param, "help", "") or "").replace("|", "\\|")
    default = param.default
    said = "[default" in text or default is None or default is False or default == ""
    plain = isinstance(default, str | int | float) or hasattr(default, "parts")
    shown = str(getattr(default, "value", default))
    return text if said or not plain else f"{text} [default: {shown}]"


def _examples(command: Any) -> list[str]:
    _, _, lines = str(command.epilog or "").partition("Examples:\n")
    return lines.splitlines()


if __name__ == "__main__":
    print(commands_page(), end="")
