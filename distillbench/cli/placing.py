"""How a student is sampled: as it was trained, as a row was sampled, or as a row's words say.

The words are those of a row in an experiment file: `--set KEY=VALUE` on the command line, arguments
in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillbench.cli.common import find_run
from distillbench.cli.named import named_label
from distillbench.cli.recipes import stored_row
from distillbench.files.marks import MapNode, Mark, Problems, SeqNode
from distillbench.store.record import check_folder
from distillbench.store.runs import SampledRow, sampled_rows, teacher_runs

if TYPE_CHECKING:
    from distillbench.student.placed import Placed

__all__ = ["WordsOption", "checkpoint_folder", "placed_by", "row_meant", "words_of", "words_set"]

WordsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="a.b=value",
        help="A row's sample_on, adapters, control or image_prompts; may be repeated.",
    ),
]


def checkpoint_folder(checkpoint: str, results: Path) -> Path:
    """The folder of a finished training, by path or by key.

    Raises:
        BadInput: neither a folder nor the key of a training; an export.
        ArtifactError: its files, or those of a run it took as teacher, are truncated or altered.
    """
    from distillbench.cli.common import store_of
    from distillbench.errors import BadInput

    folder = Path(checkpoint)
    if folder.name in ("", ".."):  # so that the runs beside it are found
        folder = folder.resolve()
    if (folder / "recipe.json").is_file():
        for run in (folder, *teacher_runs(folder)):
            check_folder(run)
        return folder
    if folder.is_dir() or "/" in checkpoint:
        raise BadInput(f"{checkpoint}: not the folder of a finished training (no recipe.json)")
    kind, key = find_run(results, checkpoint)
    if kind != "train":
        raise BadInput(f"{key}: a {kind} stage; a checkpoint is a train stage")
    store = store_of(results)
    folder = Path(store.verify(kind, key))
    for run in teacher_runs(folder):
        store.verify(kind, run.name)
    return folder


def row_meant(
    checkpoint: str, folder: Path, results: Path, label: str, nfe: int | None
) -> SampledRow | None:
    """The stored row that is named by its label, or by EXPERIMENT:ROW as checkpoint.

    The latter stands for the row's base and adapters with other numbers of evaluations too.

    Raises:
        BadInput: the label is of no stored row, or of several.
    """
    if label:
        return stored_row(folder, label, nfe)
    if ":" not in checkpoint or Path(checkpoint).exists():
        return None
    label = named_label(results, checkpoint)
    there = [row.nfe for row in sampled_rows(folder) if row.label == label]
    return stored_row(folder, label, nfe if nfe in there else None) if there else None


# ---- words --------------------------------------------------------------------------------


def words_set(sets: Sequence[str]) -> MapNode:
    """The words of `--set` options. Raises ConfigError with all that is wrong."""
    from distillbench.experiment.load import with_override

    problems, tree = Problems(), MapNode()
    for text in sets:
        tree = with_override(tree, text, problems)
    problems.raise_if_any()
    return tree


def words_of(values: Mapping[str, Any]) -> MapNode:
    """The words of a call in Python, as a file would have given them; None is left out."""
    found: MapNode = _marked({k: v for k, v in values.items() if v is not None}, "")
    return found


def _marked(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        node = MapNode(mark=Mark(path=path))
        for key, inner in value.items():
            place = f"{path}.{key}" if path else str(key)
            node.put(str(key), _marked(inner, place), Mark(path=place))
        return node
    if isinstance(value, list | tuple):
        items = SeqNode([_marked(v, f"{path}[{i}]") for i, v in enumerate(value)])
        items.marks = [Mark(path=f"{path}[{i}]") for i in range(len(value))]
        return items
    return str(value) if isinstance(value, Path) else value


def placed_by(folder: Path, results: Path, row: SampledRow | None, words: MapNode) -> Placed:
    """What a training's student is sampled with: as a row was, but for what is said in words.

    Raises:
        BadInput: something that is named is not there.
        ConfigError: the words are wrong, or do not fit the student; all of it together.
    """
    from distillbench.plan.placing import placed_fields
    from distillbench.student.placed import Placed

    spec, told = (dict(row.placed), dict(row.told)) if row is not None else ({}, {})
    if words:
        for gone in ("sample_on", "onto") if "sample_on" in words else ():
            spec.pop(gone, None)
        said, beside = placed_fields(words, folder, lambda name: _training(name, results))
        if "places" in beside:  # its pictures are of the prompts that are asked for
            told["prompts"] = ""
        places = {**told.get("places", {}), **beside.get("places", {})}
        spec, told = {**spec, **said}, {**told, **beside, "places": places}
    return Placed.of(spec, told, folder.parent)


def _training(name: str, results: Path) -> Path | None:
    """The folder of a training that is named by path, key or row; None for what is none."""
    from distillbench.errors import BadInput

    if "/" in name and not (Path(name) / "recipe.json").is_file():
        return None
    try:
        return checkpoint_folder(name, results).resolve()
    except BadInput:
        if ":" in name:
            raise
        return None
