"""Serve a study on one machine: the page to read, and answers written down as they come."""

from __future__ import annotations

import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from distillbench.errors import BadInput
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

    class Handler(BaseHTTPRequestHandler):
        """The page under /, answers under /answers; nothing else of the disk can be read."""

        def do_GET(self) -> None:
            found = self.path == "/"
            self._reply(200 if found else 404, page if found else b"not here\n")

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            if self.path != "/answers" or not size.isdigit() or int(size) > LARGEST:
                self._reply(404, b"not here\n")
                return
            problem = _keep(folder, key.study, self.rfile.read(int(size)))
            self._reply(400 if problem else 200, problem.encode() or b"kept\n")

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
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise BadInput(f"{host}:{port}: {error.strerror}", hint="Take another --port") from error


def _keep(folder: Path, study: str, body: bytes) -> str:
    """Write one rater's answers so far; "" when they are on the disk, else why not.

    The file is whole at every moment: a crash loses no answer that was acknowledged.
    """
    try:
        answers = json.loads(body)
        rater, started = str(answers["rater"]), str(answers["started"])
        if answers["study"] != study or not isinstance(answers["answers"], list):
            return "answers to another study\n"
    except (ValueError, KeyError, TypeError):
        return "not answers\n"
    name = re.sub(r"[^A-Za-z0-9-]+", "_", f"{rater[:60]}-{started[:30]}")
    path = folder / f"answers-{name}.json"
    scratch = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}.part")
    with scratch.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
    return ""
