"""The stages of a plan by their keys; the same key is made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distillbench.plan.identity import content_key
from distillbench.plan.stage import Stage
from distillbench.specs.stages import AnySpec

__all__ = ["Stages"]


@dataclass
class Stages:
    """Makes stages.

    Attributes:
        runtime: what every stage is told beside its spec; most are told more.
        stages: key -> stage, each after those it needs.
    """

    runtime: Mapping[str, Any]
    stages: dict[str, Stage] = field(default_factory=dict)

    def stage(self, spec: AnySpec, label: str, **more: Any) -> Stage:
        """The stage of a spec, made at its first mention; `more` are further fields of it."""
        plain = spec.plain()
        key = content_key(plain)
        if key not in self.stages:
            self.stages[key] = Stage(spec.kind, key, plain, label=label, **more)
        return self.stages[key]
