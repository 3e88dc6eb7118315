"""The base of all that a stage reads: typed, complete, and nothing in it that is not read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from distillbench.errors import ArtifactError, BadInput
from distillbench.files.explain import report_invalid
from distillbench.files.io import read_json, write_json
from distillbench.files.marks import Problems

__all__ = ["FileRecord", "Record", "told"]

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
            raise BadInput(f"{of}: {told(error, cls, raw, owner=of)}", hint=_AGAIN) from None

    def plain(self) -> dict[str, Any]:
        """The mapping that it was read from, JSON-able."""
        return self.model_dump(mode="json", exclude_unset=True)


class FileRecord(BaseModel):
    """A typed view of a JSON file of ours; what later versions write beside it is let be.

    Attributes:
        file: its name.
        remedy: what to do where it cannot be read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    file: ClassVar[str]
    remedy: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of a folder.

        Raises:
            ArtifactError: the file is missing or no JSON, or a field is missing or of another type;
                one line that names the file, every such field, and what to do.
        """
        path = folder / cls.file
        try:
            return cls.of(read_json(path), path)
        except ArtifactError as error:
            raise ArtifactError(str(error), hint=cls.remedy) from None

    @classmethod
    def of(cls, value: Any, path: Path) -> Self:
        """The same of what was read from `path`."""
        if not isinstance(value, Mapping):
            raise ArtifactError(f"{path}: truncated or altered (not an object)")
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ArtifactError(f"{path}: {told(error, cls, value, owner=cls.file)}") from None

    def write(self, folder: Path) -> None:
        """Write what was set of it. Raises StorageError."""
        write_json(folder / self.file, self.model_dump(mode="json", exclude_unset=True))


def told(
    error: ValidationError, model: type[BaseModel], raw: Mapping[str, Any], *, owner: str
) -> str:
    """Every field that is wrong and why, in one line."""
    problems = Problems()
    report_invalid(error, model, dict(raw), problems, owner=owner)
    return "; ".join(line.rstrip(".") for line in problems.lines)
