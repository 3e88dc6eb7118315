"""Samples for the page: which of them, and as what they are put into it.

Pictures of up to SIDE pixels a side are inside the page: exact ones up to EXACT pixels, as JPEG
above. Of larger ones the page holds a copy reduced to SIDE, and the whole picture lies beside it in
`report_pictures/`. Of a clip the page shows the middle frame, and plays it when it is pointed at or
compared; those larger than EXACT lie beside the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.analysis.aggregate import Results
from distillbench.analysis.columns import backbone_labels
from distillbench.analysis.rows import Row
from distillbench.api.metric import MetricInfo
from distillbench.errors import ArtifactError
from distillbench.experiment.schema import Experiment
from distillbench.report.encode import EXACT, as_clip, as_picture, is_clip, middle
from distillbench.report.samples import pick_balanced, read_samples
from distillbench.report.strips import Strip, strips_of

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PICTURES", "SIDE", "pictures_of", "sample_sets"]

PICTURES = 1200
"""About the most samples of one page."""
SIDE = 256
FOLDER = "report_pictures"
_FEWEST, _MOST = 8, 400
_CLIP = 4
_CLOUDS, _POINTS = 16, 300


def sample_sets(
    experiment: Experiment, results: Results, infos: Mapping[str, MetricInfo], outdir: Path
) -> list[dict[str, Any]]:
    """The samples that can be compared, in sets of one backbone, one noise and the same prompts.

    Large pictures are written to `outdir`/report_pictures.
    """
    labels = backbone_labels(experiment)
    rows = [row for row in results.rows if row.first.sample]
    strips = strips_of(results, rows, labels) if rows else []
    sets: dict[tuple[Any, ...], list[tuple[Row, Strip]]] = {}
    for row, strip in zip(rows, strips, strict=True):
        if not strip.missing:
            sets.setdefault((row.first.backbone, strip.prompts), []).append((row, strip))
    budget = max(_FEWEST, min(_MOST, PICTURES // max(1, len(strips))))
    made = (_sample_set(members, results, infos, budget, outdir) for members in sets.values())
    found = [one for one in made if one["rows"]]
    for one in found:
        one["label"] = labels.get(one["backbone"], one["backbone"])
    missing = [{"label": s.label, "why": s.missing} for s in strips if s.missing]
    return [*found, *([{"missing": missing}] if missing else [])]


def _sample_set(
    members: Sequence[tuple[Row, Strip]], results: Results, infos: Mapping[str, MetricInfo],
    budget: int, outdir: Path,
) -> dict[str, Any]:  # fmt: skip
    first = members[0][1]
    scores = {m: [_by_index(results, row, strip, m) for row, strip in members] for m in infos}
    scores = {m: columns for m, columns in scores.items() if any(columns)}
    kind, each = _kind(first)
    budget = max(_FEWEST, budget // each)
    places = _chosen(first, list(scores.values()), budget) if kind == "picture" else _clouds(first)
    shown = []
    for number, (_, strip) in enumerate(members):
        try:
            made = pictures_of(strip, places, kind, outdir)
        except ArtifactError:
            continue
        values = {m: _rounded(columns[number], strip, places) for m, columns in scores.items()}
        shown.append({"label": strip.label, "pictures": made, "scores": values})
    return {
        "backbone": members[0][0].first.backbone, "seed": first.cell.seed, "kind": kind,
        "of": len(first.lines), "rows": shown,
        "prompts": [first.lines[p]["prompt"] for p in places],
        "categories": [first.lines[p]["category"] for p in places],
    }  # fmt: skip


def _kind(strip: Strip) -> tuple[str, int]:
    """What its samples are shown as, and as how many pictures one counts."""
    try:
        sample = read_samples(strip.folder, [0])[0]
    except ArtifactError:
        return "picture", 1
    return ("picture" if sample.ndim >= 3 else "points"), (_CLIP if is_clip(sample) else 1)


def _by_index(results: Results, row: Row, strip: Strip, metric: str) -> dict[int, float]:
    """Per-sample values of the seed shown, by the number of the sample in its prompt set."""
    scored = next(s for s in results.scores(row, metric) if s.cell == strip.cell)
    samples = scored.score.samples("") if scored.score else ()
    return {sample.number: sample.value for sample in samples if math.isfinite(sample.value)}


def _rounded(
    values: Mapping[int, float], strip: Strip, places: Sequence[int]
) -> list[float | None]:
    found = (values.get(strip.lines[place]["index"]) for place in places)
    return [None if value is None else float(f"{value:.6g}") for value in found]


# ---- which samples -------------------------------------------------------------------------


def _chosen(
    strip: Strip, scores: Sequence[Sequence[Mapping[int, float]]], budget: int
) -> list[int]:
    """Positions: all, or the first of every category and those on which the rows differ most."""
    if len(strip.lines) <= budget:
        return list(range(len(strip.lines)))
    balanced = pick_balanced(strip.lines, budget)
    orders = [sorted(range(len(strip.lines)), key=_spread(strip, c), reverse=True) for c in scores]
    first = balanced[: budget if not orders else budget // 2]
    turns = (place for turn in zip_longest(*orders) for place in turn if place is not None)
    rest = zip_longest(turns, balanced[len(first) :])
    more = (place for pair in rest for place in pair if place is not None)
    return sorted(list(dict.fromkeys([*first, *more]))[:budget])


def _spread(strip: Strip, columns: Sequence[Mapping[int, float]]) -> Any:
    def spread(place: int) -> float:
        index = strip.lines[place]["index"]
        values = [column[index] for column in columns if index in column]
        return max(values) - min(values) if values else 0.0

    return spread


def _clouds(strip: Strip) -> list[int]:
    """The first sample of each of a few prompts; its cloud is of all samples of that prompt."""
    firsts: dict[str, int] = {}
    for place, prompt in enumerate(strip.prompts):
        firsts.setdefault(prompt, place)
    return list(firsts.values())[:_CLOUDS]


# ---- as what -------------------------------------------------------------------------------


def pictures_of(strip: Strip, places: Sequence[int], kind: str, outdir: Path) -> list[Any]:
    """For each place a picture {"src", "side", "full"?, "moves"?} or a cloud [[x, y], ...].

    Raises ArtifactError where samples are missing.
    """
    if kind == "points":
        return [_cloud(strip, strip.prompts[place]) for place in places]
    encoded = []
    for some in _batches(places, 64):
        for place, sample in zip(some, read_samples(strip.folder, some), strict=True):
            encoded.append(
                _encoded(sample, outdir / FOLDER, f"{strip.cell.sample[:12]}-{place:05d}")
            )
    return encoded


def _cloud(strip: Strip, prompt: str) -> list[list[float]]:
    places = [i for i, own in enumerate(strip.prompts) if own == prompt][:_POINTS]
    return [[float(f"{v:.4g}") for v in point[:2]] for point in read_samples(strip.folder, places)]


def _batches(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (places[start : start + size] for start in range(0, len(places), size))


def _encoded(sample: np.ndarray, folder: Path, name: str) -> dict[str, Any]:
    """A picture as a data URI; the whole of a larger one, and of a clip, is written to `folder`."""
    picture, large = middle(sample), max(sample.shape[-3:-1])
    shown = {"src": as_picture(picture, most=SIDE).uri, "side": min(large, SIDE)}
    if is_clip(sample):
        clip, shown["moves"] = as_clip(sample), True
        shown["full"] = clip.uri if large <= EXACT else _beside(clip.data, folder, f"{name}.webp")
    elif large > SIDE:
        shown["full"] = _beside(as_picture(picture, most=large).data, folder, f"{name}.jpg")
    return shown


def _beside(data: bytes, folder: Path, name: str) -> str:
    """Where the page finds what is written there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return f"{FOLDER}/{name}"
