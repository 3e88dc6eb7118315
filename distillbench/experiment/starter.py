"""A first experiment file, with every setting of its plug-ins said beside it.

What it writes plans: settings that a method refuses on a backbone (evaluations) are found by
trying, and metrics that lack something here are left as comments with what they lack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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

__all__ = ["Starter", "starter"]

PROMPTS, IMAGES = "hpsv2", "laion-aesthetic"
"""Sets of the data folder that an experiment of published backbones begins with."""
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
    parts = [
        _head(asked),
        _backbones(asked.backbone),
        _base(
            asked.backbone,
            real=real,
            latents=any("latents" in METHODS.get(m).needs for m in asked.methods),
        ),
        "rows:\n" + "".join(_row(name, backbone) for name in rows),
        "# Every row is run with each seed; errors over seeds need two or more.\nseeds: [0]\n",
        *_scores(backbone, rows[0], real=real),
    ]
    return "\n".join(parts)


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
    told = _settings(BACKBONES.get(name).Config)
    more = f"    # params:\n{told}" if told else ""
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


def _row(name: str, backbone: Any) -> str:
    cls = METHODS.get(name)
    required = [key for key, field in cls.Config.model_fields.items() if field.is_required()]
    if required:
        what = f"method {name} has no default for {', '.join(required)}"
        raise BadInput(what, hint=f"see: distillbench list methods {name}")
    steps = _evaluations(name, backbone)
    settings = _settings(cls.Config)
    head = f"  - label: {display_name(cls)}\n    method: {name}\n    nfe: {json.dumps(steps)}\n"
    return head + (f"    # params:\n{settings}" if settings else "")


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


def _scores(backbone: Any, baseline: str, *, real: bool) -> Iterator[str]:
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
    reference = f"# reference: {{method: {baseline}, nfe: 25}}   # what distances are measured to\n"
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
    told = _settings(METRICS.get(name).Config)
    return f"  - use: {name}\n" + (f"    # params:\n{told}" if told else "")


def _lacking(name: str) -> str:
    try:
        needs = build_metric(name, {}).requirements(_SAMPLES)
    except DistillbenchError as error:
        return error.line
    return ", ".join(_need(need) for need in needs if need.problem)


def _need(need: Need) -> str:
    """What has no name of its own, such as too few samples, is told by what is wrong with it."""
    return need.problem if need.kind == "samples" else f"needs {need.kind} {need.name}"


def _settings(config: type[BaseModel]) -> str:
    """Every setting as a comment: its name, default, and what it says of itself."""
    told: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if issubclass(base, BaseModel):
            told |= descriptions(base)
    lines = []
    for name, field in config.model_fields.items():
        if field.is_required():
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
        value = json.dumps(list(shown) if isinstance(shown, tuple) else shown, default=str)
        text = f"   # {told[name]}" if told.get(name) else ""
        lines.append(f"    #   {name}: {value}{text}\n")
    return "".join(lines)


def _flow(values: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"
