"""`distillbench logs`: losses and output of one stage, also while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, find_run, print_json, store_of
from distillbench.files.plaintext import visible
from distillbench.store.state import state_of

if TYPE_CHECKING:
    from distillbench.store.layout import Store

__all__ = ["EPILOG", "logs"]

EPILOG = examples(
    "distillbench logs 58017a9e",
    "distillbench logs smoke:LCM:seed0 --follow",
    "distillbench logs 58017a9e --lines 1000 --json",
)
_EVERY = 1.0


def logs(
    run: arguments.Run,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the stage ends.")
    ] = False,
    lines: Annotated[int, typer.Option(metavar="N", min=1, help="The last N of each log.")] = 20,
    results: arguments.Results = Path("results"),
    json: arguments.Json = False,
) -> None:
    """Show a stage's output and the losses of a training, while it runs and afterwards."""
    kind, key = find_run(results, run)
    store = store_of(results)
    state = state_of(store, kind, key)
    losses = _losses(store, kind, key)
    output = _output(store, kind, key)
    if json:
        print_json({"kind": kind, "key": key, "state": state.word, "detail": state.detail,
                    "losses": losses[-lines:], "output": output[-lines:]})  # fmt: skip
        return
    print(f"{kind} {key}: {state.line}")
    print("\n".join(visible(line) for line in output[-lines:]))
    for row in losses[-lines:]:
        print(_text(row))
    if follow and state.word == "running":
        _follow(store, kind, key, losses, output)


def _follow(
    store: Store, kind: str, key: str, losses: Sequence[Any], output: Sequence[str]
) -> None:
    """Print what is added until nobody runs the stage any more."""
    running = True
    while running:
        time.sleep(_EVERY)
        running = state_of(store, kind, key).word == "running"
        now, rows = _output(store, kind, key), _losses(store, kind, key)
        step = losses[-1]["step"] if losses else 0
        for line in now[len(output) :]:
            print(visible(line), flush=True)
        for row in rows:
            if row["step"] > step:
                print(_text(row), flush=True)
        losses, output = rows or losses, now or output
    print(state_of(store, kind, key).line)


def _folder(store: Store, kind: str, key: str) -> Path:
    """Where the stage's files are: its folder, or that of the attempt that runs or ran last."""
    folder = store.path(kind, key)
    if folder.is_dir():
        return folder
    attempts = sorted(folder.parent.glob(f"{key}.tmp-*"), key=lambda p: p.stat().st_mtime)
    return attempts[-1] if attempts else folder


def _losses(store: Store, kind: str, key: str) -> list[dict[str, Any]]:
    """The losses so far; of a training that stopped, those of its last checkpoint."""
    from distillbench.analysis.losses import read_losses

    found = read_losses(_folder(store, kind, key) / "train.jsonl")
    checkpoints = store.checkpoints(kind, key).glob("step-*/train.jsonl")
    return found or max((read_losses(path) for path in checkpoints), key=len, default=[])


def _output(store: Store, kind: str, key: str) -> list[str]:
    """Lines of its captured output."""
    for path in (_folder(store, kind, key) / "log.txt", store.failure_log(kind, key)):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _text(row: Mapping[str, Any]) -> str:
    parts = [f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
             for name, value in row.items() if name != "step"]  # fmt: skip
    return "  ".join([f"update {row['step']}", *map(visible, parts)])
