"""A first experiment file, with every setting of its plug-ins said beside it.

What it writes plans: settings that a method refuses on a backbone (evaluations) are found by
trying, and metrics that lack something here are left as comments with what they lack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from distillbench.api.registry import (
    BACKBONES,
    METHODS,
    METRICS,
    build_backbone,
    build_method,
    build_metric,
    display_name,
)
from distillbench.errors import BadInput, DistillbenchError, NotSupported
from distillbench.experiment.reference import descriptions
from distillbench.files.places import Need
from distillbench.world import weights

__all__ = ["Starter", "starter"]

PROMPTS, IMAGES = "hpsv2", "laion-aesthetic"
"""Sets of the data folder that an experiment of published backbones begins with."""
GUIDANCE = ("teacher_guidance", "guidance_scale")
"""Settings of methods that say how far a teacher is guided; the first that a method has."""
_EVALUATIONS = ([4, 1], [4], [2], [1], [8])
_SAMPLES = 64
_TINY = (
    "# Scorers are the tiny ones of the package, which know nothing of real pictures:\n"
    "# give each its published weights, as params.\n"
)


@dataclass(frozen=True)
class Starter:
    """What a first experiment is about, by registered names."""

    backbone: str
    methods: tuple[str, ...]
    name: str


def starter(asked: Starter) -> str:
    """The YAML text.

    Raises:
        PluginError: no such backbone or method.
        BadInput: a method needs a setting that has no default, or fits no backbone of this kind.
    """
    backbone = build_backbone(asked.backbone, {})
    real = any(need.size for need in backbone.requirements())
    rows = [*_teachers(asked, backbone), *asked.methods]
    guidance = _guidance(asked.backbone)
    parts = [
        _head(asked),
        _backbones(asked.backbone),
        _base(
            asked.backbone,
            real=real,
            latents=any("latents" in METHODS.get(m).needs for m in asked.methods),
        ),
        "rows:\n" + "".join(_row(name, backbone, guidance) for name in rows),
        "# Every row is run with each seed; errors over seeds need two or more.\nseeds: [0]\n",
        *_scores(backbone, rows[0], guidance, real=real),
    ]
    return "\n".join(parts)


def _guidance(backbone: str) -> float | None:
    """The scale at which a shipped teacher is used, by its card; None of any other backbone.

    Methods have those of their papers, at which a small teacher is oversaturated.
    """
    if backbone not in weights.available():
        return None
    found: float | None = weights.card(backbone).get("quality", {}).get("guidance")
    return found


def _head(asked: Starter) -> str:
    titles = " and ".join(display_name(METHODS.get(name)) for name in asked.methods)
    return (
        f"#   distillbench plan FILE     what it would run, and what is missing for it\n"
        f"#   distillbench run FILE      run it; the same command goes on where it stopped\n"
        f"# A line that begins with # says what could be set, with its default.\n"
        f"name: {asked.name}\n"
        f"title: {titles} on {asked.backbone}\n"
    )


def _backbones(name: str) -> str:
    more = _params(BACKBONES.get(name).Config)
    return f"backbones:\n  {name}:\n    use: {name}\n    # label: {name}\n{more}"


def _base(backbone: str, *, real: bool, latents: bool) -> str:
    train = {"updates": 1000, "batch_size": 16, "accumulate": 4, "precision": "bfloat16"}
    small = {"updates": 100, "batch_size": 32, "accumulate": 1, "precision": "float32"}
    prompts = {"prompts": PROMPTS} if real else {}
    sample = {**prompts, "n": 400 if real else _SAMPLES, "batch_size": 8 if real else 32}
    data = {"images": IMAGES} if latents else {"prompts": PROMPTS}
    what = "./FOLDER of captioned pictures" if latents else "a file, a prompt a line"
    return (
        "# What every row starts from; a row may set any of it otherwise.\n"
        f"base:\n  backbone: {backbone}\n"
        f"  train: {_flow(train if real else small)}\n"
        f"  sample: {_flow(sample)}\n"
        f"  {'' if real else '# '}data: {_flow(data)}   # a set of the data folder, or {what}\n"
    )


def _row(name: str, backbone: Any, guidance: float | None) -> str:
    cls = METHODS.get(name)
    required = [key for key, field in cls.Config.model_fields.items() if field.is_required()]
    if required:
        what = f"method {name} has no default for {', '.join(required)}"
        raise BadInput(what, hint=f"see: distillbench list methods {name}")
    steps = _evaluations(name, backbone)
    head = f"  - label: {display_name(cls)}\n    method: {name}\n    nfe: {json.dumps(steps)}\n"
    return head + _params(cls.Config, _guided(cls.Config, guidance))


def _guided(config: type[BaseModel], guidance: float | None) -> dict[str, float]:
    """The setting that guides the teacher; none of a method that guides nothing by default."""
    name = next((name for name in GUIDANCE if name in config.model_fields), "")
    if guidance is None or not name or config.model_fields[name].default == 1:
        return {}
    return {name: guidance}


def _evaluations(name: str, backbone: Any) -> Sequence[int]:
    """Numbers of evaluations that the method has a sampler for."""
    method, refused = build_method(name, {}, backbone), ""
    many = [] if method.has_student else [[25, 4]]
    for steps in (*many, *_EVALUATIONS):
        try:
            for nfe in steps:
                method.sampler(nfe)
        except NotSupported as error:
            refused = error.line
            continue
        return steps
    raise BadInput(f"method {name} on {backbone.name}: {refused}")


def _teachers(asked: Starter, backbone: Any) -> list[str]:
    """The method that samples the backbone as it is, before what is to be compared with it."""
    for name in METHODS.names():
        try:
            if name not in asked.methods and not build_method(name, {}, backbone).has_student:
                return [name]
        except DistillbenchError:  # one that needs settings, or another backbone
            continue
    return []


def _scores(backbone: Any, baseline: str, guidance: float | None, *, real: bool) -> Iterator[str]:
    """Metrics, a table, a figure and what else could be asked."""
    fitting, left = [], []
    for name in METRICS.names():
        info = METRICS.get(name).info
        if backbone.modality not in info.modality or info.higher_is_better is None:
            continue
        lacking = _lacking(name)
        if info.needs_reference or lacking:
            left.append(f"  # - {name}: {lacking or 'needs a reference'}")
        else:
            fitting.append(name)
    asked: dict[str, Any] = {"method": baseline, "nfe": 25}
    asked |= {"guidance_scale": guidance} if guidance is not None else {}
    reference = f"# reference: {_flow(asked)}   # what distances are measured to\n"
    listed = [*map(_metric, fitting), *(f"{line}\n" for line in left), reference]
    yield (_TINY if real else "") + "metrics:\n" + "".join(listed)
    shown = ", ".join(["label", "nfe", *fitting])
    yield f"tables:\n  - {{name: scores, columns: [{shown}]}}\n"
    if fitting:
        yield f"figures:\n  - {{name: {fitting[0]}, kind: curve, x: nfe, y: {fitting[0]}}}\n"
    if fitting:
        yield ("# Comparisons to decide, with interval and p-value:\n"
               f"# claims: [\"ROW > OTHER on {fitting[0]} at nfe=4\"]\n")  # fmt: skip


def _metric(name: str) -> str:
    return f"  - use: {name}\n" + _params(METRICS.get(name).Config)


def _lacking(name: str) -> str:
    try:
        needs = build_metric(name, {}).requirements(_SAMPLES)
    except DistillbenchError as error:
        return error.line
    return ", ".join(_need(need) for need in needs if need.problem)


def _need(need: Need) -> str:
    """What has no name of its own, such as too few samples, is told by what is wrong with it."""
    return need.problem if need.kind == "samples" else f"needs {need.kind} {need.name}"


def _params(config: type[BaseModel], given: Mapping[str, Any] | None = None) -> str:
    """Every setting with its value and what it says of itself; a comment where it is not given."""
    given, told = given or {}, _descriptions(config)
    active: list[str] = []
    silent: list[str] = []
    for name, field in config.model_fields.items():
        if field.is_required():
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
        value = given.get(name, list(shown) if isinstance(shown, tuple) else shown)
        text = f"   # {told[name]}" if told.get(name) else ""
        line = f"  {name}: {json.dumps(value, default=str)}{text}\n"
        (active if name in given else silent).append(line)
    if not active and not silent:
        return ""
    head = "    params:\n" if active else "    # params:\n"
    lines = [*(f"    {line}" for line in active), *(f"    # {line}" for line in silent)]
    return head + "".join(lines)


def _descriptions(config: type[BaseModel]) -> dict[str, str]:
    """What its settings say of themselves, its own docstring before those of its bases."""
    told: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if issubclass(base, BaseModel):
            told |= descriptions(base)
    return told


def _flow(values: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"
