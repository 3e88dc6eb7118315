"""What the registry says a row's method can do, `registry.<fact>` in a table (no torch).

Asked is the plug-in with the row's settings, unloaded: what it accepts, and not how well it does
there. Of published weights the catalogue says for what they were published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, get_args

from distillbench.api.checkpoints import Checkpoint, checkpoints
from distillbench.api.registry import BACKBONES, build_backbone, build_method
from distillbench.errors import DistillbenchError
from distillbench.files.marks import did_you_mean
from distillbench.plan.stage import Stage
from distillbench.specs.context import PluginRole
from distillbench.specs.stages import Plugin

if TYPE_CHECKING:
    from distillbench.api.method import Method

__all__ = ["FACTS", "NOTE", "PREFIX", "fact_name", "registered", "unknown_fact"]

PREFIX: Final = "registry."
NOTE: Final = (
    "What a method can do is what its plug-in accepts with the row's settings, or what the "
    "catalogue says of published weights, and not how well it does it. Steps were asked for from "
    "1 to 8."
)
_MOST: Final = 8
_KINDS: Final = ("lora", "copy")


class _Asked:
    """The plug-ins of one training."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def built(self, *, backbone: str = "", nets: str = "") -> Method | None:
        """The method, on another backbone or with other nets; None where it takes none of them."""
        method, own = self._plugin("method"), self._plugin("backbone")
        params = dict(method.params)
        try:
            on = build_backbone(backbone, {}) if backbone else build_backbone(own.name, own.params)
            made = build_method(method.name, params, on)
            field = _nets_field(made) if nets else ""
            return build_method(method.name, params | {field: nets}, on) if field else made
        except (DistillbenchError, ValueError):  # a pipeline of another family is no setting there
            return None

    @property
    def published(self) -> Checkpoint | None:
        """The entry of published weights in the catalogue; None for what is trained here."""
        return checkpoints().get(str(self._plugin("method").params.get("recipe")))

    def taken(self) -> list[int]:
        """The numbers of evaluations that its students can be sampled with."""
        if entry := self.published:
            return list(entry.nfe)
        method = self.built()
        return [n for n in range(1, _MOST + 1) if method and _takes(method, n)]

    def _plugin(self, role: PluginRole) -> Plugin:
        return self._stage.plugin(role)


def registered(stage: Stage, fact: str) -> str:
    """A fact of the method of a training, as text; "--" where the plug-in cannot be asked."""
    asked = _Asked(stage)
    return FACTS[fact][1](asked) if asked.built() else "--"


def _steps(asked: _Asked) -> str:
    """`2+` for every number from 2 on (as far as it was asked), else those that it takes."""
    taken = asked.taken()
    if taken and taken == list(range(taken[0], _MOST + 1)):
        return f"{taken[0]}+"
    return ", ".join(map(str, taken)) or "--"


def _backbones(asked: _Asked) -> str:
    if entry := asked.published:
        return entry.backbone
    names = BACKBONES.names()
    fit = [name for name in names if _sampled(asked.built(backbone=name))]
    rest = [name for name in names if name not in fit]
    if len(fit) <= len(rest):
        return ", ".join(fit) or "none"
    return f"all but {', '.join(rest)}" if rest else "all"


def _guidance_free(asked: _Asked) -> str:
    method, taken = asked.built(), asked.taken()
    if method is None or not taken:
        return "--"
    return _said(method.sampler(taken[-1]).guidance_scale == 1)


def _one_step(kind: str) -> Callable[[_Asked], str]:
    def ask(asked: _Asked) -> str:
        method = asked.built(nets=kind)
        fits = method is not None and _kind(method) == kind
        return _said(fits and method is not None and _one(asked, method))

    return ask


FACTS: Final[Mapping[str, tuple[str, Callable[[_Asked], str]]]] = {
    "steps": ("Steps", _steps),
    "backbones": ("Backbones", _backbones),
    "guidance_free": ("CFG-free", _guidance_free),
    "one_step_network": ("One-step network", _one_step("copy")),
    "one_step_adapter": ("One-step LoRA", _one_step("lora")),
}
"""Fact -> its head in a table, and how it is got."""


def fact_name(column: str) -> str:
    """The fact that a column names, "" where it names none."""
    name = column.removeprefix(PREFIX)
    return name if name != column and name in FACTS else ""


def unknown_fact(column: str) -> str:
    """What is wrong with the name of a fact, "" for nothing or for what names no fact."""
    if not column.startswith(PREFIX) or fact_name(column):
        return ""
    known = [f"{PREFIX}{name}" for name in FACTS]
    return f"unknown fact {column!r}; there are: {', '.join(known)}.{did_you_mean(column, known)}"


def _takes(method: Method, nfe: int) -> bool:
    try:
        method.check_recipe(method.sampler(nfe))
    except DistillbenchError:
        return False
    return True


def _sampled(method: Method | None) -> bool:
    return method is not None and any(_takes(method, n) for n in range(1, _MOST + 1))


def _kind(method: Method) -> str:
    """What the student is: an adapter or a network."""
    if published := method.published():
        return "lora" if published.kind == "lora" else "copy"
    spec = method.nets().get(method.student)
    return spec.kind if spec else ""


def _nets_field(method: Method) -> str:
    """The setting that says which of the kinds its nets are; "" where it has none."""
    fields: Mapping[str, Any] = type(method.config).model_fields
    kinds = {name: {*_options(field.annotation)} for name, field in fields.items()}
    return next((name for name, options in kinds.items() if {*_KINDS} <= options), "")


def _options(annotation: Any) -> Iterator[Any]:
    """The literal values in a type, also in a union or an annotated one."""
    for part in get_args(annotation):
        yield from (part,) if isinstance(part, str) else _options(part)


def _one(asked: _Asked, method: Method) -> bool:
    entry = asked.published
    return 1 in entry.nfe if entry else _takes(method, 1)


def _said(yes: bool) -> str:
    return "yes" if yes else "no"
