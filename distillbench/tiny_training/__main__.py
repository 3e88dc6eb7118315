"""`python -m distillbench.tiny_training`: show the tiny world, train its models, measure them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distillbench.errors import DistillbenchError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The tiny world: show its pictures, train its models, measure the shipped weights.",
)


class Model(StrEnum):
    """What `train` can train; `all` is every model in the order of this list."""

    text = "text"
    oracle = "oracle"
    inception = "inception"
    vae = "vae"
    unet = "unet"
    clip = "clip"
    hps = "hps"
    aes = "aes"
    text_2 = "text-2"
    text_t5 = "text-t5"
    video_vae = "video-vae"
    tiny_sd3 = "tiny-sd3"
    tiny_sdxl = "tiny-sdxl"
    tiny_pixart = "tiny-pixart"
    tiny_cogvideox = "tiny-cogvideox"
    tiny_controlnet = "tiny-controlnet"
    all = "all"


@app.command(
    epilog="Examples: python -m distillbench.tiny_training train oracle --out world-out; "
    "python -m distillbench.tiny_training train all --device cuda"
)
def train(
    model: Annotated[
        Model,
        typer.Argument(
            help="Which model; vae and video-vae need inception, unet text and vae, aes hps, "
            "hps clip and unet, tiny-controlnet unet; other tiny-* train the parts they miss first."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and finished models.")] = Path(
        "world-out"
    ),
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps. None = the recipe's own number.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, data and noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train one model or all. To resume, run the same command again."""
    from distillbench.tiny_training import recipes

    recipes.train(model.value, recipes.TrainingRun(out=out, steps=steps, seed=seed, device=device))


@app.command(
    name="eval",
    epilog="Examples: python -m distillbench.tiny_training eval; "
    "python -m distillbench.tiny_training eval tiny-oracle --weights world-out",
)
def evaluate(
    names: Annotated[list[str] | None, typer.Argument(help="Models; none = all.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of models. None = the shipped one.")
    ] = None,
    jobs: Annotated[
        Path | None, typer.Option(help="The trainings' `jobs` folder, for steps and seconds.")
    ] = None,
) -> None:
    """Measure models on held-out data and write their cards (card.json, card.md)."""
    from distillbench.tiny_training import cards
    from distillbench.world.weights import root

    cards.measure(weights or root(), names or [], jobs)


@app.command(
    epilog="Example: python -m distillbench.tiny_training share tiny-sd3 --weights world-out"
)
def share(
    name: Annotated[str, typer.Argument(help="The model.")],
    weights: Annotated[
        Path | None, typer.Option(help="Folder of models. None = the shipped one.")
    ] = None,
) -> None:
    """Replace parts that another model has too by links to them, so that they are stored once."""
    from distillbench.tiny_training import sharing
    from distillbench.world.weights import root

    for part, target in sharing.share(weights or root(), name).items():
        typer.echo(f"{name}/{part} -> {target}")


@app.command(epilog="Example: python -m distillbench.tiny_training show -o grid.png --rows 6")
def show(
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")] = Path("grid.png"),
    rows: Annotated[int, typer.Option(min=1, help="Rows of eight pictures.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 0,
    zoom: Annotated[int, typer.Option(min=1, help="Size of a pixel.")] = 5,
) -> None:
    """Write a sheet of captioned renders."""
    from distillbench.tiny_training.sheet import write

    write(out, rows=rows, seed=seed, zoom=zoom)
    typer.echo(f"wrote {out}")


def main() -> None:
    """Run the command line; errors of the user end in one line, without a traceback."""
    try:
        app()
    except DistillbenchError as error:
        typer.echo(f"error: {error.line}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
