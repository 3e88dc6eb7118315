"""Sampling a trained student: the sample stage, and the same for a few prompts at hand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distillbench.api.backbone import Backbone, Prediction
from distillbench.api.sampler import Sampler
from distillbench.core.noise import sample_noise
from distillbench.data.pictures import open_picture
from distillbench.data.prompts import planned_prompts
from distillbench.data.steering import control_picture
from distillbench.errors import Interrupted, StageFailed
from distillbench.files.io import write_json
from distillbench.finite import NotFinite, require_finite
from distillbench.numerics import Meter, repeatable
from distillbench.specs.context import StageContext
from distillbench.specs.stages import SampleSpec
from distillbench.store.samples import SampleWriter, write_trajectory
from distillbench.student.files import Student, load_student
from distillbench.student.placed import Placed

if TYPE_CHECKING:
    from PIL.Image import Image

    from distillbench.api.method import Method
    from distillbench.api.nets import NetHandle
    from distillbench.api.steering import Steer

__all__ = [
    "BoundDenoiser", "SampleWork", "generate_images", "load_student", "new_net", "sample_stage",
]  # fmt: skip


@dataclass(frozen=True)
class SampleWork:
    """What to sample.

    Attributes:
        sampler: the recipe.
        prompts: one per sample, in order.
        seed: noise is a function of (seed, position in `prompts`).
        batch_size: samples of one network call.
        pictures: for each ControlNet and IP-Adapter of the student one a sample.
    """

    sampler: Sampler
    prompts: Sequence[str]
    seed: int
    batch_size: int
    pictures: Sequence[Sequence[Path]] = ()

    def batches(self) -> Iterator[range]:
        """Positions of each batch."""
        for start in range(0, len(self.prompts), self.batch_size):
            yield range(start, min(start + self.batch_size, len(self.prompts)))


def sample_stage(spec: SampleSpec, context: StageContext, *, train_dir: Path, out: Path) -> None:
    """Sample the student in `train_dir` as `spec` says and write the samples into `out`.

    Writes samples-00000.safetensors and so on (at most 256 samples each), samples.jsonl (one line
    per sample), samples.json, cost.json, and trajectory.safetensors where it was asked for.

    Raises:
        Interrupted: it was asked to stop; a sample stage starts afresh.
    """
    runtime = context.runtime
    chosen = planned_prompts(runtime.prompts, spec.prompts.sha256)
    order = [i % len(chosen.prompts) for i in range(spec.prompts.n)]
    prompts = [chosen.prompts[i] for i in order]
    placed = Placed.of(spec.plain(), runtime.plain(), train_dir.parent)
    pictures = placed.planned_pictures(chosen, spec.prompts.n)
    work = SampleWork(spec.sampler, prompts, spec.seed, spec.batch_size, pictures)
    took: list[tuple[int, float]] = []
    meter = Meter(context.device)
    with repeatable(runtime.threads):
        told = runtime.settings
        student = load_student(
            train_dir, context.device, settings=told.get("backbone"),
            method_settings=told.get("method") if spec.method.weights is not None else None,
            placed=placed,
        )  # fmt: skip
        meter.watch(student.method.backbone)
        shards, kept = SampleWriter(out), list[torch.Tensor]()
        for positions in work.batches():
            if context.should_stop():
                raise Interrupted(f"stopped after {positions[0]} of {len(prompts)} samples")
            wanted = kept if positions[0] < spec.trajectory else None
            began = time.perf_counter()
            made = _batch(student, work, positions, wanted)
            took.append((len(made), time.perf_counter() - began))
            shards.add(made)
            context.progress({"kind": "sample", "done": positions[-1] + 1, "total": len(prompts)})
    categories = [chosen.categories[i] if chosen.categories else "" for i in order]
    shards.close(prompts, categories, spec.seed)
    if kept:
        write_trajectory(out, kept[: spec.trajectory])
    write_json(out / "cost.json", {**meter.totals(), "samples": len(prompts), **_timed(took)})


def _timed(took: Sequence[tuple[int, float]]) -> dict[str, float]:
    """What batches alone took, of (samples, seconds) each.

    The first one waits for what is imported, compiled and chosen at first use, and does not count
    where there are others.
    """
    sizes, seconds = zip(*(took[1:] or took), strict=True)
    return {"timed_samples": sum(sizes), "timed_seconds": sum(seconds)}


def generate_images(
    student: Student,
    prompts: Sequence[str],
    *,
    sampler: Sampler,
    seed: int = 0,
    batch_size: int = 8,
    trajectory: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Decoded samples of `prompts`, the same that a sample stage of this seed would make.

    Args:
        trajectory: gets one tensor a prompt, (evaluations, ...): the decoded clean prediction of
            every evaluation of the network, whatever the sampler.

    Raises:
        BadInput: the backbone knows nothing of such prompts, or pictures that steer it are missing.
    """
    student.method.backbone.check_prompts(prompts, latents=False)
    work = SampleWork(sampler, prompts, seed, batch_size, student.placed.pictures(prompts))
    made = [_batch(student, work, positions, trajectory) for positions in work.batches()]
    return torch.cat(made)


def _batch(
    student: Student,
    work: SampleWork,
    positions: range,
    trajectory: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    backbone = student.method.backbone
    with torch.no_grad():
        denoise = BoundDenoiser(backbone, student.net, work, [work.prompts[i] for i in positions])
        denoise.steer(student.placed.steers, [[p[i] for i in positions] for p in work.pictures])
        denoise.kept = None if trajectory is None else []
        device = next(iter(denoise.cond.tensors.values())).device

        def noise(stream: str) -> torch.Tensor:
            return sample_noise(work.seed, positions, backbone.latent_shape, stream).to(device)

        x0 = work.sampler.sample(
            denoise, noise("start"), backbone.process_of(student.net), lambda i: noise(f"step {i}")
        )
        try:
            sample = backbone.decode(require_finite(x0, "latents")).cpu()
            if trajectory is not None:
                clean = [require_finite(x, "clean prediction") for x in denoise.kept or ()]
                trajectory += torch.stack([backbone.decode(x).cpu() for x in clean], 1)
            return sample
        except NotFinite as bad:
            place = positions[bad.index]
            raise StageFailed(
                f"sample {place} is not finite ({bad.what}; prompt {work.prompts[place]!r})",
                hint="its teacher or student gives no number there: nothing is scored",
            ) from None


def new_net(method: Method, backbone: Backbone) -> NetHandle | None:
    """An untrained student on a loaded backbone; None where the teacher is sampled."""
    spec = method.nets().get(method.student)
    if spec is None or spec.kind == "head":
        return None
    return backbone.make_net(method.student, spec.kind, **spec.opts)


class BoundDenoiser:
    """The network with its prompts and scales bound, as samplers call it; none is the teacher's.

    Attributes:
        kept: gets the clean prediction of every call; None keeps none.
    """

    kept: list[torch.Tensor] | None = None

    def __init__(
        self, backbone: Backbone, net: NetHandle | None, work: SampleWork, prompts: Sequence[str]
    ) -> None:
        sampler = work.sampler
        self.backbone, self.net = backbone, net
        self.cond = backbone.encode(prompts)
        self.uncond = backbone.encode_null() if sampler.guidance_scale != 1 else None
        self.guidance_scale = sampler.guidance_scale
        self.embed_scale, self.steps_k = sampler.embed_scale, sampler.steps_k

    def steer(self, steers: Sequence[Steer], pictures: Sequence[Sequence[Path]]) -> None:
        """Bind a picture a prompt for each ControlNet and IP-Adapter, if there are any."""
        pairs = zip(steers, pictures, strict=True)
        self.steer_by([[self._picture(steer, path) for path in paths] for steer, paths in pairs])

    def steer_by(self, pictures: Sequence[Sequence[Image]]) -> None:
        """The same of pictures as they are taken."""
        if pictures:
            self.cond, self.uncond = self.backbone.steered(self.cond, self.uncond, pictures)

    def __call__(
        self, x_t: torch.Tensor, t: torch.Tensor, *, end_t: torch.Tensor | None = None
    ) -> Prediction:
        prediction = self.backbone.predict(
            self.net,
            x_t,
            t,
            self.cond,
            guidance_scale=self.guidance_scale,
            uncond=self.uncond,
            end_t=end_t,
            steps_k=self._full(self.steps_k, t),
            embed_scale=self._full(self.embed_scale, x_t),
        )
        if self.kept is not None:
            self.kept.append(prediction.x0)
        return prediction

    def _picture(self, steer: Steer, path: Path) -> Image:
        """The picture that a ControlNet or an IP-Adapter takes."""
        size = self.backbone.image_size()
        if steer.kind != "control" or size is None:
            return open_picture(path)
        return control_picture(path, steer.made, size)

    @staticmethod
    def _full(value: float | None, like: torch.Tensor) -> torch.Tensor | None:
        if value is None:
            return None
        return torch.full((len(like),), value, device=like.device, dtype=like.dtype)
