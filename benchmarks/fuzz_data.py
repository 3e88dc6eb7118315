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
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz_pictures import mutations, picture_cases
from fuzz_texts import Case, caption_cases, prompt_cases
from random_sd import make

from distillbench.cli.main import run_command
from distillbench.data.captions import read_captions
from distillbench.data.pictures import open_picture
from distillbench.data.prompts import load_prompts

SECONDS = 10
EXPERIMENT = """\
name: f
backbones: {{b: {{use: sd, params: {{model: {model}}}}}}}
base: {{backbone: b, train: {{updates: 2}},
  sample: {{n: 8, prompts: {model}/prompts.txt}}, data: {{{data}}}}}
rows: [{{method: {method}, params: {{nets: copy}}}}]
"""


def verdict(case: Case, folder: Path, model: Path) -> str:
    """ "refused" or "accepted" where that is right; anything else says what went wrong."""
    path = case.make(folder)
    # A method that asks for no real latents takes any prompts.
    key, method = ("prompts", "tdm") if case.kind == "prompts" else ("images", "lcm")
    experiment = folder / "e.yaml"
    data = f"{key}: {json.dumps(str(path))}"
    experiment.write_text(EXPERIMENT.format(data=data, method=method, model=model))
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
        model = Path(root, "model")
        make("tiny", model)  # a backbone that takes any words
        for number, case in enumerate(cases(asked.seed, asked.mutations)):
            folder = Path(root, str(number))
            folder.mkdir()
            found = verdict(case, folder, model)
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
