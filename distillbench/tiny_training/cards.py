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


_STREAM: Final = "renders of the training split of the picture world, made on the fly"
_VAE: Final = ("vae", "vae-features", "vae-decoder")
_LENGTH: Final = "Its T5 was trained on 20 tokens: pass max_sequence_length=20 to the pipeline."
_PAIRS: Final = "renders of the training split, degraded at known levels"
ABOUT: Final[Mapping[str, About]] = {
    "tiny-oracle": About(
        "CNN that names six attributes of a picture of one thing", _STREAM, ("oracle",), ("oracle",)
    ),
    "tiny-clip": About(
        "open_clip model of 32x32 pictures and captions", _PAIRS, ("clip",), ("clip",)
    ),
    "tiny-hps": About(
        "tiny-clip fine-tuned on preference pairs",
        f"{_PAIRS}; typical renders; samples of tiny-sd beside real pictures",
        ("hps",),
        ("hps",),
    ),
    "tiny-aes": About("aesthetic head on tiny-hps, five linear layers", _PAIRS, ("aes",), ("aes",)),
    "tiny-inception": About(
        "CNN with 96 features for the tiny Frechet distance",
        _PAIRS,
        ("inception",),
        ("inception",),
    ),
    "tiny-sd": About(
        "StableDiffusionPipeline: f=4 autoencoder, frozen text tower, denoiser of 8x8 latents",
        _STREAM,
        ("text", "inception", "vae", "unet"),
        ("text", *_VAE, "unet"),
        "The shipped denoiser's rate followed the schedule of 24,000 steps up to step 14,500 and "
        "that of 20,000 from there; an earlier feature net was the critic of vae-features.",
    ),
    "tiny-sdxl": About(
        "StableDiffusionXLPipeline: tiny-sd's autoencoder and text tower, a second tower, size "
        "conditions, denoiser of 8x8 latents",
        _STREAM,
        ("text", "text-2", "inception", "vae", "tiny-sdxl"),
        ("text", "text-2", *_VAE, "sdxl"),
    ),
    "tiny-pixart": About(
        "PixArtAlphaPipeline: tiny-sd's autoencoder, T5 text, diffusion transformer over 8x8 "
        "latents",
        _STREAM,
        ("text", "text-t5", "inception", "vae", "tiny-pixart"),
        ("text-t5", *_VAE, "pixart"),
        _LENGTH,
    ),
    "tiny-sd3": About(
        "StableDiffusion3Pipeline: tiny-sd's autoencoder, two CLIP towers and T5, transformer "
        "trained by flow matching with shift 3",
        _STREAM,
        ("text", "text-2", "text-t5", "inception", "vae", "tiny-sd3"),
        ("text", "text-2", "text-t5", *_VAE, "sd3"),
        f"{_LENGTH} Up to step 2,500 the shipped transformer's rate followed the schedule of 9,000 "
        "steps.",
    ),
    "tiny-cogvideox": About(
        "CogVideoXPipeline: causal autoencoder of nine-frame clips, T5 text, transformer trained "
        "by v-prediction with no signal at the last time",
        "moving renders of the training split, made on the fly",
        ("text", "text-t5", "inception", "video-vae", "tiny-cogvideox"),
        ("text-t5", "video-vae", "video-vae-features", "video-vae-decoder", "cogvideox"),
        f"{_LENGTH} Clips have num_frames=9, height=width=32. Up to step 6,000 the shipped "
        "transformer's rate followed the schedule of 20,000 steps, on half of the latents; scores "
        "are of middle frames, change of neighbouring frames in grey levels.",
    ),
    "tiny-controlnet": About(
        "ControlNetModel of tiny-sd for the edges of a picture (OpenCV's Canny, thresholds 100 and "
        "200)",
        _STREAM,
        ("text", "inception", "vae", "unet", "tiny-controlnet"),
        ("tiny-controlnet",),
        "edges_followed: harmonic mean of the share of edges asked for that the picture has within "
        "a pixel, and of its own that were asked for.",
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
