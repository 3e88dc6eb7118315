"""Quality cards: what a shipped model is, how it was made, what it measured, its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from distillbench.errors import BadInput
from distillbench.files.leaves import leaves
from distillbench.world.weights import CARD, hash_files, revision_of

COMMAND: Final = "python -m distillbench.tiny_training train {recipe}"


@dataclass(frozen=True)
class About:
    """The fixed part of a card; `jobs` are the training jobs that made the model."""

    what: str
    data: str
    recipes: tuple[str, ...]
    jobs: tuple[str, ...]
    notes: str = ""


_WIDER: Final = (
    "The shipped weights saw a wider world than the present renderer draws: rotations up to 38 "
    "degrees (now 12) and position jitter up to 2.3 pixels (now 1.5)."
)
_STREAM: Final = "renders of the training split of the tiny world, made on the fly"
_PAIRS: Final = "renders of the training split, degraded at known levels"
ABOUT: Final[Mapping[str, About]] = {
    "tiny-oracle": About(
        "CNN that names six attributes of a picture",
        _STREAM,
        ("oracle",),
        ("oracle",),
        f"{_WIDER} This holds for the first 4,000 steps, which also had more blur and noise.",
    ),
    "tiny-clip": About(
        "open_clip model of 32x32 pictures and captions", _PAIRS, ("clip",), ("clip",), _WIDER
    ),
    "tiny-hps": About(
        "tiny-clip fine-tuned on preference pairs", _PAIRS, ("hps",), ("hps",), _WIDER
    ),
    "tiny-aes": About(
        "aesthetic head on tiny-clip, five linear layers", _PAIRS, ("aes",), ("aes",)
    ),
    "tiny-inception": About(
        "CNN with 96 features for the tiny Frechet distance",
        _PAIRS,
        ("inception",),
        ("inception",),
        _WIDER,
    ),
    "tiny-sd": About(
        "StableDiffusionPipeline: f=4 autoencoder, frozen text tower, denoiser of 8x8 latents",
        _STREAM,
        ("text", "inception", "vae", "unet"),
        ("text", "vae", "vae-features", "unet"),
        "The present renderer draws rotations up to 12 degrees and position jitter up to 1.5 "
        "pixels. Earlier settings made part of the shipped weights: 25 and 1.0 the 8,000 steps "
        "of job vae, 38 and 2.3 those of vae-features (whose net of features was an earlier one) "
        "and the first 6,000 of unet, 2,500 of them with the plain noise error.",
    ),
}


def measure(root: Path, names: list[str], jobs: Path | None) -> None:
    """Measure the models of `root` (all when `names` is empty) and write their cards.

    Raises BadInput for a name that is no shipped model.
    """
    from distillbench.tiny_training.quality import MEASURES

    unknown = sorted(set(names) - set(MEASURES))
    if unknown:
        raise BadInput(f"no such model: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    for name in names or MEASURES:
        figures = MEASURES[name](root)
        write(root / name, figures, jobs)
        print(json.dumps({name: figures}, indent=2), flush=True)


def write(folder: Path, figures: Mapping[str, Any], jobs: Path | None) -> None:
    """Write `card.json` and `card.md`; the training facts of an older card are kept."""
    about = ABOUT[folder.name]
    old = json.loads((folder / CARD).read_text()) if (folder / CARD).exists() else {}
    made = _training(about, jobs) if jobs else old.get("training", {})
    files = hash_files(folder)
    card = {
        "name": folder.name,
        "what": about.what,
        "data": about.data,
        "commands": [COMMAND.format(recipe=recipe) for recipe in about.recipes],
        "training": made,
        "notes": about.notes,
        "quality": _rounded(figures),
        "revision": revision_of(files),
        "files": files,
    }
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(_markdown(card), encoding="utf-8")


def _training(about: About, jobs: Path) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for job in about.jobs:
        note = json.loads((jobs / job / "checkpoint.json").read_text())
        made[job] = note | {"seconds": round(note["seconds"])}
    return made


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _markdown(card: Mapping[str, Any]) -> str:
    lines = [f"# {card['name']}", "", f"{card['what']}.", "", f"Data: {card['data']}.", ""]
    lines += ["Made by:", ""] + [f"    {command}" for command in card["commands"]] + [""]
    lines += ["| job | steps | seed | device | seconds |", "|---|---|---|---|---|"]
    for job, note in card["training"].items():
        cells = (note["step"], note["seed"], note["device"], note["seconds"])
        lines.append(f"| {job} | {' | '.join(map(str, cells))} |")
    lines += ["", card["notes"]] if card["notes"] else []
    lines += ["", "Measured on held-out data by `python -m distillbench.tiny_training eval`:", ""]
    lines += [f"- {name}: {value}" for name, value in leaves(card["quality"], between=" / ")]
    lines += ["", f"Revision {card['revision']}.", ""]
    return "\n".join(lines)
