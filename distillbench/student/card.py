"""The README of an exported student: what it is, the code that samples it, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from distillbench.backbones._pipeline import PipelineBackbone
from distillbench.specs.trained import ExportRecipe
from distillbench.store.measured import Measured

__all__ = ["write_card"]

CARD = Template("""\
---
library_name: diffusers$model
tags: [distillation, few-step]
---
# A $steps-step student ($method)

Distilled from $base by `$method`; trained in run $training.
`recipe.json` holds the whole recipe: its `call` has every argument of the pipeline's call but the
prompt and the generator.

## Use

Run this in the folder of this file:

```python
$code
```

$check

## Recipe

| | |
|---|---|
| input times | $times |
| scheduler | `$scheduler`, built for this recipe; the base's own gives other samples |
| arguments | $arguments |
| precision | $precision |
| licence of the base | $licence |
$terms
## Scores

$scores

## Limits

$limits
""")

CODE = Template("""\
import json

import torch
from diffusers import $imports$peft

student = "."
recipe = json.load(open(f"{student}/recipe.json"))
$network
pipe = $pipeline.from_pretrained(
    $base,
    torch_dtype=torch.$precision,$options
)
pipe.scheduler = $scheduler.from_pretrained(student, subfolder="scheduler")
$adapter
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
generator = torch.Generator("cpu").manual_seed(0)
samples = pipe("a red car", generator=generator, **recipe["call"]).$output
$save""")

SAVE = {
    "image": 'samples[0].save("sample.png")',
    "video": (
        "first, *others = samples[0]\n"
        'first.save("sample.gif", save_all=True, append_images=others, duration=125)'
    ),
}


def write_card(
    out: Path, backbone: PipelineBackbone, recipe: ExportRecipe, *,
    terms: str = "", scores: Sequence[Measured] = (),
) -> None:  # fmt: skip
    """Write README.md beside the files of an export.

    Args:
        terms: licence of published weights that the student is made of.
        scores: what was measured of samples by this recipe.
    """
    limits = [f"- `{name}`: {why}." for name, why in recipe.limits.items()]
    source = backbone.source()
    text = CARD.substitute(
        model="" if source.folder else f"\nbase_model: {source.model}",
        steps=len(recipe.timesteps),
        training=f"`{recipe.training}`",
        method=recipe.method.name,
        base=f"`{source}`",
        scheduler=recipe.scheduler,
        code=_code(backbone, recipe).rstrip(),
        check=_check(bool(limits), recipe.precision) + _fixed(recipe.fixed),
        times=", ".join(map(str, recipe.timesteps)),
        arguments=", ".join(f"`{k}={v!r}`" for k, v in recipe.call.items()),
        precision=recipe.precision,
        licence=_licence(backbone),
        terms=f"| licence of the weights | {terms} |\n" if terms else "",
        scores=_scores(scores),
        limits="\n".join(limits) or "None known: the scheduler takes the steps of the recipe.",
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def _licence(backbone: PipelineBackbone) -> str:
    known = [need.license for need in backbone.requirements() if need.license]
    return known[0] if known else "not known here; see where it comes from"


def _scores(found: Sequence[Measured]) -> str:
    """A table of them, or that there are none."""
    if not found:
        return "None in the store that it was exported from."
    lines = [
        f"| {one.label} | {one.value:.4g}"
        f"{'' if one.stderr is None else f' +- {one.stderr:.2g}'} | {one.n} |"
        for one in found
    ]
    return "\n".join(["| metric | value | samples |", "|---|---:|---:|", *lines])


def _check(limited: bool, precision: str) -> str:
    if limited:
        return "Its samples are NOT those of the benchmark: see the limits below."
    if precision != "float32":
        return (
            f"On the same noise it gives the samples of the benchmark, to {precision}'s rounding."
        )
    return "On the same noise it gives the samples of the benchmark, to a grey level."


def _fixed(values: Mapping[str, float]) -> str:
    if not values:
        return ""
    named = " and ".join(f"{name} = {value:g}" for name, value in values.items())
    return f"\nThe network is the student at {named}; another recipe needs another export (--nfe)."


def _code(backbone: PipelineBackbone, recipe: ExportRecipe) -> str:
    part, loader = backbone.network, recipe.load_with
    kind, whole = _network_class(backbone), loader.startswith("from_pretrained, ")
    names = [recipe.pipeline, recipe.scheduler, *([kind] if whole else [])]
    dtype = f"torch_dtype=torch.{recipe.precision}"
    loaded = f'{part} = {kind}.from_pretrained(student, subfolder="{part}", {dtype})\n'
    return CODE.substitute(
        imports=", ".join(names),
        peft="\nfrom peft import PeftModel" if loader == "PeftModel" else "",
        network=loaded if whole else "",
        pipeline=recipe.pipeline,
        base="student" if loader == "from_pretrained" else _base(backbone),
        options=_options(backbone, part if whole else ""),
        precision=recipe.precision,
        scheduler=recipe.scheduler,
        adapter=_adapter(part, loader),
        output="frames" if backbone.modality == "video" else "images",
        save=SAVE[backbone.modality],
    ).replace("\n\n\n", "\n\n").replace("\n\npipe.to", "\npipe.to")  # fmt: skip


def _network_class(backbone: PipelineBackbone) -> str:
    return type(getattr(backbone.pipe, backbone.network)).__name__


def _adapter(part: str, loader: str) -> str:
    if loader == "load_lora_weights":
        return "pipe.load_lora_weights(student)"
    if loader == "PeftModel":
        return f"pipe.{part} = PeftModel.from_pretrained(pipe.{part}, student).base_model.model"
    return ""


def _base(backbone: PipelineBackbone) -> str:
    source = backbone.source()
    folder = source.folder
    name = source.model if folder is None else str(folder.resolve())
    commit = source.commit if folder is not None else source.held or source.commit
    return repr(name) + (f", revision={commit!r}" if commit else "")


def _options(backbone: PipelineBackbone, whole: str) -> str:
    options = {name: repr(value) for name, value in backbone.load_options.items()}
    lines = {**options, **({whole: whole} if whole else {})}
    return "".join(f"\n    {name}={value}," for name, value in lines.items())
