"""The reference of the experiment file, written from its models so that it cannot drift.

`python -m distillbench.experiment.reference` prints `docs/experiment-file.md`; a test compares.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from distillbench.experiment import cell_parts, outputs, schema
from distillbench.experiment.ontop import ControlConfig, ImagePromptConfig, OnTopConfig
from distillbench.files.limits import FILE_BYTES, MAGNITUDE, NESTING, NODES, TEXT, Limits

__all__ = ["descriptions", "reference"]

PARTS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("The file", schema.Experiment),
    ("A row: `base`, an entry of `rows` or `include`, an overlay", schema.CellConfig),
    ("An entry of `rows` or `include`", schema.RowConfig),
    ("An entry of `adapters`", OnTopConfig),
    ("An entry of `control`", ControlConfig),
    ("An entry of `image_prompts`", ImagePromptConfig),
    ("`train`", cell_parts.TrainConfig),
    ("`data`", cell_parts.DataConfig),
    ("`sample`", cell_parts.SampleConfig),
    ("An entry of `backbones`", schema.BackboneRef),
    ("An entry of `metrics`", schema.MetricRef),
    ("`reference`", schema.ReferenceConfig),
    ("An entry of `tables`", outputs.TableConfig),
    ("An entry of `figures`", outputs.FigureConfig),
    ("An entry of `claims`", outputs.ClaimConfig),
    ("`limits`", Limits),
)
HEAD: Final = """# The experiment file

Every key of an experiment file, its type and its default, written from the models that read the
file: `python -m distillbench.experiment.reference`. How the parts work together stands in
[experiments.md](experiments.md). A key that is not listed here is an error. Parameters of methods,
metrics and backbones are their own; `distillbench list methods NAME` and its siblings show them.
"""


READING: Final[tuple[tuple[str, int], ...]] = (
    ("any number, of either sign", MAGNITUDE),
    ("bytes of a file, or of one `--set` value", FILE_BYTES),
    ("entries of a file, aliases written out", NODES),
    ("mappings and lists inside one another", NESTING),
    ("characters of one text", TEXT),
)


def reference() -> str:
    """The page, as Markdown."""
    return HEAD + "".join(_part(title, model) for title, model in PARTS) + _reading()


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Field -> what the `Attributes:` of the model's docstring say of it, on one line.

    `a, b: ...` describes both.
    """
    _, _, listed = (inspect.getdoc(model) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", "\n" + listed.rstrip()):
        names, colon, text = entry.strip().partition(":")
        if colon:
            found |= dict.fromkeys(re.split(r",\s*", names), " ".join(text.split()))
    return found


def _part(title: str, model: type[BaseModel]) -> str:
    told = descriptions(model)
    summary = (inspect.getdoc(model) or "").partition("\n\nAttributes:")[0]
    rows = "".join(
        f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_cell(told[name])} |\n"
        for name, field in model.model_fields.items()
        if name in model.__annotations__
    )
    head = "| key | type | default | meaning |\n|---|---|---|---|\n"
    return f"\n## {title}\n\n{summary}\n\n{head}{rows}"


def _reading() -> str:
    rows = "".join(f"| {what} | {limit:,} |\n" for what, limit in READING)
    return (
        "\n`--max-cells N` on the command line is `limits: {cells: N}`.\n\n"
        "## Limits of reading\n\nThey hold for every file and cannot be raised.\n\n"
        f"| what | at most |\n|---|---:|\n{rows}"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{json.dumps(value)}`" if value is not None else "none"


def _type(kind: Any) -> str:
    return _cell(" or ".join(dict.fromkeys(_words(kind))))


def _words(kind: Any) -> Iterator[str]:
    """Words for a type annotation; constraints are told by the description."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        yield from _words(args[0])
    elif origin is typing.Literal:
        yield from (f"`{value}`" for value in args)
    elif origin in (typing.Union, types.UnionType):
        for part in args:
            yield from _words(part)
    elif origin is list:
        yield f"list of {_type(args[0])}"
    elif origin is dict:
        yield f"mapping to {_type(args[1])}"
    elif inspect.isclass(kind) and issubclass(kind, BaseModel):
        yield "mapping"
    else:
        yield _NAMES.get(kind, "any")


_NAMES: Final[dict[Any, str]] = {
    str: "text", int: "integer", float: "number", bool: "true/false", type(None): "none",
}  # fmt: skip


if __name__ == "__main__":
    print(reference(), end="")
