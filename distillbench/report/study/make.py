"""Make a study: pairs of one prompt and one noise, sides shuffled, in a page without a name."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.analysis.aggregate import Results
from distillbench.analysis.claims import as_side, parse_claim, resolve
from distillbench.errors import BadInput
from distillbench.files.io import storage_guard
from distillbench.report.encode import as_clip, as_picture, is_clip
from distillbench.report.page.build import asset, embedded
from distillbench.report.samples import pick_balanced, read_samples
from distillbench.report.strips import Strip, strips_of
from distillbench.report.study.key import Key, PairKey, Position

if TYPE_CHECKING:
    import numpy as np

__all__ = ["make_study"]

SIDE = 512
"""Pixels of the longest side of a picture or clip in the page; larger ones are reduced to it."""
KEY, PAGE = "key.json", "study.html"


def make_study(
    results: Results, rows: tuple[str, str], *, pairs: int, checks: int, seed: int, out: Path
) -> Key:
    """Write study.html and key.json into `out`; returns the key.

    Raises:
        BadInput: a row is not there, has no samples, or the two have other prompts or noise.
    """
    a, b = _strips(results, rows)
    places = pick_balanced(a.lines, pairs)
    rng = random.Random(f"{seed} {a.cell.sample} {b.cell.sample}")
    rng.shuffle(places)
    shown = [*places, *(rng.choice(places) for _ in range(checks))]
    flags = [False] * len(places) + [True] * checks
    order = list(range(len(shown)))
    rng.shuffle(order)
    sides: list[Position] = [rng.choice(("left", "right")) for _ in shown]
    keys = tuple(
        PairKey(str(a.lines[shown[n]]["prompt"]), int(a.lines[shown[n]]["index"]), sides[n],
                flags[n])
        for n in order
    )  # fmt: skip
    made = {"experiment": results.plan.name, "a": rows[0], "b": rows[1],
            "samples": (a.cell.sample, b.cell.sample), "pairs": keys}  # fmt: skip
    digest = hashlib.sha256(repr(sorted(made.items())).encode()).hexdigest()[:16]
    key = Key(study=digest, **made)  # type: ignore[arg-type]
    pictures = [_pair(a, b, shown[n], keys[m], rng) for m, n in enumerate(order)]
    what = "clip" if is_clip(read_samples(a.folder, [0])[0]) else "picture"
    with storage_guard(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(_page(key, pictures, what), encoding="utf-8")
        key.write(out / KEY)
    return key


def _strips(results: Results, rows: tuple[str, str]) -> tuple[Strip, Strip]:
    names = {row.name for row in results.rows}
    left, right = (as_side(row, names) for row in rows)
    try:
        found = resolve(parse_claim(f"{left} > {right} on study"), results.rows)
    except ValueError as error:
        raise BadInput(str(error).replace(" on study", "").replace("claim", "rows")) from error
    a, b = strips_of(results, found, {})
    for name, strip in zip(rows, (a, b), strict=True):
        if strip.missing:
            raise BadInput(f"{name}: {strip.missing}")
    if found[0].first.backbone != found[1].first.backbone:
        raise BadInput(f"{rows[0]} and {rows[1]} are of different backbones: no noise in common")
    if a.prompts != b.prompts:
        raise BadInput(f"{rows[0]} and {rows[1]} were sampled from different prompts")
    if a.cell.sample == b.cell.sample:
        raise BadInput(f"{rows[0]} and {rows[1]} are the same samples")
    if read_samples(a.folder, [0])[0].ndim < 3:
        raise BadInput(f"{rows[0]}: its samples are points, not pictures")
    return a, b


def _pair(a: Strip, b: Strip, place: int, key: PairKey, rng: random.Random) -> dict[str, Any]:
    """What the page shows of one pair; of a check the second picture is noise."""
    first, second = (read_samples(strip.folder, [place])[0] for strip in (a, b))
    if key.check:
        second = _scrambled(first, rng.randrange(2**32))
    images = [_uri(first), _uri(second)]
    if key.a == "right":
        images.reverse()
    return {"prompt": key.prompt, "left": images[0], "right": images[1]}


def _scrambled(sample: np.ndarray, seed: int) -> np.ndarray:
    """The same pixels in no order."""
    import numpy as np

    flat = sample.reshape(-1, sample.shape[-1])
    return np.random.default_rng(seed).permutation(flat).reshape(sample.shape)


def _uri(sample: np.ndarray) -> str:
    """A picture, or a clip that plays."""
    if is_clip(sample):
        return as_clip(sample, most=SIDE).uri
    return as_picture(sample, most=SIDE, exact=256).uri


def _page(key: Key, pictures: Sequence[dict[str, Any]], what: str) -> str:
    folder = Path(__file__).parent / "assets"
    script = (folder / "study.js").read_text(encoding="utf-8")
    script = "(() => {\n" + asset("dom.js") + script + "})();\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    data = {"study": key.study, "pairs": pictures, "colours": []}
    styles = (folder / "study.css").read_text(encoding="utf-8")
    parts = {
        "hash": digest,
        "what": what,
        "styles": styles,
        "data": embedded(data),
        "script": script,
    }
    page = (folder / "study.html").read_text(encoding="utf-8")
    return re.sub("@([a-z]+)@", lambda found: parts[found[1]], page)
