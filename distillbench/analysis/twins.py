"""Two stored stages beside each other: in what their specs differ, and what both were scored.

The spec of samples holds that of their training, the spec of a score that of its samples, so that
any two stages of one kind are compared from the training on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from distillbench.analysis.scores import Score, read_score
from distillbench.api.samplers import from_recipe
from distillbench.errors import ArtifactError, BadInput
from distillbench.files.leaves import leaves
from distillbench.specs.stored import StoredStage

if TYPE_CHECKING:
    from distillbench.store.layout import Store

__all__ = ["ABSENT", "Scored", "Twins", "twins"]

ABSENT = "-"
_ABOVE = {"sample": "train", "score": "sample"}


@dataclass(frozen=True)
class Scored:
    """One column that both were scored in.

    Attributes:
        nfe: evaluations of the samples.
        metric: registered name, with its column (a category) where it is not the metric's own.
        a, b: the values.
        problem: why they must not be compared: the settings in which they were measured otherwise.
    """

    nfe: int | None
    metric: str
    a: float
    b: float
    problem: str = ""


@dataclass(frozen=True)
class Twins:
    """What tells two stages apart.

    Attributes:
        spec: dotted path -> the two values, for those that differ.
        scores: what both were scored in.
        notes: what could not be paired, and why.
    """

    spec: Mapping[str, tuple[Any, Any]]
    scores: tuple[Scored, ...]
    notes: tuple[str, ...] = ()


def twins(store: Store, a: tuple[str, str], b: tuple[str, str]) -> Twins:
    """Compare two stages given as (kind, key).

    Raises:
        BadInput: they are of different kinds.
        ArtifactError: one of them, or what it was made from, is damaged or not finished.
    """
    if a[0] != b[0]:
        what = f"{a[1]} is a {a[0]} stage and {b[1]} a {b[0]} stage"
        raise BadInput(f"{what}; name two of one kind")
    specs = [dict(leaves(_whole(store, kind, key))) for kind, key in (a, b)]
    paths = dict.fromkeys(name for spec in specs for name in spec)
    values = {path: (specs[0].get(path, ABSENT), specs[1].get(path, ABSENT)) for path in paths}
    found = [_scores(store, kind, key) for kind, key in (a, b)]
    notes: list[str] = []
    scores = tuple(_paired(found[0], found[1], notes))
    told = {path: pair for path, pair in values.items() if pair[0] != pair[1]}
    return Twins(told, scores, tuple(notes))


def _whole(store: Store, kind: str, key: str) -> dict[str, Any]:
    """The spec, with that of what it was made from in place of the key."""
    folder = store.verify(kind, key)
    spec = dict(StoredStage.read(folder / "spec.json").spec)
    above = _ABOVE.get(kind)
    if above and isinstance(spec.get(above), str):
        spec[above] = _whole(store, above, spec[above])
    return spec


_Place = tuple[Any, ...]
"""What samples must share to be set beside each other: evaluations and prompts."""
_Seed = int | None
_SHOWN = ("identity", "train", "backbone", "method", "prompts", "seed", "batch_size")
"""Of a sample's spec, what two trainings are told apart by already, or what chance hangs on."""


class _Found(NamedTuple):
    """A score, and how its samples were made beside what their training says."""

    score: Score
    made: Mapping[str, Any]


def _scores(store: Store, kind: str, key: str) -> dict[_Place, dict[_Seed, list[_Found]]]:
    """The finished scores behind a stage, by samples and metric, and by the seed of their noise."""
    found: dict[_Place, dict[_Seed, list[_Found]]] = {}
    samples = _samples(store, kind, key)
    for folder in sorted((store.root / "score").glob("*")):
        if "." in folder.name or (kind == "score" and folder.name != key):
            continue
        with suppress(ArtifactError):
            spec = StoredStage.read(folder / "spec.json").spec
            if str(spec.get("sample")) in samples and store.is_done("score", folder.name):
                place, seed, made = samples[str(spec["sample"])]
                named = (*place, spec["metric"]["name"], str(spec["metric"]["params"]))
                score = _Found(read_score(folder), made)
                found.setdefault(named, {}).setdefault(seed, []).append(score)
    return found


def _samples(
    store: Store, kind: str, key: str
) -> dict[str, tuple[_Place, _Seed, Mapping[str, Any]]]:
    """Keys of the sample stages concerned -> evaluations and prompts, seed, how they were made."""
    if kind == "score":
        spec = StoredStage.read(store.path(kind, key) / "spec.json").spec
        kind, key = "sample", str(spec["sample"])
    found: dict[str, tuple[_Place, _Seed, Mapping[str, Any]]] = {}
    for folder in sorted((store.root / "sample").glob("*" if kind == "train" else key)):
        if "." in folder.name:
            continue
        with suppress(BadInput, ArtifactError, KeyError):
            spec = StoredStage.read(folder / "spec.json").spec
            if kind == "sample" or spec.get("train") == key:
                nfe = from_recipe(spec["sampler"]).nfe
                told = {k: v for k, v in spec.items() if kind == "train" and k not in _SHOWN}
                place = (nfe, str(spec.get("prompts")))
                found[folder.name] = (place, spec.get("seed"), dict(leaves(told)))
    return found


def _paired(
    a: Mapping[_Place, Mapping[_Seed, list[_Found]]],
    b: Mapping[_Place, Mapping[_Seed, list[_Found]]],
    notes: list[str],
) -> Iterator[Scored]:
    """Scores of the same noise; where there are none, the only ones of each."""
    shared = [place for place in a if place in b]
    for place in shared:
        nfe, metric, ours, theirs = place[0], place[-2], a[place], b[place]
        seeds = [(seed, seed) for seed in ours if seed in theirs]
        if not seeds and len(ours) == len(theirs) == 1:
            seeds = [(next(iter(ours)), next(iter(theirs)))]
            other = "their samples have other noise, so that a part of a difference is its chance"
            notes += [other] if other not in notes else []
        alone = [(s, t) for s, t in seeds if len(ours[s]) == len(theirs[t]) == 1]
        if not alone:
            notes.append(f"{metric} at nfe {nfe}: sampled in several ways; name two sample stages")
        for mine, other_seed in alone:
            one, two = ours[mine][0], theirs[other_seed][0]
            if (told := _otherwise(nfe, one.made, two.made)) not in ("", *notes):
                notes.append(told)
            yield from _columns(nfe, metric, one.score, two.score)
    if not shared and a and b:
        notes.append("no metric scored both at the same evaluations and prompts")


def _otherwise(nfe: int | None, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """That two students were not sampled alike, so that a difference is not of training alone."""
    names = [n for n in dict.fromkeys((*a, *b)) if a.get(n, ABSENT) != b.get(n, ABSENT)]
    told = [f"{name} {a.get(name, ABSENT)} against {b.get(name, ABSENT)}" for name in names]
    return f"at nfe {nfe} their samples were made otherwise: {', '.join(told)}" if told else ""


def _columns(nfe: int | None, metric: str, a: Score, b: Score) -> Iterator[Scored]:
    differing = [n for n in sorted({*a.protocol, *b.protocol} - {"label"})
                 if a.protocol.get(n) != b.protocol.get(n)]  # fmt: skip
    problem = f"measured in different ways: {', '.join(differing)}" if differing else ""
    for column, (value, _) in a.aggregate.items():
        if column in b.aggregate:
            name = f"{metric} {column}".strip()
            yield Scored(nfe, name, value, b.aggregate[column][0], problem)
