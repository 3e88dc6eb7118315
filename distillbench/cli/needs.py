"""How the subcommands tell what a run needs and has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distillbench.errors import BadInput

if TYPE_CHECKING:
    from distillbench.plan.requirements import Requirement
    from distillbench.plan.stage import StageKind

__all__ = ["StoreWithReasons", "missing_lines", "refuse"]

HINT = "a run stops without these; --allow-missing runs what can"


def missing_lines(found: Sequence[Requirement]) -> list[str]:
    """What a plan says of it."""
    if not found:
        return []
    return [*(f"  missing: {need.line}" for need in found), f"  {HINT}"]


def refuse(found: Sequence[Requirement]) -> None:
    """Stop a run that would lack something. Raises BadInput with one line for each."""
    if found:
        lines = "\n".join(f"missing: {need.line}" for need in found)
        what = "nothing was started; get them, or run what can with --allow-missing"
        raise BadInput(f"{lines}\n{what}")


class StoreWithReasons:
    """A store that knows why stages were not run, for the footnotes of tables."""

    def __init__(self, store: Any, reasons: Mapping[str, str]) -> None:
        self._store, self._reasons = store, reasons

    def reason(self, kind: StageKind, key: str) -> str:
        """See `report.aggregate.StoreLike`."""
        found: str = self._store.reason(kind, key) or self._reasons.get(key, "")
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
