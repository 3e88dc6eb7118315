"""The base of all that a stage reads: typed, complete, and nothing in it that is not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from distillbench.errors import BadInput
from distillbench.files.explain import report_invalid
from distillbench.files.marks import Problems

__all__ = ["Record"]

_AGAIN = "another version of distillbench planned it; give the command again with this one"


class Record(BaseModel):
    """A typed view of a mapping: unknown and missing fields are errors, nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def read(cls, raw: Mapping[str, Any], *, of: str) -> Self:
        """The record of plain data.

        Args:
            raw: as it was planned, or read from a file.
            of: whose it is, such as "train stage 0f3a", for the error.

        Raises:
            BadInput: it does not fit; one line that names every field which is wrong.
        """
        try:
            return cls.model_validate(dict(raw))
        except ValidationError as error:
            problems = Problems()
            report_invalid(error, cls, dict(raw), problems, owner=of)
            told = "; ".join(line.rstrip(".") for line in problems.lines)
            raise BadInput(f"{of}: {told}", hint=_AGAIN) from None

    def plain(self) -> dict[str, Any]:
        """The mapping that it was read from, JSON-able."""
        return self.model_dump(mode="json", exclude_unset=True)
