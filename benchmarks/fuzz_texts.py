"""Odd prompt files and caption files, for `fuzz_data.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Case:
    """One odd input.

    Attributes:
        kind: prompts | captions | pictures.
        name: what is odd about it.
        make: writes it into a folder and returns its path.
        right: what it must be read as; None where it must be refused, ... where either may be.
    """

    kind: str
    name: str
    make: Callable[[Path], Path]
    right: Any = None


def file_of(name: str, content: str | bytes) -> Callable[[Path], Path]:
    """Writes these bytes, or this text, under a name."""
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(raw)
        return path

    return make


def odd_file(name: str, kind: str) -> Callable[[Path], Path]:
    """Something that is no file in the place of one."""

    def make(folder: Path) -> Path:
        path = folder / name
        if kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind != "nothing":
            path.symlink_to({"device": "/dev/zero", "loop": name, "dangling": "nowhere"}[kind])
        return path

    return make


ODD = ("folder", "fifo", "device", "loop", "dangling", "nothing")

# ---- prompts ------------------------------------------------------------------------------

PLAIN = (
    "a cat on a mat",
    "two  dogs",
    "caf\u00e9 \u2603 \U0001f600",
    "a\u2028b\u2029c",
    "x\x0cy\x1cz\x85",
)
NOT_TEXT = ("null", "NaN", "Infinity", "true", "3", "-1e400", "[]", '["a"]', "{}", '{"a": 1}', '""',
            '" "', '"\\ud800"', '"a\\udfffb"', '"\\u0000"', "9" * 5000, "[" * 100_000, "{", "'a'",
            '"a', "a", '"a" "b"', "// a", '"a\tb"', "0x1", "+1", "[,]")  # fmt: skip


def prompt_cases() -> Iterator[Case]:
    """Files of each kind, right and wrong."""
    for end in ("\n", "\r\n"):
        for mark in ("", "\ufeff"):
            text = mark + end.join(["", *PLAIN, "", " "]) + end
            yield Case("prompts", f"txt {end!r} {mark!r}", file_of("a.txt", text), PLAIN)
            for suffix, rows in {
                "jsonl": [json.dumps(p, ensure_ascii=False) for p in PLAIN],
                "JSONL": [json.dumps({"prompt": p}) for p in PLAIN],
                "csv": ["prompt", *('"' + p + '"' for p in PLAIN)],
                "tsv": ["n\tPrompt", *(f"1\t{p}" for p in PLAIN)],
            }.items():
                text = mark + (end * 2).join(rows) + end
                yield Case(
                    "prompts", f"{suffix} {end!r} {mark!r}", file_of(f"a.{suffix}", text), PLAIN
                )
            text = mark + json.dumps(PLAIN).replace(",", "," + end)
            yield Case("prompts", f"json {end!r} {mark!r}", file_of("a.json", text), PLAIN)
    for value in NOT_TEXT:
        what = value[:12]
        yield Case("prompts", f"jsonl {what}", file_of("a.jsonl", f'"a"\n{value}\n'))
        yield Case("prompts", f"json {what}", file_of("a.json", f'["a", {value}]'))
        yield Case("prompts", f"field {what}", file_of("a.jsonl", f'{{"prompt": {value}}}\n'))
        if value not in ('""', '" "'):  # a category may be empty
            row = f'{{"prompt": "a", "category": {value}}}\n'
            yield Case("prompts", f"category {what}", file_of("a.jsonl", row))
    for suffix in ("txt", "csv", "tsv", "json", "jsonl"):
        for odd in ODD:
            yield Case("prompts", f"{odd}.{suffix}", odd_file(f"a.{suffix}", odd))
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"):
            raw = 'prompt\n"caf\u00e9"\n'.encode(encoding)
            yield Case("prompts", f"{encoding} {suffix}", file_of(f"a.{suffix}", raw))
        yield Case("prompts", f"empty {suffix}", file_of(f"a.{suffix}", ""))
        yield Case("prompts", f"blank {suffix}", file_of(f"a.{suffix}", "\n \r\n\t\n"))
        yield Case("prompts", f"mark alone {suffix}", file_of(f"a.{suffix}", "\ufeff"))
        yield Case("prompts", f"old Mac ends {suffix}", file_of(f"a.{suffix}", "prompt\ra\rb\r"))
    yield from _tables()
    yield from _categories()


def _tables() -> Iterator[Case]:
    wrong = {
        "no header": "a cat\na dog\n",
        "two columns of prompts": "prompt,prompts\na,b\n",
        "a cell too few": "prompt,x\na\n",
        "a cell too many": "prompt,x\na,b,c\n",
        "an empty prompt": "prompt,x\n,b\n",
        "an open quote": 'prompt\n"a\n',
        "text after a quote": 'prompt\n"a"b\n',
        "a carriage return": "prompt,x\na\rb,c\n",
        "a huge cell": "prompt\n" + "a" * 200_000 + "\n",
        "NUL": "prompt\na\0b\n",
    }
    for name, text in wrong.items():
        yield Case("prompts", f"csv {name}", file_of("a.csv", text))
    quoted = 'id,Prompt,Category\n1,"a, ""b""\nc",x\n2,d,\n'
    yield Case("prompts", "csv quotes", file_of("a.csv", quoted), ('a, "b"\nc', "d"))


def _categories() -> Iterator[Case]:
    twice = '{"x": ["a"], "y": ["b"], "x": ["c"]}'
    yield Case("prompts", "category twice", file_of("a.json", twice), ("a", "b", "c"))
    wrong = ('{"x": "a"}', '{"x": {"y": ["a"]}}', '{"x": [{"prompt": "a", "category": "y"}]}',
             '{"\\ud800": ["a"]}', '[{"prompt": "a", "prompt": "b"}]', '[{"text": "a"}]', '"a"',
             '{"prompt": "a"}')  # fmt: skip
    for text in wrong:
        yield Case("prompts", f"json {text}", file_of("a.json", text))


# ---- captions -----------------------------------------------------------------------------


def captioned(content: str | bytes) -> Callable[[Path], Path]:
    """Writes captions beside one red picture."""

    def make(folder: Path) -> Path:
        Image.new("RGB", (8, 8), "red").save(folder / "a.png")
        file_of("captions.jsonl", content)(folder)
        return folder

    return make


def caption_row(text: str, file: str = '"a.png"') -> str:
    """One line of captions; both parts are JSON already."""
    return f'{{"file": {file}, "text": {text}}}'


def caption_cases() -> Iterator[Case]:
    """`captions.jsonl`, right and wrong."""
    for end in ("\n", "\r\n"):
        for mark in ("", "\ufeff"):
            rows = [caption_row(json.dumps(p, ensure_ascii=False)) for p in PLAIN]
            text = mark + (end + " " + end).join(rows)
            yield Case("captions", f"{end!r} {mark!r}", captioned(text), PLAIN)
    for value in NOT_TEXT:
        if value not in ('""', '" "'):  # a caption may be empty, which is noted
            yield Case(
                "captions",
                f"text {value[:12]}",
                captioned(caption_row('"a"') + "\n" + caption_row(value)),
            )
        yield Case("captions", f"file {value[:12]}", captioned(caption_row('"a"', value)))
        yield Case("captions", f"line {value[:12]}", captioned(caption_row('"a"') + "\n" + value))
    for file in ("../a.png", "/etc/passwd", ".", "b.png", "a.png/b", "captions.jsonl", "\\u0000",
                 "a" * 300):  # fmt: skip
        yield Case("captions", f"file {file[:12]}", captioned(caption_row('"a"', f'"{file}"')))
    for row in ('{"file": "a.png"}', '{"text": "a"}', '{"file_name": "a.png", "text": "a"}',
                '{"file": "a.png", "text": "a", "text": "b"}'):  # fmt: skip
        yield Case("captions", f"keys {row}", captioned(row))
    for encoding in ("utf-16", "utf-16-le", "utf-32", "latin-1"):
        yield Case("captions", encoding, captioned(caption_row('"caf\u00e9"').encode(encoding)))
    for text in ("", "\n\n", "\ufeff"):
        yield Case("captions", f"nothing {text!r}", captioned(text))
    for odd in ODD:

        def make(folder: Path, odd: str = odd) -> Path:
            odd_file("captions.jsonl", odd)(folder)
            return folder

        yield Case("captions", odd, make)
