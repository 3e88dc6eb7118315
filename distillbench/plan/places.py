"""What rows are sampled on, and whose samples they are compared with.

A row stands for its backbone, for the one it is carried over to (`sample_on`), or for a net that is
trained here: that of the row which `sample_on` names. That row stands for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distillbench.experiment.expand import GridPoint
from distillbench.files.marks import Problems, did_you_mean, locate
from distillbench.plan.given import Given, given_label
from distillbench.plan.links import label_of
from distillbench.plan.resolve import Resolver
from distillbench.plan.resolved import Resolved

__all__ = ["Places", "name_of"]

Rows = Sequence[tuple[GridPoint, Resolved | Given]]


def name_of(point: GridPoint, row: Resolved | Given) -> str:
    """What a row is called."""
    return given_label(point) if isinstance(row, Given) else label_of(point, row)


class Places:
    """Of the rows of a plan."""

    def __init__(self, rows: Rows, resolver: Resolver) -> None:
        self._resolver = resolver
        self._made = [(point, row) for point, row in rows if isinstance(row, Resolved)]
        self._nets = {label_of(p, r): (p, r) for p, r in reversed(self._made)}
        self._teachers: dict[tuple[str, str], Resolved | None] = {}
        self._trained = {row.onto for _, row in self._made if row.onto}
        self._called = {name for point, row in rows for name in self._names(point, row)}

    def of(self, point: GridPoint, row: Resolved | Given) -> str:
        """An alias, or the label of a trained net."""
        return self._own(point, row) or row.alias

    def teacher(self, point: GridPoint, row: Resolved | Given) -> tuple[GridPoint, Resolved] | None:
        """What a row is compared with, sampled for the prompts of that row; None for nothing."""
        config, shown = self._resolver.experiment.reference, row.shown
        if config is None or shown is None:
            return None
        named = config.named_for(self._names(point, row)) or self._own(point, row)
        trained = "" if self._resolver.knows(named) else named
        asked = shown.alias, "" if trained else named
        if asked not in self._teachers:
            self._teachers[asked] = self._resolver.reference(shown, asked[1])
        teacher = self._teachers[asked]
        if teacher is None:
            return None
        if not trained:  # the backbone's own, whatever the row was trained from
            return point.unlinked(), teacher
        its, net = self._nets[trained]
        fields = {"sample": point.config.sample, "snapshots": [], "sample_on": ""}
        its = replace(its, config=its.config.model_copy(update=fields))
        return its, replace(net, recipe=teacher.recipe, on=None, onto="")

    def check(self, problems: Problems) -> None:
        """Report what `reference.backbone` names and nothing is called by."""
        config = self._resolver.experiment.reference
        named = config.backbone if config is not None else ""
        keys = dict.fromkeys(named) if isinstance(named, dict) else {}
        values = dict.fromkeys(named.values() if isinstance(named, dict) else [named])
        nets = [label_of(p, r) for p, r in self._made if r.method.denoises and r.trains]
        for names, known in ((keys, sorted(self._called)), (values, nets)):
            words = list(dict.fromkeys([*self._resolver.experiment.backbones, *known]))
            for name in names:
                if name and name not in words and not self._resolver.knows(name):
                    mark, _ = locate(self._resolver.experiment.tree, ("reference", "backbone"))
                    what = f"unknown backbone {name!r}; there are: {', '.join(words)}"
                    problems.add(mark, f"{what}.{did_you_mean(name, words)}")

    def _own(self, point: GridPoint, row: Resolved | Given) -> str:
        """Label of the trained net that a row is sampled on, or is for others; "" for none."""
        if isinstance(row, Given):
            return ""
        label = label_of(point, row)
        return row.onto or (label if label in self._trained else "")

    def _names(self, point: GridPoint, row: Resolved | Given) -> tuple[str, ...]:
        """What `reference.backbone` may call a row."""
        return name_of(point, row), self.of(point, row), row.alias
