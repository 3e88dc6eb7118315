"""Links between rows: a row may take another's trained net as its teacher, or start from it.

Rows are named by label and must lie on the same backbone, or on one that differs in the size of
its samples alone, as stages of a training at rising resolution do. A student may also be sampled on
the net of another row, which was trained on the same backbone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from distillbench.api.fields import same_network
from distillbench.api.registry import METHODS
from distillbench.experiment.expand import GridPoint
from distillbench.files.marks import did_you_mean
from distillbench.plan.resolve import Resolved
from distillbench.plan.used import UsedBackbone

__all__ = ["LINKS", "Link", "Links", "label_of"]

Link = Literal["teacher", "init", "sample_on"]
LINKS: tuple[Link, ...] = ("teacher", "init")
"""Those of a training."""
_Row = tuple[GridPoint, Resolved]
_ByValues = dict[tuple[str, ...], dict[Hashable, list[int]]]
"""Paths that vary -> their values -> places of the rows that have these."""


@dataclass
class Links:
    """Finds what links mean among the rows that were added; each look-up is of one index."""

    rows: list[_Row] = field(default_factory=list)
    _aliases: dict[str, UsedBackbone] = field(default_factory=dict)
    _labelled: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _varied: dict[tuple[str, str], _ByValues] = field(default_factory=dict)
    _alike: dict[tuple[str, str], bool] = field(default_factory=dict)
    _sound: set[int] = field(default_factory=set)

    def add(self, point: GridPoint, resolved: Resolved) -> None:
        """Make a row known, which links may name."""
        place, alias = len(self.rows), resolved.used.alias
        self.rows.append((point, resolved))
        self._aliases.setdefault(alias, resolved.used)
        self._labelled.setdefault((alias, label_of(point, resolved)), []).append(place)
        if point.centre:
            named = self._varied.setdefault((alias, _name(point, resolved)), {})
            untold = point.untold
            values = named.setdefault(tuple(sorted(untold)), {})
            values.setdefault(_frozen([untold[k] for k in sorted(untold)]), []).append(place)

    def __iter__(self) -> Iterator[tuple[GridPoint, Resolved, Link]]:
        """Every row with each of its links."""
        for p, r in self.rows:
            yield from ((p, r, link) for link in LINKS if getattr(p.config, link))
            if r.onto:
                yield p, r, "sample_on"

    def problem(self, point: GridPoint, resolved: Resolved, link: Link) -> str:
        """Why a link leads to no fitting row; "" when it does."""
        found = self.named(point, resolved, link)
        if found and link == "sample_on":
            itself = found[0][1] is resolved and "it would be sampled on itself"
            return itself or _unfit(resolved, found[0][1], "teacher")
        if found:
            return _unfit(resolved, found[0][1], link) or self._circle(point, resolved)
        label, own = getattr(point.config, link), label_of(point, resolved)
        labels = [label for alias in self._near(resolved) for a, label in self._labelled
                  if a == alias]  # fmt: skip
        known = list(dict.fromkeys(name for name in labels if name != own))
        what = f"no row on backbone {resolved.used.alias!r} has the label {label!r}; there are: "
        if link == "sample_on":
            what = f"unknown backbone {label!r}, and {what}"
        return what + f"{', '.join(known) or 'none'}.{did_you_mean(label, known)}"

    def named(self, point: GridPoint, resolved: Resolved, link: Link) -> list[_Row]:
        """The rows of that label; where a grid made many of one row, that of the same values.

        Rows of the same backbone go before those of its network at another size.
        """
        own, *others = self._near(resolved)
        label = getattr(point.config, link)
        places = self._places(point, label, [own]) or self._places(point, label, others)
        return [self.rows[place] for place in places]

    def _places(self, point: GridPoint, label: str, aliases: Sequence[str]) -> list[int]:
        found = [p for alias in aliases for p in self._labelled.get((alias, label), ())]
        if not found:
            for alias in aliases:
                for names, values in self._varied.get((alias, label), {}).items():
                    if all(name in point.varied for name in names):
                        found += values.get(_frozen([point.varied[name] for name in names]), ())
        return sorted(found)

    def _near(self, resolved: Resolved) -> list[str]:
        """The backbone of a row, then those of its network at another size."""
        own = resolved.used
        return [own.alias, *(a for a, used in self._aliases.items() if self._resized(used, own))]

    def _resized(self, one: UsedBackbone, two: UsedBackbone) -> bool:
        pair = one.alias, two.alias
        if pair not in self._alike:
            self._alike[pair] = _resized(one, two)
        return self._alike[pair]

    def _circle(self, point: GridPoint, resolved: Resolved, path: tuple[str, ...] = ()) -> str:
        """What is wrong when following the links of a row leads in a circle."""
        name = label_of(point, resolved)
        if name in path:
            return f"row {name!r} would start from itself"
        if id(point) in self._sound:
            return ""
        links = [link for link in LINKS if getattr(point.config, link)]
        found = [other for link in links for other in self.named(point, resolved, link)]
        wrong = next(filter(None, (self._circle(*other, (*path, name)) for other in found)), "")
        if not wrong:
            self._sound.add(id(point))
        return wrong


def _frozen(value: Any) -> Hashable:
    """A value of a file that can be looked up; equal for equal values."""
    if isinstance(value, Mapping):
        return frozenset((key, _frozen(inner)) for key, inner in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _unfit(resolved: Resolved, other: Resolved, link: Link) -> str:
    """Why a run cannot be the teacher, or the start, of another; "" when it can."""
    name, theirs = other.method.name, other.method.nets()
    if not theirs:  # published weights have no kind that is known before they are read
        return f"{name} trains nothing that could be a row's {link}"
    spec = theirs[other.method.student]
    if link == "teacher":
        if not other.method.denoises:
            known = ", ".join(n for n in METHODS.names() if METHODS.get(n).denoises)
            return f"a {name} student does not predict scores; a teacher is a row of: {known}"
        return ""
    own = resolved.method.nets()
    if not own:
        return f"{resolved.method.name} has no student that could start from another"
    mine = own[resolved.method.student]
    if (mine.kind, dict(mine.opts)) != (spec.kind, dict(spec.opts)):
        return (
            f"the students differ: {spec.kind} {dict(spec.opts) or ''} there, {mine.kind} "
            f"{dict(mine.opts) or ''} here; make nets, rank, lora_alpha and embeddings agree"
        )
    return ""


def _resized(one: UsedBackbone, two: UsedBackbone) -> bool:
    """Whether they are two sizes of one network."""
    alike = same_network(one.backbone.config, two.backbone.config)
    return alike and one.alias != two.alias and one.spec.revision == two.spec.revision


def label_of(point: GridPoint, resolved: Resolved) -> str:
    """What a row is called."""
    name = _name(point, resolved)
    return f"{name} ({point.suffix})" if point.suffix else name


def _name(point: GridPoint, resolved: Resolved) -> str:
    """What a row is called where nothing of it varies."""
    return point.config.label or resolved.method.title or resolved.method.name
