"""The key of a study: which side of each pair is whose. Raters never see it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from distillbench.errors import ArtifactError, BadInput
from distillbench.store.record import seal, unseal

__all__ = ["Key", "PairKey", "Position"]

Position = Literal["left", "right"]


@dataclass(frozen=True)
class PairKey:
    """One pair: its prompt, the number of the sample, and where A stands.

    A check shows the same prompt beside noise: the side that is the picture is the right answer,
    and the pair says nothing of A and B.
    """

    prompt: str
    index: int
    a: Position
    check: bool = False


@dataclass(frozen=True)
class Key:
    """A whole study.

    Attributes:
        study: digest of everything below.
        experiment, a, b: the rows compared, as a claim names them.
        samples: keys of both sample stages.
    """

    study: str
    experiment: str
    a: str
    b: str
    samples: tuple[str, str]
    pairs: tuple[PairKey, ...]

    def write(self, path: Path) -> None:
        """Write it with a digest of itself."""
        path.write_text(json.dumps(seal(asdict(self)), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Key:
        """Read it. Raises BadInput when it is missing, ArtifactError when it was changed."""
        if not path.is_file():
            raise BadInput(f"{path}: no such file", hint="It lies where the study was made")
        try:
            body = unseal(json.loads(path.read_text(encoding="utf-8")))
            pairs: Sequence[PairKey] = [PairKey(**pair) for pair in body["pairs"]]
            a, b = body["samples"]
            return Key(**{**body, "pairs": tuple(pairs), "samples": (a, b)})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path}: truncated or altered") from error
