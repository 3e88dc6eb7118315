"""Settings of weights that others trained: what they are, and how they want to be sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from distillbench.api.checkpoints import checkpoint
from distillbench.api.fields import NEUTRAL, SAMPLING
from distillbench.api.published import WeightsKind

__all__ = ["PretrainedConfig", "SamplerSettings"]

Spacing = Literal["trailing", "lcm", "linspace", "nodes", "flow", "windows"]


def _by_number(given: Any) -> Any:
    """Keys of JSON and TOML are text."""
    if not isinstance(given, Mapping):
        return given
    return {int(k) if str(k).isdigit() else k: v for k, v in given.items()}


ByNumber = BeforeValidator(_by_number)
Nodes = Annotated[Spacing | tuple[float, ...] | dict[PositiveInt, tuple[float, ...]], ByNumber]
Gamma = Annotated[float | dict[PositiveInt, float] | None, ByNumber]
Prediction = Literal["", "epsilon", "v_prediction", "sample", "flow", "velocity"]


class SamplerSettings(BaseModel):
    """A sampler but for its times and scales.

    Attributes:
        kind: ode | renoise | gamma | euler | windows; `list methods` shows what each takes.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: Literal["ode", "renoise", "gamma", "euler", "windows"] = "ode"


class PretrainedConfig(BaseModel):
    """Weights, and the sampler they were made for.

    Attributes:
        recipe: a checkpoint of the catalogue (`distillbench list checkpoints`); what it says holds
            where nothing else is given.
        weights: a file or folder, or `owner/name:file@revision` of the hub.
        variant: of the weight files of a pipeline, such as fp16; "" is the plain files, or the only
            ones.
        sha256: of those bytes; a hub file without one is trusted on first use.
        kind: lora | network (a whole denoiser) | delta (one minus its base) | pipeline (a folder
            with text encoder and decoder of its own).
        scale: multiplies a lora's alpha / rank, or a delta.
        prediction: what the network puts out; "" is what its backbone or its pipeline says. A flow
            or velocity is of straight paths, x_t = (1 - t / T) x0 + (t / T) noise.
        sampler: its kind, and what that kind takes beside times and scales.
        nodes: input times as a list, per number of evaluations, or as a spacing: trailing, lcm (the
            50-step grid), linspace, nodes (the backbone's), flow (T (1 - i / N)), windows.
        gamma: of the gamma sampler, one or per number of evaluations.
        guidance_scale: a second branch at sampling, 1 = none.
        guidance_embed: the scale that a network with such an embedding is told.
        note: what a reader should know: licence, human feedback, the published row.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Annotated[str, NEUTRAL] = ""
    weights: Annotated[str, NEUTRAL] = ""
    variant: Annotated[str, NEUTRAL] = ""
    sha256: Annotated[str, NEUTRAL] = Field("", pattern=r"^([0-9a-fA-F]{64})?$")
    kind: WeightsKind = "lora"
    scale: float = 1.0
    prediction: Prediction = ""
    sampler: Annotated[SamplerSettings, SAMPLING] = SamplerSettings()
    nodes: Annotated[Nodes, SAMPLING] = "trailing"
    gamma: Annotated[Gamma, SAMPLING] = None
    guidance_scale: Annotated[float, SAMPLING] = Field(1.0, ge=1)
    guidance_embed: float | None = None
    note: Annotated[dict[str, Any], NEUTRAL] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_catalogue(cls, given: Any) -> Any:
        """What the catalogue says, under what is given."""
        if not isinstance(given, Mapping) or not given.get("recipe"):
            return given
        entry = checkpoint(str(given["recipe"]))
        return {**entry.params, **given}

    @model_validator(mode="after")
    def _fitting(self) -> PretrainedConfig:
        kind = self.sampler.kind
        straight = self.prediction in ("flow", "velocity")
        if self.scale != 1 and self.kind in ("network", "pipeline"):
            raise ValueError(f"scale: {self.scale:g} multiplies a lora or a delta, no {self.kind}")
        if self.variant and self.kind != "pipeline":
            raise ValueError(f"variant: is of a pipeline's files; name the file of the {self.kind}")
        if straight and kind in ("gamma", "windows", "euler"):
            raise ValueError(f"a {self.prediction} is sampled by ode or renoise, not by {kind}")
        if self.prediction not in ("", "epsilon") and kind == "windows":
            raise ValueError(f"windows read noise, and the network puts out {self.prediction}")
        if self.gamma is not None and kind != "gamma":
            raise ValueError(f"gamma: the {kind} sampler has none; set sampler: {{kind: gamma}}")
        if self.nodes == "windows" and kind != "windows":
            raise ValueError(f"nodes: windows are of the windows sampler, not of {kind}")
        return self
