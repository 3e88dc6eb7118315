"""Runs inside the environment of a package and scores pictures with the package's own code.

Started as a file, so nothing of the project is imported, only what the environment holds. See
`score.worker` for the lines in and out; a picture comes as the path of a PNG.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import types
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

_Score = Callable[[Any, str], float]


def main() -> None:
    """Answer one job."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints is no answer
    job, *items = (json.loads(line) for line in sys.stdin)
    image = import_module("PIL.Image")
    with tempfile.TemporaryDirectory() as folder:
        score = {"hpsv2": hpsv2, "image-reward": image_reward}[job["package"]](job, Path(folder))
        for item in items:
            with image.open(item["picture"]) as picture:
                value = float(score(picture, item["prompt"]))
            print(json.dumps({"id": item["id"], "score": value}), file=answers, flush=True)
    print(json.dumps({"done": len(items)}), file=answers, flush=True)


def hpsv2(job: dict[str, Any], folder: Path) -> _Score:
    """`hpsv2.score` on a checkpoint; the 3.9 GB that it fetches first and overwrites are left out.

    Its network is put where it keeps it, and the file is read once.
    """
    turtle = types.ModuleType("turtle")  # it imports a name from there, which needs tkinter
    turtle.forward = None  # type: ignore[attr-defined]
    sys.modules["turtle"] = turtle
    torch: Any = import_module("torch")
    package: Any = import_module("hpsv2.img_score")
    factory: Any = import_module("hpsv2.src.open_clip.factory")
    if not isinstance(job["arch"], str):
        (folder / "own.json").write_text(json.dumps(job["arch"]))
        factory.add_model_config(folder / "own.json")
    name = job["arch"] if isinstance(job["arch"], str) else "own"
    package.device = job["device"]
    net, _, fitted = factory.create_model_and_transforms(
        name, None, precision="amp", device=job["device"], jit=False, light_augmentation=True,
        aug_cfg={}, output_dict=True, with_score_predictor=False, with_region_predictor=False,
    )  # fmt: skip
    package.model_dict.update(model=net, preprocess_val=fitted)
    torch.load = functools.cache(functools.partial(torch.load, weights_only=True))
    return lambda picture, prompt: package.score(picture, prompt, cp=job["checkpoint"])[0]


def image_reward(job: dict[str, Any], folder: Path) -> _Score:
    """`ImageReward.load(...).score`, with the vocabulary and the sizes that lie beside its file."""
    words = folder / "bert-base-uncased"
    words.mkdir()
    (words / "vocab.txt").write_bytes(Path(job["vocabulary"]).read_bytes())
    (words / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "med.json").write_text(json.dumps(job["text"]))
    os.chdir(folder)  # the tokenizer of that name is then the folder here
    torch: Any = import_module("torch")
    package: Any = import_module("ImageReward")
    model = package.load(
        job["checkpoint"], device=job["device"], med_config=str(folder / "med.json")
    )

    def score(picture: Any, prompt: str) -> float:
        with torch.no_grad():
            return float(model.score(prompt, picture))

    return score


if __name__ == "__main__":
    main()
