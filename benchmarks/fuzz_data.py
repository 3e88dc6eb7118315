"""Odd prompt files, caption files and pictures: each is refused in lines, or taken for what it is.

    python benchmarks/fuzz_data.py [--seed 0] [--mutations 200]

Every case is a folder with an experiment that `distillbench validate` is asked about in this
process. It counts as wrong when the answer is a traceback, an exit code other than 0 and 2, more
than ten seconds of silence, a refusal of what is right, or the acceptance of what is not; what is
accepted must be read as the very values the case was made of.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distillbench.cli.main import run_command
from distillbench.data.captions import read_captions
from distillbench.data.pictures import open_picture
from distillbench.data.prompts import load_prompts

SECONDS = 10
EXPERIMENT = """\
name: f
backbones: {{b: {{use: tiny-sd}}}}
base: {{backbone: b, train: {{updates: 2}}, sample: {{n: 8}}, data: {{{data}}}}}
rows: [{{method: {method}, params: {{nets: copy}}}}]
"""


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


def _file(name: str, content: str | bytes) -> Callable[[Path], Path]:
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(raw)
        return path

    return make


def _odd(name: str, kind: str) -> Callable[[Path], Path]:
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
            yield Case("prompts", f"txt {end!r} {mark!r}", _file("a.txt", text), PLAIN)
            for suffix, rows in {
                "jsonl": [json.dumps(p, ensure_ascii=False) for p in PLAIN],
                "JSONL": [json.dumps({"prompt": p}) for p in PLAIN],
                "csv": ["prompt", *('"' + p + '"' for p in PLAIN)],
                "tsv": ["n\tPrompt", *(f"1\t{p}" for p in PLAIN)],
            }.items():
                text = mark + (end * 2).join(rows) + end
                yield Case(
                    "prompts", f"{suffix} {end!r} {mark!r}", _file(f"a.{suffix}", text), PLAIN
                )
            text = mark + json.dumps(PLAIN).replace(",", "," + end)
            yield Case("prompts", f"json {end!r} {mark!r}", _file("a.json", text), PLAIN)
    for value in NOT_TEXT:
        what = value[:12]
        yield Case("prompts", f"jsonl {what}", _file("a.jsonl", f'"a"\n{value}\n'))
        yield Case("prompts", f"json {what}", _file("a.json", f'["a", {value}]'))
        yield Case("prompts", f"field {what}", _file("a.jsonl", f'{{"prompt": {value}}}\n'))
        if value not in ('""', '" "'):  # a category may be empty
            row = f'{{"prompt": "a", "category": {value}}}\n'
            yield Case("prompts", f"category {what}", _file("a.jsonl", row))
    for suffix in ("txt", "csv", "tsv", "json", "jsonl"):
        for odd in ODD:
            yield Case("prompts", f"{odd}.{suffix}", _odd(f"a.{suffix}", odd))
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"):
            raw = 'prompt\n"caf\u00e9"\n'.encode(encoding)
            yield Case("prompts", f"{encoding} {suffix}", _file(f"a.{suffix}", raw))
        yield Case("prompts", f"empty {suffix}", _file(f"a.{suffix}", ""))
        yield Case("prompts", f"blank {suffix}", _file(f"a.{suffix}", "\n \r\n\t\n"))
        yield Case("prompts", f"mark alone {suffix}", _file(f"a.{suffix}", "\ufeff"))
        yield Case("prompts", f"old Mac ends {suffix}", _file(f"a.{suffix}", "prompt\ra\rb\r"))
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
        yield Case("prompts", f"csv {name}", _file("a.csv", text))
    quoted = 'id,Prompt,Category\n1,"a, ""b""\nc",x\n2,d,\n'
    yield Case("prompts", "csv quotes", _file("a.csv", quoted), ('a, "b"\nc', "d"))


def _categories() -> Iterator[Case]:
    twice = '{"x": ["a"], "y": ["b"], "x": ["c"]}'
    yield Case("prompts", "category twice", _file("a.json", twice), ("a", "b", "c"))
    wrong = ('{"x": "a"}', '{"x": {"y": ["a"]}}', '{"x": [{"prompt": "a", "category": "y"}]}',
             '{"\\ud800": ["a"]}', '[{"prompt": "a", "prompt": "b"}]', '[{"text": "a"}]', '"a"',
             '{"prompt": "a"}')  # fmt: skip
    for text in wrong:
        yield Case("prompts", f"json {text}", _file("a.json", text))


# ---- captions -----------------------------------------------------------------------------


def _captions(content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        Image.new("RGB", (8, 8), "red").save(folder / "a.png")
        _file("captions.jsonl", content)(folder)
        return folder

    return make


def _row(text: str, file: str = '"a.png"') -> str:
    return f'{{"file": {file}, "text": {text}}}'


def caption_cases() -> Iterator[Case]:
    """`captions.jsonl`, right and wrong."""
    for end in ("\n", "\r\n"):
        for mark in ("", "\ufeff"):
            rows = [_row(json.dumps(p, ensure_ascii=False)) for p in PLAIN]
            text = mark + (end + " " + end).join(rows)
            yield Case("captions", f"{end!r} {mark!r}", _captions(text), PLAIN)
    for value in NOT_TEXT:
        if value not in ('""', '" "'):  # a caption may be empty, which is noted
            yield Case(
                "captions", f"text {value[:12]}", _captions(_row('"a"') + "\n" + _row(value))
            )
        yield Case("captions", f"file {value[:12]}", _captions(_row('"a"', value)))
        yield Case("captions", f"line {value[:12]}", _captions(_row('"a"') + "\n" + value))
    for file in ("../a.png", "/etc/passwd", ".", "b.png", "a.png/b", "captions.jsonl", "\\u0000",
                 "a" * 300):  # fmt: skip
        yield Case("captions", f"file {file[:12]}", _captions(_row('"a"', f'"{file}"')))
    for row in ('{"file": "a.png"}', '{"text": "a"}', '{"file_name": "a.png", "text": "a"}',
                '{"file": "a.png", "text": "a", "text": "b"}'):  # fmt: skip
        yield Case("captions", f"keys {row}", _captions(row))
    for encoding in ("utf-16", "utf-16-le", "utf-32", "latin-1"):
        yield Case("captions", encoding, _captions(_row('"caf\u00e9"').encode(encoding)))
    for text in ("", "\n\n", "\ufeff"):
        yield Case("captions", f"nothing {text!r}", _captions(text))
    for odd in ODD:

        def make(folder: Path, odd: str = odd) -> Path:
            _odd("captions.jsonl", odd)(folder)
            return folder

        yield Case("captions", odd, make)


# ---- pictures -----------------------------------------------------------------------------

RED = (255, 0, 0)


def _picture(name: str, raw: bytes | None, odd: str = "") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _file(name, raw)(folder) if raw is not None else _odd(name, odd)(folder)
        (folder / "captions.jsonl").write_text(json.dumps({"file": name, "text": "a"}))
        return folder

    return make


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture_cases() -> Iterator[Case]:
    """Pictures of every mode, size and format, whole and cut off."""
    clear = Image.new("RGBA", (9, 7), (1, 2, 3, 0))
    white = (255, 255, 255)
    grey16 = Image.fromarray(np.full((7, 9), 257 * 90, np.uint16))
    kinds: dict[str, tuple[Image.Image, str, Any]] = {
        "red png": (Image.new("RGB", (9, 7), RED), "png", RED),
        "red tiff": (Image.new("RGB", (9, 7), RED), "tiff", RED),
        "red bmp": (Image.new("RGB", (9, 7), RED), "bmp", RED),
        "red gif": (Image.new("RGB", (9, 7), RED), "gif", RED),
        "1 bit": (Image.new("1", (9, 7), 1), "png", white),
        "grey": (Image.new("L", (9, 7), 90), "png", (90,) * 3),
        "16 bits": (grey16, "png", (90,) * 3),
        "16 bits tiff": (grey16, "tiff", (90,) * 3),
        "float": (Image.fromarray(np.full((7, 9), 90 / 255, np.float32)), "tiff", (90,) * 3),
        "clear png": (clear, "png", white),
        "clear tiff": (clear, "tiff", white),
        "clear grey": (Image.new("LA", (9, 7), (3, 0)), "png", white),
        "cmyk": (Image.new("CMYK", (9, 7), (0, 255, 255, 0)), "tiff", RED),
        "palette": (Image.new("RGB", (9, 7), RED).quantize(4), "png", RED),
        "1 x 1": (Image.new("RGB", (1, 1), RED), "png", RED),
        "long": (Image.new("RGB", (4000, 2), RED), "png", RED),
        "float of 2": (Image.fromarray(np.full((7, 9), 2, np.float32)), "tiff", None),
        "float NaN": (Image.fromarray(np.full((7, 9), np.nan, np.float32)), "tiff", None),
        "32 bits": (Image.fromarray(np.full((7, 9), 9, np.int32)), "tiff", None),
    }
    for name, (image, kind, right) in kinds.items():
        yield Case("pictures", name, _picture(f"a.{kind}", encoded(image, kind)), right)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
        raw = encoded(noise, kind)
        for part in (0, 1, 8, len(raw) // 3, len(raw) // 2, len(raw) - 60):
            yield Case("pictures", f"{kind} cut to {part}", _picture(f"a.{kind}", raw[:part]))
    exif = Image.Exif()
    for turn in range(1, 9):
        exif[0x0112] = turn
        raw = encoded(Image.new("RGB", (9, 7), RED), "png", exif=exif)
        yield Case("pictures", f"exif {turn}", _picture("a.png", raw), RED)
    for odd in ODD:
        yield Case("pictures", odd, _picture("a.png", None, odd))
    for name, text in {
        "text": b"no picture",
        "svg": b"<svg/>",
        "html": b"<html>404</html>",
    }.items():
        yield Case("pictures", name, _picture("a.png", text))


# ---- mutations ----------------------------------------------------------------------------


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """The bytes with a few of them changed, left out, doubled or cut off."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        choice = rng.randrange(5)
        if choice == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif choice == 1:
            del data[at : at + rng.randint(1, 8)]
        elif choice == 2:
            data[at:at] = data[at : at + rng.randint(1, 16)]
        elif choice == 3:
            data[at:at] = rng.choice(
                [b"\r", b"\n", b'"', b"{", b"\\u", b"\xff", b"\0", b",", b"\t"]
            )
        else:
            del data[at:]
    return bytes(data)


def mutations(seed: int, count: int) -> Iterator[Case]:
    """Right files with a few bytes changed: refused, or read as another reader reads them."""
    rng = random.Random(seed)
    rows = [json.dumps({"prompt": p, "category": ""}, ensure_ascii=False) for p in PLAIN]
    lines = [_row(json.dumps(p, ensure_ascii=False)) for p in PLAIN]
    for number in range(count):
        raw = mutated("\n".join(PLAIN).encode(), rng)
        yield Case("prompts", f"mutated txt {number}", _file("a.txt", raw), _read_plain(raw))
        raw = mutated("\n".join(rows).encode(), rng)
        yield Case("prompts", f"mutated jsonl {number}", _file("a.jsonl", raw), ...)
        raw = mutated(json.dumps(PLAIN).encode(), rng)
        yield Case("prompts", f"mutated json {number}", _file("a.json", raw), ...)
        raw = mutated("\n".join(["prompt,category", *(f'"{p}",x' for p in PLAIN)]).encode(), rng)
        yield Case("prompts", f"mutated csv {number}", _file("a.csv", raw), ...)
        yield Case(
            "captions", f"mutated {number}", _captions(mutated("\n".join(lines).encode(), rng)), ...
        )
        kind = rng.choice(["png", "jpeg", "gif", "bmp", "tiff", "webp"])
        raw = mutated(encoded(Image.effect_noise((24, 24), 90).convert("RGB"), kind), rng)
        yield Case("pictures", f"mutated {kind} {number}", _picture(f"a.{kind}", raw), ...)


def _read_plain(raw: bytes) -> tuple[str, ...] | None:
    """Lines as another reader has them; None for what is refused."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    found = [x.removesuffix("\r") for x in text.removeprefix("\ufeff").split("\n")]
    prompts = tuple(x.strip(" \t") for x in found if x.strip())
    bad = not prompts or "\0" in text or any("\r" in x for x in found if x.strip())
    return None if bad else prompts


# ---- judging ------------------------------------------------------------------------------


def verdict(case: Case, folder: Path) -> str:
    """ "refused" or "accepted" where that is right; anything else says what went wrong."""
    path = case.make(folder)
    # A method that asks for no real latents takes any prompts.
    key, method = ("prompts", "tdm") if case.kind == "prompts" else ("images", "lcm")
    experiment = folder / "e.yaml"
    experiment.write_text(EXPERIMENT.format(data=f"{key}: {json.dumps(str(path))}", method=method))
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command(["validate", str(experiment)])
    except TimeoutError:
        return "hangs"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    told = err.getvalue()
    if code not in (0, 2) or "Traceback" in told or "internal error" in told:
        return f"exit {code}: {told[-200:]}"
    if code == 2 and not told.startswith(f"{experiment}:"):
        return f"refused without its place: {told[:200]}"
    if code == 2:
        return "refused" if case.right in (None, ...) else f"refused: {told[:300]}"
    if case.right is None:
        return "accepted, and is wrong"
    have = value_of(case, path)
    same = case.right is ... or have == case.right
    return "accepted" if same else f"read as {have!r}, not {case.right!r}"


def value_of(case: Case, path: Path) -> Any:
    """What a run would use."""
    if case.kind == "prompts":
        return load_prompts(str(path)).prompts
    captions = read_captions(path)
    if case.kind == "captions":
        return captions.texts
    return open_picture(captions.paths[0]).getpixel((0, 0))


def cases(seed: int = 0, count: int = 20) -> Iterator[Case]:
    """All of them."""
    yield from prompt_cases()
    yield from caption_cases()
    yield from picture_cases()
    yield from mutations(seed, count)


def main() -> int:
    """Judge every case; 1 where any went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutations", type=int, default=20, help="of each of six kinds")
    asked = parser.parse_args()

    def late(number: int, frame: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    counts: Counter[tuple[str, str]] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as root:
        os.environ["DISTILLBENCH_CACHE"] = f"{root}/cache"
        for number, case in enumerate(cases(asked.seed, asked.mutations)):
            folder = Path(root, str(number))
            folder.mkdir()
            found = verdict(case, folder)
            good = found in ("refused", "accepted")
            counts[case.kind, found if good else "WRONG"] += 1
            if not good:
                wrong += 1
                print(f"{case.kind} {case.name}: {found}")
    for (kind, found), count in sorted(counts.items()):
        print(f"{kind:9} {found:9} {count}")
    print(f"{sum(counts.values())} cases, {wrong} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
