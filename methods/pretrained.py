"""Weights that others trained, as a row: nothing is trained, all else is as for any student."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from distillbench.api.checkpoints import refuse_other_family
from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.api.published import Published
from distillbench.api.samplers import from_recipe
from distillbench.api.stock_samplers import WindowsSampler
from distillbench.core.schedules import lcm_times, linspace, trailing
from distillbench.errors import NotSupported

from .settings.pretrained import PretrainedConfig

if TYPE_CHECKING:
    from distillbench.api import Need
    from distillbench.api.backbone import Backbone
    from distillbench.api.sampler import Sampler

__all__ = ["Pretrained"]

LCM_GRID = 50


class Pretrained(Method):
    """A published checkpoint with its right sampler (`distillbench list checkpoints`).

    The file becomes a student once, in the place of a training, and is sampled, scored and exported
    like one. Its bytes are part of every key, its place is not.
    """

    Config = PretrainedConfig
    title = "Pretrained"

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        if self.config.recipe:
            refuse_other_family(self.config.recipe, backbone)
        if self.config.kind == "pipeline":
            embed = self.config.guidance_embed
            self.backbone = backbone.with_pipeline(self.published(), embed)

    def nets(self) -> dict[str, NetSpec]:
        """None: nothing is trained."""
        return {}

    def published(self) -> Published:
        """The weights."""
        c = self.config
        terms = str(c.note.get("licence", ""))
        return Published(c.weights, c.kind, c.scale, c.prediction, c.sha256, terms, c.variant)

    def requirements(self) -> Sequence[Need]:
        """The file, which the project does not bring."""
        return (self.published().need(),)

    def sampler(self, nfe: int) -> Sampler:
        """The sampler it was made for, at its own times.

        Raises:
            NotSupported: it is not sampled with `nfe` evaluations.
        """
        c = self.config
        recipe = {
            **c.sampler.model_dump(),
            "timesteps": self._times(nfe),
            "guidance_scale": c.guidance_scale,
        }
        if c.guidance_embed is not None and c.kind != "pipeline":
            recipe["embed_scale"] = c.guidance_embed
        if c.gamma is not None:
            recipe["gamma"] = _of(c.gamma, nfe, "its gamma is given")
        return from_recipe(recipe)

    def check_recipe(self, recipe: Sampler) -> None:
        """See `Method.check_recipe`; straight paths have times of their own on any backbone."""
        straight = self.config.prediction in ("flow", "velocity")
        if not straight or self.backbone.process_kind == "flow":
            super().check_recipe(recipe)
        elif not all(0 < t <= self.backbone.num_timesteps for t in recipe.timesteps):
            raise NotSupported(f"times of a flow are above 0, up to {self.backbone.num_timesteps}")

    def _times(self, nfe: int) -> tuple[float, ...]:
        nodes, total = self.config.nodes, self.backbone.num_timesteps
        if not isinstance(nodes, str):
            times = _of(nodes, nfe, "its times are given")
            if len(times) != nfe:
                raise NotSupported(f"{len(times)} times cannot make nfe {nfe}; give one each")
            return tuple(times)
        given = self.config.sampler.model_dump()
        windows = int(given.get("windows", WindowsSampler.model_fields["windows"].default))
        made: dict[str, Callable[[], tuple[float, ...]]] = {
            "trailing": lambda: trailing(nfe, total),
            "lcm": lambda: lcm_times(nfe, self.backbone.solver_grid(LCM_GRID)),
            "linspace": lambda: linspace(nfe, total),
            "nodes": lambda: self.backbone.nodes(nfe),
            "flow": lambda: tuple(total - i * total // nfe for i in range(nfe)),
            "windows": lambda: WindowsSampler.times(nfe, windows, total),
        }
        try:
            return made[nodes]()
        except ValueError as error:
            raise NotSupported(str(error)) from None

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Never asked for by the loop.

        Raises:
            NotSupported: always.
        """
        raise NotSupported("published weights are not trained")


def _of(given: Any, nfe: int, what: str) -> Any:
    """A value of one number of evaluations, or of all."""
    if not isinstance(given, Mapping):
        return given
    if nfe not in given:
        known = ", ".join(map(str, sorted(given)))
        raise NotSupported(f"{what} for nfe {known}, not for {nfe}")
    return given[nfe]
