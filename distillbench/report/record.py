"""What a report holds before it is written: tables, verdicts, figures and what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distillbench.analysis.aggregate import Results
from distillbench.analysis.verdicts import Verdict
from distillbench.api.metric import MetricInfo
from distillbench.errors import BadInput
from distillbench.experiment.schema import Experiment
from distillbench.report.table import Table

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """What was found, ready for any writer.

    Attributes:
        tables: quality tables, in the experiment's order. cost: the cost table.
        verdicts: one per claim.
        refused: name -> why a table or curve was not made: it would mix protocols, or its
            `published_match` names no row.
    """

    experiment: Experiment
    results: Results
    infos: Mapping[str, MetricInfo]
    tables: tuple[Table, ...]
    cost: Table
    verdicts: tuple[Verdict, ...]
    refused: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise BadInput when anything was refused; its message has one line for each."""
        if self.refused:
            raise BadInput(
                "\n".join(f"{name}: {why}" for name, why in self.refused.items()),
                hint="Everything else is written",
            )
