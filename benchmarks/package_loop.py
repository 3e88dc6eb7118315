"""A package's own loop over pictures, timed inside the package's environment.

Started by metric_packages.py. In: a line with the job of `score.package_worker` and one with the
items, then an empty line a pass. Out: {"seconds", "values"} a pass. Pictures are decoded before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distillbench.score.package_worker import hpsv2, image_reward


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints is no answer
    job, items = json.loads(sys.stdin.readline()), json.loads(sys.stdin.readline())
    import_module("torch").set_num_threads(1)
    image: Any = import_module("PIL.Image")
    pictures = [image.open(item["picture"]).copy() for item in items]
    with TemporaryDirectory() as folder:
        score = {"hpsv2": hpsv2, "image-reward": image_reward}[job["package"]](job, Path(folder))
        for _ in sys.stdin:
            began = time.process_time()
            values = [
                float(score(picture, item["prompt"]))
                for picture, item in zip(pictures, items, strict=True)
            ]
            seconds = time.process_time() - began
            print(json.dumps({"seconds": seconds, "values": values}), file=answers, flush=True)
            if job["package"] == "hpsv2":
                loaded()


def loaded() -> None:
    """From now on hpsv2 keeps its weights: it reads them anew for every prompt."""
    net = sys.modules["hpsv2.img_score"].model_dict["model"]
    net.load_state_dict = lambda *_, **__: None


if __name__ == "__main__":
    main()
