"""VBench 1.0 (arXiv 2311.17982) through its package, in the environment `vbench`.

Every dimension is measured on the prompts that VBench_full_info.json names for it, five videos each
(a sample set of 5 x the prompts: sample i is video i // prompts of prompt i mod prompts). All 16
give the total. Four need detectron2; without them there is no total, and the value is the quality
score, of seven dimensions. Nothing is filled in: a missing score is an error.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from distillbench.api.fields import NEUTRAL
from distillbench.api.metric import Metric, MetricInfo, Samples, Scores
from distillbench.errors import BadInput
from distillbench.files.places import Need
from distillbench.score import vbench_worker
from distillbench.score.envs import environment_python
from distillbench.score.packaged import environment_need
from distillbench.score.vbench_totals import (
    DIMENSIONS,
    FLICKER_VIDEOS,
    QUALITY,
    VIDEOS,
    WITHOUT_DETECTRON,
    part,
    totals,
)
from distillbench.score.weights import ScorerFile
from distillbench.score.worker import ask

INFO = ScorerFile(
    "vbench", "VBench_full_info.json", "Vchitect/VBench (vbench/VBench_full_info.json)",
    "5dd2de80ee43cda750b2b72ea7023657c0b90d3702041c7e4608c65dbe50dccd", size=228_118,
    license="Apache-2.0",
)  # fmt: skip
SETS = {"all": tuple(DIMENSIONS), "without-detectron2": WITHOUT_DETECTRON, "quality": QUALITY}


class Vbench(Metric):
    """The total of all 16 dimensions, else the quality score; a column for each dimension."""

    class Config(BaseModel):
        """Settings.

        Attributes:
            dimensions: all | without-detectron2 | quality.
            fps: of the videos that are written.
            patience: seconds after which a worker that says nothing counts as hung.
            python: the interpreter that has the package; "" is that of the environment `vbench`.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        dimensions: Literal["all", "without-detectron2", "quality"] = "without-detectron2"
        fps: PositiveInt = 8
        patience: Annotated[PositiveInt, NEUTRAL] = 7200
        python: Annotated[str, NEUTRAL] = ""

    streams = True
    info = MetricInfo(
        "VBench", higher_is_better=True, unit="%", modality=frozenset({"video"}), per_sample=False
    )

    def label(self) -> str:
        """VBench, or VBench quality where there is no total."""
        return "VBench" if self.config.dimensions == "all" else "VBench quality"

    def revision(self) -> str:
        """Identity of the prompts; the package's version is pinned by its environment."""
        return f"vbench==0.1.5:{INFO.sha256[:16]}"

    def requirements(self, n: int, prompts: Sequence[str] = ()) -> tuple[Need, ...]:
        """The environment, the prompts' file and five videos of every prompt of a dimension."""
        needs = [environment_need("vbench", self.config.python), INFO.need()]
        if not needs[1].problem and prompts:
            drawn = [prompts[i % len(prompts)] for i in range(n)]
            lacking = _lacking(self._wanted(), drawn)
            fix = f"sample.prompts: VBench's own, sample.n: {VIDEOS} x their number"
            needs.append(Need("samples", "of vbench", lacking, fix if lacking else ""))
        return tuple(needs)

    def load(self, device: str = "cpu") -> None:
        """Find the environment and the prompts. Raises BadInput, MissingWeights."""
        self._python = self.config.python or str(environment_python("vbench"))
        self._file, self._device = INFO.path(), device

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """All dimensions, each by one worker.

        Raises:
            BadInput: a prompt of a dimension lacks videos.
            StageFailed: a worker died, hung, or left a video out.
        """
        wanted = self._wanted()
        if lacking := _lacking(wanted, samples.prompts):
            raise BadInput(lacking, hint="sample VBench's own prompts, each several times")
        raw = {name: self._dimension(name, wanted[name], samples) for name in wanted}
        values = {name: 100 * value for name, value in raw.items()}
        whole = self.config.dimensions == "all"
        parts = totals(raw) if whole else {"quality": part(raw, "quality")}
        own = parts.pop("total") if whole else parts["quality"]
        protocol = {"package": "vbench 0.1.5", "dimensions": self.config.dimensions,
                    "fps": self.config.fps, "codec": "mp4v", "videos": VIDEOS}  # fmt: skip
        return Scores({"": own, **parts, **values}, protocol=protocol)

    def _wanted(self) -> dict[str, list[str]]:
        """Dimension -> its prompts."""
        found: dict[str, list[str]] = {name: [] for name in SETS[self.config.dimensions]}
        for entry in json.loads(INFO.path().read_text(encoding="utf-8")):
            for dimension in entry["dimension"]:
                if dimension in found:
                    found[dimension].append(entry["prompt_en"])
        return found

    def _dimension(self, dimension: str, prompts: Sequence[str], samples: Samples) -> float:
        count = FLICKER_VIDEOS if dimension == "temporal_flickering" else VIDEOS
        job = {"what": f"vbench {dimension}", "dimension": dimension, "device": self._device,
               "full_info": str(self._file), "fps": self.config.fps}  # fmt: skip
        command = [self._python, str(vbench_worker.__file__)]
        with TemporaryDirectory() as folder:
            items = _written(samples, prompts, count, Path(folder))
            _, said = ask(command, job, items, patience=self.config.patience)
        value = said.get("value")
        if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise BadInput(f"vbench {dimension}: its value is {value!r}, not a number in 0..1")
        return float(value)


def _lacking(wanted: Mapping[str, Sequence[str]], drawn: Sequence[str]) -> str:
    """What the samples lack, "" for nothing."""
    counts = Counter(drawn)
    for dimension, prompts in wanted.items():
        few = [p for p in dict.fromkeys(prompts) if counts[p] < VIDEOS]
        if few:
            return (f"{dimension} wants {VIDEOS} videos of each of its prompts; "
                    f"{len(few)} have fewer, the first {few[0]!r}")  # fmt: skip
    return ""


def _written(
    samples: Samples, prompts: Sequence[str], count: int, folder: Path
) -> list[dict[str, Any]]:
    """The first `count` videos of every prompt, each as a file: those of one dimension alone."""
    import numpy as np

    places: dict[str, list[int]] = {prompt: [] for prompt in prompts}
    for place, prompt in enumerate(samples.prompts):
        if len(places.get(prompt, range(count))) < count:
            places[prompt].append(place)
    items = []
    for prompt, of_it in places.items():
        for number, place in enumerate(of_it):
            path = folder / f"{place:06d}.npy"
            np.save(path, samples.data[place].numpy())
            items.append({"prompt": prompt, "number": number, "frames": str(path)})
    return items
