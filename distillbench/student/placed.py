"""What a student is sampled with beside its own weights: another base, adapters on top of it.

A sample stage, `sample`, `export` and the Python door all ask for it here, so that a row of an
experiment and a command give the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillbench.api.published import Published
from distillbench.specs.stages import BackboneSpec, OnTopSpec
from distillbench.specs.stored import Told
from distillbench.store.runs import placed_part

__all__ = ["AS_TRAINED", "Placed"]


@dataclass(frozen=True)
class Placed:
    """The default is the student as it was trained.

    Attributes:
        on: another backbone that it is carried over to: name, params, revision.
        onto: folder of a training of the same backbone that it is carried over to.
        adapters: LoRAs of others that are added to whatever is sampled.
        spec: the fields of a sample's spec that it was made of.
    """

    on: Mapping[str, Any] | None = None
    onto: Path | None = None
    adapters: tuple[Published, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, spec: Mapping[str, Any], told: Mapping[str, Any], runs: Path) -> Placed:
        """What a sample stage says of it.

        Args:
            spec: of the stage, or no more than the fields `stages.PLACED` of it.
            told: what the stage is told beside it: where weights lie.
            runs: the folder that trainings lie in.

        Raises:
            BadInput: these are no fields of this version.
        """
        where = Told.model_validate(dict(told))
        there, onto = spec.get("sample_on"), spec.get("onto")
        on = None
        if there is not None:
            its = BackboneSpec.read(there, of="sample_on").plain()
            on = {**its, "params": {**its["params"], **where.settings.get("sample_on", {})}}
        on_top = [OnTopSpec.read(given, of="adapters") for given in spec.get("adapters", ())]
        return cls(
            on,
            None if onto is None else runs / onto,
            tuple(
                Published(place, "lora", its.scale, "", its.weights)
                for place, its in zip(where.adapters, on_top, strict=True)
            ),
            placed_part(spec),
        )

    def __bool__(self) -> bool:
        """Whether anything is else than as it was trained."""
        return self != AS_TRAINED

    @property
    def whole(self) -> bool:
        """Whether the base is one that nobody else has, so that no adapter carries the student."""
        return self.onto is not None or bool(self.adapters)


AS_TRAINED = Placed()
