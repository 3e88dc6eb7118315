"""Runs inside the environment `vbench`: writes videos as MP4 and scores one dimension.

Started as a file, so nothing of the project is imported, only the environment's
numpy, opencv, torch and vbench. See `score.worker` for the lines in and out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer one job."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints is no answer
    job, *items = (json.loads(line) for line in sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        paths = {str(write_video(item, job, Path(folder))): item["id"] for item in items}
        value, rows = evaluated(job, Path(folder))
    scale = 100.0 if job["dimension"] == "imaging_quality" else 1.0
    for path, score in rows:
        print(json.dumps({"id": paths[path], "score": float(score) / scale}), file=answers)
    print(json.dumps({"done": len(rows), "value": float(value)}), file=answers, flush=True)


def write_video(item: dict[str, Any], job: dict[str, Any], folder: Path) -> Path:
    """The frames of an item as `<prompt>-<number>.mp4`, the name that VBench looks for."""
    import numpy as np

    # Of its environment alone, and so no dependency of the project.
    cv2 = import_module("cv2")

    frames = np.load(item["frames"], mmap_mode="r")
    path = folder / f"{item['prompt']}-{item['number']}.mp4"
    size = (frames.shape[2], frames.shape[1])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), job["fps"], size)
    if not writer.isOpened():
        raise SystemExit(f"no MP4 of {size} can be written")
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def evaluated(job: dict[str, Any], folder: Path) -> tuple[float, list[tuple[str, float]]]:
    """The package's own value of the dimension, and (path, score) of every video."""
    import torch

    out = folder / "out"
    bench = import_module("vbench").VBench(torch.device(job["device"]), job["full_info"], str(out))
    bench.evaluate(
        videos_path=str(folder), name="job", dimension_list=[job["dimension"]], local=False,
        read_frame=False, mode="vbench_standard",
    )  # fmt: skip
    found = json.loads((out / "job_eval_results.json").read_text())[job["dimension"]]
    return found[0], [(row["video_path"], row["video_results"]) for row in found[1]]


if __name__ == "__main__":
    main()
