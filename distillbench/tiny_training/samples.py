"""A bank of the teacher's samples, from which the preference scorer learns how samplers fail.

For each caption of the training split one guidance scale and one noise: the picture of 25 steps and
those of fewer. Two fifths have strong guidance, whose pictures are over-saturated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from distillbench.drawings.render import SIZE
from distillbench.tiny_training.denoise import denoiser_of
from distillbench.tiny_training.towers import LENGTH
from distillbench.tiny_training.vae import to_tensor
from distillbench.world.clips import FRAMES
from distillbench.world.data import Draws, completed, draws, render
from distillbench.world.scene import Codes

COUNT: Final = 3072
PART: Final = 256
GUIDANCES: Final = (1.0, 2.0, 3.0, 5.0, 8.0)
FEW: Final = (1, 2, 4, 8)
MANY: Final = 25
SEED: Final = 70
CALLS: Final[Mapping[str, Mapping[str, Any]]] = {
    "StableDiffusionPipeline": {},
    "StableDiffusionControlNetPipeline": {},
    "StableDiffusionXLPipeline": {},
    "StableDiffusion3Pipeline": {"max_sequence_length": LENGTH},
    "PixArtAlphaPipeline": {
        "max_sequence_length": LENGTH, "clean_caption": False, "use_resolution_binning": False,
    },
    "CogVideoXPipeline": {
        "max_sequence_length": LENGTH, "num_frames": FRAMES, "height": SIZE, "width": SIZE,
    },
}  # fmt: skip
"""Pipeline -> what its call takes in this world: the length of its texts, the size of its clips."""
Images = NDArray[np.uint8]
Sampler = Callable[[Sequence[str], int, float, int], Images]
"""Captions, steps, guidance scale and seed -> (N, 32, 32, 3) uint8 pictures."""


@dataclass(frozen=True)
class Bank:
    """Samples of N captions.

    Attributes:
        said: (N, 10) what each caption says.
        many: (N, 32, 32, 3) uint8, of 25 steps.
        few: (N, 4, 32, 32, 3) uint8, of 1, 2, 4 and 8 steps from the same noise.
    """

    said: Codes
    many: Images
    few: Images

    def real(self, rows: Codes, *, seed: int) -> tuple[Draws, Tensor]:
        """A real picture (n, 3, 32, 32) for each caption, its unsaid attributes drawn anew."""
        drawn = completed(self.said[rows], seed=SEED + 1 + seed, index=rows)
        return drawn, to_tensor(render(drawn, seed=SEED + 1 + seed, index=rows))

    def pair(self, rows: Codes, generator: torch.Generator) -> tuple[Images, Images]:
        """The pictures of 25 steps, and of a number of few steps drawn for each."""
        which = torch.randint(0, len(FEW), (len(rows),), generator=generator).numpy()
        return self.many[rows], self.few[rows, which]


def sample(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance: float,
    seed: int = 0,
    batch: int = 64,
    shown: Sequence[Any] | None = None,
) -> Images:
    """Samples (N, 32, 32, 3), or clips (N, F, 32, 32, 3), by the pipeline's own scheduler.

    Each is from its own noise: (seed, position) alone decide it.

    Args:
        shown: a picture each, for a pipeline with a ControlNet.
    """
    pipeline.set_progress_bar_config(disable=True)
    shape, arguments = _shape(pipeline), _arguments(pipeline, steps)
    parts = []
    for first in range(0, len(prompts), batch):
        some = list(prompts[first : first + batch])
        seeds = [seed * 1_000_003 + first + i for i in range(len(some))]
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        more = {} if shown is None else {"image": list(shown[first : first + batch])}
        out = pipeline(
            prompt=some,
            latents=torch.stack(noise),
            guidance_scale=guidance,
            output_type="np",
            **more,
            **arguments,
        )
        parts.append((out[0] * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def _arguments(pipeline: DiffusionPipeline, steps: int) -> dict[str, Any]:
    """What its call needs beside prompt, noise and guidance.

    A flow scheduler of its own accord takes its last step from time 9, whatever the number of
    steps; it is told equal steps before the shift.
    """
    flow = isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler)
    count = {"sigmas": np.linspace(1, 1 / steps, steps).tolist()}
    return {**CALLS[type(pipeline).__name__], **(count if flow else {"num_inference_steps": steps})}


def _shape(pipeline: DiffusionPipeline) -> tuple[int, ...]:
    config: Any = denoiser_of(pipeline).config
    if "sample_frames" not in config:
        return (config.in_channels, config.sample_size, config.sample_size)
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    return (frames, config.in_channels, config.sample_height, config.sample_width)


def make(out: Path, sample: Sampler, *, count: int = COUNT) -> Bank:
    """Sample the bank in parts, each a file, so that a stopped run goes on where it was."""
    parts = [_part(out / "samples", first, sample) for first in range(0, count, PART)]
    return Bank(*(np.concatenate([p[k].numpy() for p in parts]) for k in ("said", "many", "few")))


def _part(folder: Path, first: int, sample: Sampler) -> dict[str, Tensor]:
    path = folder / f"{first // PART:03d}.safetensors"
    if not path.exists():
        drawn = draws(SEED, np.arange(first, first + PART), pairs=0.1)
        guidance = GUIDANCES[first // PART % len(GUIDANCES)]
        captions = drawn.captions()
        many, *few = (sample(captions, n, guidance, SEED + first) for n in (MANY, *FEW))
        whole = {"said": drawn.said, "many": many, "few": np.stack(few, 1)}
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        save_file({k: torch.from_numpy(v).contiguous() for k, v in whole.items()}, str(partial))
        partial.replace(path)
    whole_file: dict[str, Tensor] = load_file(path)
    return whole_file
