"""Mutated experiments: every one is refused in lines with exit code 2, or accepted and obeyed.

    python benchmarks/fuzz.py [--cases 1000] [--seed 0] [--processes 2]

Each case changes one shipped experiment in its structure (a value, a key, an entry) or in its text
(a character, a line) and asks `distillbench plan`, for some also `validate` and `table`. A case is
wrong when the answer is a traceback or an internal error, an exit code other than 0 and 2, a
refusal without a place, more than 20 seconds or 400 MB, or an acceptance that shows nowhere in the
plan. What a run cannot see of a value (the base's, where all rows have their own) is counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from distillbench.cli.main import run_command

ROOT = Path(__file__).resolve().parent.parent
SECONDS, MEGABYTES = 20, 400
VALUES: tuple[Any, ...] = (
    True, False, None, "", "3", 0, -1, 1, 7, 1.0, 2.5, -0.5, 10**12, 1e12, 10**5000, [], {}, [[]],
    [True], ["3"], {"a": 1}, {"use": "gmm"}, "../../README", "store", "cost", "CON", "x" * 20_000,
    "\x1b[2J", "a\nb", "\ud800", "\u202e", "[/ref]", "=1+1", "$\\frac{$", "\\input{x}", ".nan",
    "/dev/zero", "a/b", "*", "<<", "nan", "yes", "1e3", list(range(300)), {"nfe": [1, 2]},
    "tdm > lcm on hps", "teacher", "tdm", "gmm", "tiny-sd", 2**33, "None", "_x", "params.eta",
)  # fmt: skip
TEXTS = (
    "\t", "\x00", "\r", "\u2028", "\ufeff", "&a ", "*a", "<<: *a\n", "!!int ", "!x ", "? ", "- ",
    ": ", "[", "]", "{", "}", "'", '"', "|", ">", "#", "%YAML 1.1\n", "---\n", "...\n",
    "&a [*a]", "\\",
    "\u00e9", "\U0001f600", "@", "`", ",", "1e12", "-", "    ",
)  # fmt: skip
PLANNED = frozenset(
    {"base", "for_method", "rows", "methods", "grid", "zip", "ablate", "include", "backbones",
     "metrics", "reference", "seeds"}
)  # fmt: skip
UNSEEN = frozenset({"save_every", "label", "group"})
"""Settings that decide no number; labels show in tables alone."""


@dataclass(frozen=True)
class Case:
    """A mutated experiment: its text, what was done, and the path of a value that changed."""

    file: str
    text: str
    what: str
    path: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How a case ended: refused, accepted, unseen, or wrong with the reason."""

    case: Case
    end: str
    reason: str = ""


# ---- mutations ------------------------------------------------------------------------------


def shipped() -> list[Path]:
    """All experiments of the project."""
    return sorted((ROOT / "experiments").glob("*.yaml"))


def mutated(number: int, seed: int, files: list[Path]) -> Case:
    """Case `number`: the same for the same seed."""
    draw = random.Random(f"{seed}-{number}")
    path = draw.choice(files)
    text = path.read_text(encoding="utf-8")
    if draw.random() < 0.35:
        return Case(path.name, *_text_mutation(text, draw))
    return _structure_mutation(path.name, YAML(typ="safe", pure=True).load(text), draw)


def _text_mutation(text: str, draw: random.Random) -> tuple[str, str]:
    lines = text.splitlines(keepends=True)
    at, row = draw.randrange(len(text)), draw.randrange(len(lines))
    piece = draw.choice(TEXTS)
    ways = {
        "insert": lambda: text[:at] + piece + text[at:],
        "delete": lambda: text[:at] + text[at + draw.randint(1, 9) :],
        "cut": lambda: text[:at],
        "line twice": lambda: "".join([*lines[: row + 1], *lines[row:]]),
        "line away": lambda: "".join([*lines[:row], *lines[row + 1 :]]),
        "indent": lambda: "".join([*lines[:row], " " * draw.randint(1, 4), *lines[row:]]),
        "crlf": lambda: text.replace("\n", "\r\n"),
        "bom": lambda: "\ufeff" + text,
        "deep": lambda: text + "x: " + "[" * draw.choice((20, 2000)),
        "swap": lambda: "".join([*lines[:row], *lines[row + 1 :], lines[row]]),
    }
    name = draw.choice(sorted(ways))
    return ways[name](), f"text: {name} at {at} / line {row + 1} {piece!r}"


def _leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if not isinstance(node, dict | list):
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _leaves(value, (*path, key))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _structure_mutation(file: str, tree: Any, draw: random.Random) -> Case:
    path = draw.choice(list(_leaves(tree)))
    holder, last = _at(tree, path[:-1]), path[-1]
    old = holder[last]
    way = draw.choice(
        ("value", "value", "number", "number", "remove", "rename", "add", "wrap", "twice")
    )
    if way == "number" and isinstance(old, int | float) and not isinstance(old, bool):
        holder[last] = old + 1 if isinstance(old, int) else old * 1.5 + 0.25
    elif way == "remove":
        del holder[last]
    elif way == "rename" and isinstance(holder, dict):
        holder[draw.choice((f"{last}s", str(last)[1:], str(last).upper(), "x"))] = holder.pop(last)
    elif way == "add" and isinstance(holder, dict):
        holder[draw.choice(("foo", "nfe", "label", "params", "use", "steps"))] = draw.choice(VALUES)
    elif way == "twice" and isinstance(holder, list):
        holder.insert(last, old)
    elif way == "wrap":
        holder[last] = [old]
    else:
        holder[last] = draw.choice(VALUES)
    changed = isinstance(holder, dict) and last in holder and holder[last] != old
    shown = json.dumps(tree) if not _huge(holder) else _with_digits(tree)
    what = f"{way} at {'.'.join(map(str, path))}: {str(old)[:40]!r} -> {_short(holder, last)}"
    return Case(file, shown, what, path if changed else ())


def _huge(holder: Any) -> bool:
    values = holder.values() if isinstance(holder, dict) else holder
    return any(isinstance(v, int) and abs(v) > 10**4000 for v in values)


def _with_digits(tree: Any) -> str:
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(tree)
    finally:
        sys.set_int_max_str_digits(4300)


def _short(holder: Any, last: Any) -> str:
    try:
        return repr(holder[last])[:60]
    except (LookupError, TypeError, ValueError):
        return "..."


# ---- what the command line makes of them ----------------------------------------------------


class _Slow(Exception):
    """A case took too long."""


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    def late(*_: object) -> None:
        raise _Slow

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def ask(*arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run_command(list(arguments))
        except _Slow:
            code = -1
        except BaseException as error:
            code, _ = -2, err.write(f"{type(error).__name__}: {error}")
    return code, out.getvalue(), err.getvalue()


def judge(case: Case, folder: Path, number: int, plans: dict[str, Any]) -> Verdict:
    """Write the case, ask about it, and say how it ended."""
    path = folder / "e.yaml"
    path.write_bytes(case.text.encode("utf-8", "surrogatepass"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = str(folder / "results")
    with _bounded():
        code, out, err = ask("plan", str(path), "--results", results, "--json")
        more = [("validate", str(path))] if number % 4 == 0 else []
        more += (
            [("table", str(path), "--results", results)] if number % 10 == 0 and not code else []
        )
        others = [ask(*command) for command in more]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for exit_code, _, told in ((code, out, err), *others):
        if reason := _wrong(exit_code, told):
            return Verdict(case, "wrong", reason)
    if grown > MEGABYTES:
        return Verdict(case, "wrong", f"took {grown:.0f} MB")
    if code:
        placed = re.search(r"e\.yaml(:\d+:\d+)?: ", err)
        return (
            Verdict(case, "refused") if placed else Verdict(case, "wrong", f"no place: {err[:90]}")
        )
    return _obeyed(case, json.loads(out), plans)


def _wrong(code: int, told: str) -> str:
    if code == -1:
        return f"longer than {SECONDS} s"
    if code not in (0, 2) or "Traceback" in told or "internal error" in told:
        return f"exit code {code}: {told.strip()[:200]}"
    return ""


def _obeyed(case: Case, plan: Any, plans: dict[str, Any]) -> Verdict:
    """Whether what was changed is seen in the plan; a base value may be overridden by all rows."""
    relevant = case.path and case.path[0] in PLANNED and not UNSEEN & {*case.path}
    if not relevant or plan != plans[case.file]:
        return Verdict(case, "accepted")
    return Verdict(case, "unseen", "the plan is as before")


def _work(share: tuple[int, int, int, int, list[Path]]) -> list[Verdict]:
    first, step, cases, seed, files = share
    os.environ["DISTILLBENCH_DATA"] = tempfile.mkdtemp(prefix="fuzz-data-")
    plans = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in files:
            made = folder / "e.yaml"
            made.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
            code, out, err = ask("plan", str(made), "--results", str(folder / "results"), "--json")
            assert code == 0, err
            plans[path.name] = json.loads(out)
        return [
            judge(mutated(number, seed, files), folder, number, plans)
            for number in range(first, cases, step)
        ]


def fuzz(
    cases: int, seed: int = 0, processes: int = 1, files: list[Path] | None = None
) -> list[Verdict]:
    """The verdicts on `cases` mutations."""
    shares = [(i, processes, cases, seed, files or shipped()) for i in range(processes)]
    if processes == 1:
        return _work(shares[0])
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return [verdict for part in pool.map(_work, shares, chunksize=1) for verdict in part]


def main() -> int:
    """Run, tell the counts and every case that is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    verdicts = fuzz(options.cases, options.seed, options.processes)
    for verdict in verdicts:
        if verdict.end in ("wrong", "unseen"):
            print(f"{verdict.end}: {verdict.case.file}: {verdict.case.what}: {verdict.reason}")
    counts = Counter(verdict.end for verdict in verdicts)
    print(f"{len(verdicts)} cases: {dict(sorted(counts.items()))}")
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
