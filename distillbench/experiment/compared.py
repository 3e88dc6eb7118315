"""What metrics of whole sample sets, such as FID, compare a row with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from distillbench.experiment.outputs import Section

__all__ = ["ReferenceConfig"]


class ReferenceConfig(Section):
    """What metrics such as FID compare with: a teacher's samples at the same n, or real pictures.

    Attributes:
        images: real pictures in place of a teacher's samples, for every metric that takes them: a
            folder, the .npz of clean-fid, or the name of either under `<data root>/images`. A
            metric's own `params: {reference: {images: ...}}` goes before it.
        method, params: a method without nets, and its parameters.
        nfe: its network evaluations.
        guidance_scale: one for all backbones, or a mapping from their aliases; none is what the
            method recommends.
        backbone: alias of the teacher that all rows are compared with, or label of a trained one;
            or a mapping to these from labels of rows, or from what rows are sampled on; "" is each
            row's own, which it is sampled on.
        noise: "same" starts from the noise of the row that is compared; only a cell that is its own
            reference is compared with other noise, so that its row shows a floor and not zero. Rows
            of shared noise may fall below that floor. "other" compares every row with other noise,
            so that the teacher's own row is the floor of all.
        floor_seed: added to the seed where the noise is other.
    """

    images: str = ""
    method: str = "teacher"
    params: dict[str, Any] = Field(default_factory=dict)
    nfe: PositiveInt = 25
    guidance_scale: float | dict[str, float] | None = None
    backbone: str | dict[str, str] = ""
    noise: Literal["same", "other"] = "same"
    floor_seed: PositiveInt = 1000

    @model_validator(mode="after")
    def _of_one_kind(self) -> ReferenceConfig:
        if self.images and (others := sorted(self.model_fields_set - {"images"})):
            raise ValueError(
                f"real pictures take the place of a teacher's samples, whose {', '.join(others)} "
                "would mean nothing; keep images or these"
            )
        return self

    def named_for(self, names: Sequence[str]) -> str:
        """The alias, or label of a trained teacher, that a row is compared with; "" for its own.

        Args:
            names: what the row may be called, of which the first that is mapped holds.
        """
        if isinstance(self.backbone, str):
            return self.backbone
        return next((self.backbone[name] for name in names if name in self.backbone), "")
