"""Links between rows: a row may take another's trained net as its teacher, or start from it.

Rows are named by label and must lie on the same backbone, or on one that differs in the size of
its samples alone, as stages of a training at rising resolution do. A student may also be sampled on
the net of another row, which was trained on the same backbone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

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


@dataclass
class Links:
    """Finds what links mean; `rows` are what they may name."""

    rows: list[tuple[GridPoint, Resolved]] = field(default_factory=list)

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
        label = getattr(point.config, link)
        rows = [row for near in self._near(resolved) for row in near]
        labels = [label_of(p, r) for p, r in rows]
        known = list(dict.fromkeys(name for name in labels if name != label_of(point, resolved)))
        what = f"no row on backbone {resolved.used.alias!r} has the label {label!r}; there are: "
        if link == "sample_on":
            what = f"unknown backbone {label!r}, and {what}"
        return what + f"{', '.join(known) or 'none'}.{did_you_mean(label, known)}"

    def named(
        self, point: GridPoint, resolved: Resolved, link: Link
    ) -> list[tuple[GridPoint, Resolved]]:
        """The rows of that label; where a grid made many of one row, that of the same values."""
        found = (self._labelled(point, link, near) for near in self._near(resolved))
        return next(filter(None, found), [])

    def _labelled(
        self, point: GridPoint, link: Link, near: list[tuple[GridPoint, Resolved]]
    ) -> list[tuple[GridPoint, Resolved]]:
        label = getattr(point.config, link)
        found = [(p, r) for p, r in near if label_of(p, r) == label]
        return found or [
            (p, r) for p, r in near
            if p.centre and _name(p, r) == label
            and all(k in point.varied and point.varied[k] == v for k, v in p.untold.items())
        ]  # fmt: skip

    def _near(self, resolved: Resolved) -> tuple[list[tuple[GridPoint, Resolved]], ...]:
        """The rows of the same backbone, then those of its network at another size."""
        own = [(p, r) for p, r in self.rows if r.used.alias == resolved.used.alias]
        others = [(p, r) for p, r in self.rows if _resized(r.used, resolved.used)]
        return own, others

    def _circle(self, point: GridPoint, resolved: Resolved, path: tuple[str, ...] = ()) -> str:
        """What is wrong when following the links of a row leads in a circle."""
        name = label_of(point, resolved)
        if name in path:
            return f"row {name!r} would start from itself"
        links = [link for link in LINKS if getattr(point.config, link)]
        found = [other for link in links for other in self.named(point, resolved, link)]
        return next(filter(None, (self._circle(*other, (*path, name)) for other in found)), "")


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
