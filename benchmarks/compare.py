"""What two runs of one experiment must have in common, byte for byte."""

from __future__ import annotations

from pathlib import Path

__all__ = ["UNEQUAL", "leftovers", "reproducible"]

# Measured times and provenance differ between any two runs.
UNEQUAL = ("cost.", "log.txt", "provenance.json", "done.json", "plan.json", "report.html")


def reproducible(results: Path) -> dict[str, bytes]:
    """Everything that must be reproducible, by path inside the results folder."""
    store = results / "store"
    inside = [p for p in results.rglob("*") if p.is_file() and p.parent != store]
    return {
        str(p.relative_to(results)): p.read_bytes()
        for p in inside
        if p.parent != results and not p.name.startswith(UNEQUAL)
    }


def leftovers(store: Path) -> list[str]:
    """Files beside the finished stages of a store."""
    return sorted(str(p) for p in store.glob("*/*") if "." in p.name)
