"""Serve a study on one machine: the page to read, and answers written down as they come."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from distillbench.errors import BadInput
from distillbench.files.io import fsync_dir
from distillbench.report.study.key import Key
from distillbench.report.study.make import KEY, PAGE

__all__ = ["server_of"]

LARGEST = 4 * 2**20
"""Bytes of the largest file of answers that is taken."""


def server_of(folder: Path, *, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the study in `folder`, bound and not yet started; port 0 takes a free one.

    Raises:
        BadInput: there is no study, or the address is in use.
    """
    key = Key.read(folder / KEY)
    page = (folder / PAGE).read_bytes()
    writing = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        """The page under /, answers under /answers; nothing else of the disk can be read."""

        timeout = 60  # seconds that a connection which says nothing is kept

        def do_GET(self) -> None:
            found = self.path == "/"
            self._reply(200 if found else 404, page if found else b"not here\n")

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            if self.path != "/answers" or not size.isdigit() or int(size) > LARGEST:
                self._reply(404, b"not here\n")
                return
            body = self.rfile.read(int(size))
            with writing:
                code, said = _keep(folder, key.study, body)
            self._reply(code, said.encode())

        def _reply(self, code: int, body: bytes) -> None:
            self.send_response(code)
            kind = "text/html; charset=utf-8" if body is page else "text/plain; charset=utf-8"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: the answers are on the disk."""

    try:
        return _Server((host, port), Handler)
    except OSError as error:
        raise BadInput(f"{host}:{port}: {error.strerror}", hint="Take another --port") from error


class _Server(ThreadingHTTPServer):
    """Says nothing of browsers that went away; answers that came are on the disk."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Other failures are told in a line, and the server goes on."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"{client_address[0]}: {type(error).__name__}: {error}", file=sys.stderr)


def _keep(folder: Path, study: str, body: bytes) -> tuple[int, str]:
    """Write one rater's answers so far; the status and what is said of them.

    The file is whole at every moment: a crash loses no answer that was acknowledged. Answers count
    their changes in `turn`, and older ones, of a second window or overtaken on the way, never
    replace newer ones.
    """
    try:
        answers = json.loads(body)
        rater, started, turn = str(answers["rater"]), str(answers["started"]), _turn(answers)
        if answers["study"] != study or not isinstance(answers["answers"], list):
            return 400, "answers to another study\n"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return 400, "not answers\n"
    name = re.sub(r"[^A-Za-z0-9-]+", "_", f"{rater[:60]}-{started[:30]}")
    path = folder / f"answers-{name}.json"
    try:
        if _kept_turn(path) > turn:
            return 409, "later answers are here already\n"
        _replace(path, body)
    except OSError as error:
        return 507, f"not kept: {error.strerror}\n"
    return 200, "kept\n"


def _turn(answers: Any) -> int:
    """How often the answers were changed; pages that do not count say nothing."""
    return int(answers.get("turn", 0))


def _kept_turn(path: Path) -> int:
    """The turn of what is on the disk; -1 where that is nothing, or no answers."""
    try:
        return _turn(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError):
        return -1


def _replace(path: Path, body: bytes) -> None:
    scratch = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        with scratch.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
        fsync_dir(path.parent)
    finally:
        scratch.unlink(missing_ok=True)
