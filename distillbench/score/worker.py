"""Ask a package in an environment of its own: one JSON line an item in, one a score out.

The worker's answers are believed only when every item has exactly one finite score and the worker
ended well; whatever else happens is an error with the last lines it wrote.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from distillbench.errors import StageFailed
from distillbench.score.progress import tick

__all__ = ["ask"]

POLL_SECONDS = 0.2
TAIL = 8


def ask(
    command: Sequence[str],
    job: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    *,
    patience: float,
    environment: Mapping[str, str] | None = None,
) -> tuple[list[float], dict[str, Any]]:
    """Scores of `items`, in their order, and what the worker said at the end.

    Args:
        command: the worker. It reads the job, then one line an item ({"id", ...}), to the end of
            its input; it writes {"id", "score"} for each and last {"done": count, ...}.
        job: what is to be done with the items.
        items: each gets its place as its id.
        patience: seconds without a line after which the worker counts as hung.
        environment: more variables for it.

    Raises:
        StageFailed: it died, hung, wrote something else, left an item out, named one twice or gave
            a score that is not finite.
        Interrupted: a stop was asked for; the worker is ended.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
            errors="replace", start_new_session=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        try:
            return _exchange(process, job, items, patience)
        except _Wrong as error:
            _end(process)
            raise StageFailed(f"{job.get('what', 'worker')}: {error}", hint=_tail(said)) from None
        finally:
            _end(process)


class _Wrong(Exception):
    """What is wrong with a worker, in words."""


def _exchange(
    process: subprocess.Popen[str], job: Mapping[str, Any], items: Sequence[Mapping[str, Any]],
    patience: float,
) -> tuple[list[float], dict[str, Any]]:  # fmt: skip
    lines: queue.Queue[str | None] = queue.Queue()
    assert process.stdin is not None
    assert process.stdout is not None
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    asked = [dict(job), *({**item, "id": number} for number, item in enumerate(items))]
    threading.Thread(target=_write, args=(process.stdin, asked), daemon=True).start()
    scores: dict[int, float] = {}
    last: dict[str, Any] | None = None
    while (line := _next(lines, patience, len(scores), len(items))) is not None:
        answer = _parsed(line)
        if last is not None:
            raise _Wrong("it went on after its last line")
        if "done" in answer:
            last = answer
        else:
            _take(answer, scores, len(items))
    code = process.wait()
    if code or last is None:
        raise _Wrong(f"it ended with code {code} after {len(scores)} of {len(items)} scores")
    if len(scores) != len(items) or last["done"] != len(items):
        raise _Wrong(f"{len(scores)} scores for {len(items)} items, it counted {last['done']}")
    return [scores[number] for number in range(len(items))], last


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    with suppress(ValueError, OSError):
        for line in stream:
            lines.put(line)
    lines.put(None)


def _write(stream: IO[str], asked: Sequence[Mapping[str, Any]]) -> None:
    # A worker that died closes the pipe; that it died is seen at the other end.
    with suppress(OSError, ValueError):
        for entry in asked:
            stream.write(json.dumps(entry) + "\n")
        stream.close()


def _next(lines: queue.Queue[str | None], patience: float, done: int, total: int) -> str | None:
    until = time.monotonic() + patience
    while True:
        tick(done, total)
        with suppress(queue.Empty):
            return lines.get(timeout=min(POLL_SECONDS, patience))
        if time.monotonic() >= until:
            raise _Wrong(f"no answer for {patience:g} seconds after {done} of {total} scores")


def _parsed(line: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _Wrong(f"it wrote something else than answers: {line.strip()[:80]!r}")
    return answer


def _take(answer: Mapping[str, Any], scores: dict[int, float], total: int) -> None:
    number, score = answer.get("id"), answer.get("score")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < total:
        raise _Wrong(f"a score of no item: id {number!r} of {total}")
    if number in scores:
        raise _Wrong(f"item {number} was scored twice")
    if isinstance(score, bool) or not isinstance(score, int | float) or not _finite(score):
        raise _Wrong(f"item {number} has no finite score: {score!r:.60}")
    scores[number] = float(score)


def _finite(score: float) -> bool:
    # JSON's whole numbers have no largest one.
    return abs(score) <= sys.float_info.max


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _tail(said: IO[str]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said if line.strip()][-TAIL:]
    return "its last lines: " + " | ".join(lines) if lines else "it wrote no message"
