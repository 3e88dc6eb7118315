"""What must be one thing wherever it is called by one name, and is two: worlds, versions, devices.

A plan's keys keep results of other weights and versions apart; a table puts rows side by side. Here
is what each row's numbers come from, by the name that a reader sees, so that a table can say where
one name stands for two things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from distillbench.analysis.rows import Row
from distillbench.analysis.tidy import StageCosts
from distillbench.plan.identity import content_key
from distillbench.plan.stage import Plan, Stage
from distillbench.specs.stages import BackboneSpec, MetricSpec

__all__ = ["Origins"]

_SHORT = 8


class Origins:
    """The facts of rows: name -> values.

    Args:
        labels: backbone alias -> what a table calls it.
        costs: of the stages, which say on what they ran.
    """

    def __init__(self, plan: Plan, labels: Mapping[str, str], costs: StageCosts) -> None:
        self._plan, self._labels, self._costs = plan, labels, costs

    def of(self, row: Row) -> dict[str, str]:
        """What the row's trainings and samples, and all that they stand on, come from."""
        found: dict[str, dict[str, None]] = {}
        shown = self._labels.get(row.first.backbone, row.first.backbone)
        for cell in row.cells:
            for stage in self._under(cell.train, cell.sample):
                for name, value in self._facts(stage, shown):
                    found.setdefault(name, {})[value] = None
            for kind in ("train", "sample"):
                cost = self._costs.of(cell, kind)
                device = "" if isinstance(cost, str) else _kind(str(cost.get("device", "")))
                if device:
                    found.setdefault("Device", {})[device] = None
        return {name: " and ".join(sorted(values)) for name, values in found.items()}

    def _under(self, *keys: str) -> Iterator[Stage]:
        """Stages with all that they need, each once."""
        seen: set[str] = set()
        todo = list(keys)
        while todo:
            key = todo.pop()
            stage = self._plan.stages.get(key)
            if stage is not None and key not in seen:
                seen.add(key)
                todo += stage.needs
                yield stage

    @staticmethod
    def _facts(stage: Stage, shown: str) -> Iterator[tuple[str, str]]:
        for role, spec in stage.record.plugins.items():
            if isinstance(spec, BackboneSpec):
                if role == "backbone":
                    yield f"Teacher {shown}", _teacher(spec)
            elif not isinstance(spec, MetricSpec):
                yield f"Version of {spec.name}", str(spec.version)


def _teacher(spec: BackboneSpec) -> str:
    """A backbone by its plug-in, weights and the settings that decide."""
    settings = f", settings {content_key(spec.params)[:_SHORT]}" if spec.params else ""
    digest = re.findall(r"[0-9a-f]{16,}", spec.revision)
    weights = digest[0][:_SHORT] if digest else spec.revision
    return f"{spec.name}, weights {weights}{settings}" if weights else f"{spec.name}{settings}"


def _kind(device: str) -> str:
    """`cuda:1` is a `cuda`."""
    return device.partition(":")[0]
