"""`distillbench sample`: images from one trained student."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, print_json, use_plugins
from distillbench.cli.placing import (
    WordsOption,
    checkpoint_folder,
    placed_by,
    row_meant,
    words_set,
)
from distillbench.cli.recipes import RowOption, recipe_like, say_other_rows
from distillbench.files.io import require_folder

if TYPE_CHECKING:
    import torch

__all__ = ["EPILOG", "best_device", "sample"]

EPILOG = examples(
    "distillbench list runs",
    "distillbench sample 58017a9e --prompt 'a large red cat' --nfe 4 -o samples",
    "distillbench sample 58017a9e --prompt 'a large red cat' --nfe 4 --trajectory -o samples",
    "distillbench sample carried:LCM-LoRA:seed0 --prompt 'a large red cat' -o samples",
    "distillbench sample 58017a9e --prompt x --set sample_on=Lykon/dreamshaper-8 -o samples",
    "distillbench sample results/store/train/58017a9ef9c54ae6e26b --prompt x --seed 7 -o samples",
)
_NUMBER = re.compile(r"[0-9]{5,9}\.(png|gif)")
CheckpointArgument = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="Folder of a training, or its key.")
]
DeviceOption = Annotated[str, typer.Option(metavar="D", help="cpu, cuda, cuda:1. [default: best]")]


def sample(
    checkpoint: CheckpointArgument,
    prompt: Annotated[list[str], typer.Option(metavar="P", help="What to draw; may be repeated.")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="Where images go; none is overwritten."),
    ],
    nfe: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Network evaluations. [default: 4, or the row's]"),
    ] = None,
    row: RowOption = "",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the noise.")] = 0,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="Also the clean prediction of every evaluation.")
    ] = False,
    sets: WordsOption = None,
    device: DeviceOption = "",
    results: arguments.Results = Path("results"),
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Sample a student for prompts of your own.

    A row of an experiment is sampled as it was there: named by --row, or as EXPERIMENT:ROW:seedN.

    Images are numbered on from those in the folder, in the order of the prompts. A trajectory lies
    beside its image, as NUMBER-steps: the clean predictions from left to right.
    """
    use_plugins(plugin)
    require_folder(out)
    folder = checkpoint_folder(checkpoint, results)
    like = row_meant(checkpoint, folder, results, row, nfe)
    placed = placed_by(folder, results, like, words_set(sets or ()))
    from distillbench.api.samplers import from_recipe
    from distillbench.sample.generate import generate_images
    from distillbench.student.files import load_student

    student = load_student(folder, best_device(device), placed=placed)
    recipe = recipe_like(folder, like, nfe)
    sampler = from_recipe(recipe) if recipe else student.method.sampler(nfe or 4)
    if not like and not placed:
        say_other_rows(folder, sampler)
    steps: list[torch.Tensor] | None = [] if trajectory else None
    images = generate_images(student, prompt, sampler=sampler, seed=seed, trajectory=steps)
    paths = _save(images.cpu(), prompt, out, steps)
    if json:
        used = sampler.model_dump(mode="json")
        files = [str(path) for path in paths]
        print_json({"checkpoint": str(folder), "nfe": sampler.nfe, "sampler": used, "files": files})
        return
    for path in paths:
        print(path)


def best_device(wanted: str) -> str:
    """The device asked for, else the GPU where there is one."""
    if wanted:
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _save(
    samples: torch.Tensor,
    prompts: Sequence[str],
    out: Path,
    trajectory: Sequence[torch.Tensor] | None,
) -> list[Path]:
    """PNG per image, GIF per video, and one points.json for points in the plane.

    Files are only ever made new: numbers go on from the highest in the folder.
    """
    import torch

    from distillbench.files.io import storage_guard, write_json

    with storage_guard(out):
        out.mkdir(parents=True, exist_ok=True)
        if samples.ndim == 2:
            points = [{"prompt": p, "point": x.tolist()} for p, x in zip(prompts, samples)]
            for point, steps in zip(points, trajectory or ()):
                point["steps"] = steps.tolist()
            names = chain(["points.json"], (f"points-{i}.json" for i in count(2)))
            path = next(out / name for name in names if not (out / name).exists())
            write_json(path, points)
            return [path]
        first = 1 + max((int(p.stem) for p in out.glob("*.*") if _NUMBER.fullmatch(p.name)),
                        default=-1)  # fmt: skip
        paths = [_save_one(item, out / f"{first + i:05d}") for i, item in enumerate(samples)]
        return paths + [
            _save_one(torch.cat(list(steps), -2), out / f"{first + i:05d}-steps")
            for i, steps in enumerate(trajectory or ())
        ]


def _save_one(item: torch.Tensor, stem: Path) -> Path:
    from PIL import Image

    from distillbench.report.encode import FPS

    frames = [Image.fromarray(frame.numpy()) for frame in (item if item.ndim == 4 else item[None])]
    path = stem.with_suffix(".gif" if item.ndim == 4 else ".png")
    clip = {"save_all": True, "append_images": frames[1:], "duration": 1000 // FPS, "loop": 0}
    with path.open("xb") as file:
        frames[0].save(file, path.suffix[1:], **(clip if len(frames) > 1 else {}))
    return path
