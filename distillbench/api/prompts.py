"""A prompt set: what a run trains on or samples, with its content's hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

__all__ = ["PromptSet"]


@dataclass(frozen=True)
class PromptSet:
    """Prompts, each with a category name ("" for none).

    Attributes:
        sha256: over both, line by line.
        unread: fields and columns of its files that mean nothing here.
        reordered: whether its files have the prompts in another order, as category by category:
            a number alone does not say then which prompt is meant.
    """

    name: str
    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    unread: tuple[str, ...] = ()
    reordered: bool = False
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        pairs = list(zip(self.categories, self.prompts, strict=True))
        text = "".join(f"{c}\t{p}\n" for c, p in pairs)
        if text.count("\t") > len(pairs) or text.count("\n") > len(pairs):
            text = json.dumps(pairs)  # else two prompts and one of two lines would be the same
        object.__setattr__(self, "sha256", hashlib.sha256(text.encode()).hexdigest())

    def __len__(self) -> int:
        return len(self.prompts)
