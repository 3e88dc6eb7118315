"""What a student that is there already is to be sampled with, in the words of a row.

A row of an experiment is planned by `plan.planner`; the command line and Python say the same words
of one student. Both are checked by the same functions, and come to the same fields of a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distillbench.api import registry
from distillbench.api.fields import split
from distillbench.api.registry import BACKBONES
from distillbench.errors import BadInput
from distillbench.experiment.schema import CellConfig
from distillbench.files.explain import validated
from distillbench.files.marks import MapNode, Problems, locate
from distillbench.plan.steering import steered
from distillbench.plan.used import UsedBackbone, not_carried
from distillbench.plan.weights import adapters_of, needs_of
from distillbench.specs.stages import BackboneSpec
from distillbench.specs.stored import Told
from distillbench.specs.trained import TrainingRecipe

__all__ = ["WORDS", "placed_fields"]

WORDS = ("sample_on", "adapters", "control", "image_prompts")
_Said = tuple[dict[str, Any], dict[str, Any]]
"""Fields of a sample's spec, and what its stage is told beside it."""


def placed_fields(words: MapNode, folder: Path, run_of: Callable[[str], Path | None]) -> _Said:
    """The fields that words come to.

    Args:
        words: entries of a row, no others than `WORDS`.
        folder: the student's training.
        run_of: the folder of a training that is named, None for what names none.

    Raises:
        ConfigError: the words are wrong or do not fit the student; all of it together.
        BadInput: weights are not on this disk.
    """
    problems = Problems()
    for key in words.keys() - set(WORDS):
        problems.add(locate(words, (key,))[0], f"no word of a sample; there are {_listed()}")
    problems.raise_if_any()
    cell = validated(CellConfig, words, problems, owner="a row")
    problems.raise_if_any()
    assert cell is not None
    recipe, spec, told = TrainingRecipe.read(folder), dict[str, Any](), dict[str, Any]()
    used = _used(recipe.backbone.name, recipe.backbone.params)
    if cell.sample_on:
        used = _carried(recipe, used, cell.sample_on, run_of, words, problems, spec, told)
    if cell.adapters:
        made = adapters_of(cell, used.backbone, words, problems)
        spec["adapters"] = [its.plain() for its in made]
        told["adapters"] = [given.weights for given in cell.adapters]
    if cell.control or cell.image_prompts:  # their prompts are known where they are sampled
        steering = steered(cell, used.backbone, None, 0, words, problems)
        spec |= {kind: [its.plain() for its in listed] for kind, listed in steering.spec.items()}
        told["places"] = steering.places
    problems.raise_if_any()
    # Of the student's own store it is a key, as in a row.
    if "onto" in spec and Path(spec["onto"]).parent == folder.resolve().parent:
        spec["onto"] = Path(spec["onto"]).name
    needs = [*used.backbone.requirements(), *needs_of(spec, Told.model_validate(told))]
    if lacking := [need.line for need in needs if need.problem]:
        raise BadInput("\n".join(lacking))
    return spec, told


def _listed() -> str:
    return ", ".join(WORDS)


def _used(name: str, params: dict[str, Any]) -> UsedBackbone:
    backbone = registry.build_backbone(name, params)
    parts = split(backbone.config)
    spec = BackboneSpec(name=name, params=dict(parts.decisive), revision=backbone.revision())
    return UsedBackbone(str(params.get("model", name)), backbone, spec, parts.marked)


def _carried(
    recipe: TrainingRecipe, used: UsedBackbone, there: str,
    run_of: Callable[[str], Path | None], words: MapNode, problems: Problems,
    spec: dict[str, Any], told: dict[str, Any],
) -> UsedBackbone:  # fmt: skip
    """The backbone that is sampled then; its fields are put in."""
    run = run_of(there)
    on = _elsewhere(recipe, there) if run is None else _same(used, run, there)
    method = registry.build_method(recipe.method.name, recipe.method.params, used.backbone)
    mark = locate(words, ("sample_on",))[0]
    for what in (*on.backbone.problems(), not_carried(method, used, on)):
        if what:
            problems.add(mark, what)
    if run is not None:
        spec["onto"] = str(run)
    else:
        spec["sample_on"] = on.spec.plain()
        told["settings"] = {"sample_on": dict(on.settings)}
    return on


def _same(used: UsedBackbone, run: Path, there: str) -> UsedBackbone:
    """The student's own backbone, where a training on the same is named."""
    other = TrainingRecipe.read(run).backbone
    if (other.name, other.revision) != (used.spec.name, used.spec.revision):
        raise BadInput(f"sample_on {there}: trained on another backbone than the student")
    return used


def _elsewhere(recipe: TrainingRecipe, there: str) -> UsedBackbone:
    """A registered backbone, or other weights of the student's family."""
    name, params = recipe.backbone.name, recipe.backbone.params
    if there in BACKBONES.names() and not Path(there).exists():
        return _used(there, {})
    if "model" not in BACKBONES.get(name).Config.model_fields:
        known = ", ".join(BACKBONES.names())
        raise BadInput(
            f"sample_on {there}: no training, and no backbone; there are {known}",
            hint=f"backbone {name} has no other weights to name",
        )
    model, _, revision = there.partition("@") if not Path(there).exists() else (there, "", "")
    return _used(name, {**params, "model": model, "revision": revision, "variant": ""})
