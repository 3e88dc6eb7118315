"""The parts of a row that say how it is trained, on what, and what is sampled from it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from distillbench.experiment.outputs import Section
from distillbench.files.renamed import renamed

__all__ = ["DataConfig", "SampleConfig", "TrainConfig"]


class TrainConfig(Section):
    """Training settings the loop owns; all of them are part of the training's key but `save_every`.

    Attributes:
        updates: of the student.
        batch_size: samples of one micro-batch and process.
        accumulate: micro-batches summed into one update.
        precision: dtype of network calls.
        lr_scale: multiplies every learning rate of the method.
        processes: data-parallel processes inside one training (through accelerate), at most 1,024.
        merge_adapters: compute an adapter's passes without gradient through a copy of the base's
            weights with it added, made anew after each update; in float32 alone.
        compile: compile the networks' blocks (torch.compile).
        optimizer: AdamW with moments in float32, or in 8 bits (by torchao), a quarter of them.
        shard: "fsdp2" (torch's fully_shard): each process keeps a part of every network, of its
            moments and its average, and gathers a block where it runs.
        save_every: updates between checkpoints a killed run resumes from.
    """

    updates: Annotated[PositiveInt, renamed("steps")] = 1000
    batch_size: PositiveInt = 32
    accumulate: PositiveInt = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    lr_scale: float = Field(1.0, gt=0)
    processes: Annotated[int, Field(gt=0, le=1024)] = 1
    merge_adapters: bool = False
    compile: bool = False
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    shard: Literal["", "fsdp2"] = ""
    save_every: PositiveInt = 200


class DataConfig(Section):
    """Where training prompts and real latents come from.

    Attributes:
        prompts: a named prompt set or a path to .txt/.csv/.tsv/.json/.jsonl; "" is the backbone's
            own. Images bring their captions, so that only one of the two may be given.
        images: a folder of captioned images, or the name of one under `<data root>/images`; "" lets
            the backbone's world make them.
        resize: how an image of another size comes to that of the network: the middle is cut out,
            all of it is kept between bars, or its shape is ignored.
        background: what lies behind transparent parts and beside padded images: white, black, grey
            or "#rrggbb".
        latents: of an image: the "mode" of the autoencoder's posterior, or a "sample" of it, drawn
            anew each time, as LCM's scripts and DMD2 take. Each image is encoded once.
        flip: mirror every other image, as drawn.
    """

    prompts: str = ""
    images: str = ""
    resize: Literal["center-crop", "pad", "stretch"] = "center-crop"
    background: Annotated[str, Field(pattern="^(white|black|grey|#[0-9a-fA-F]{6})$")] = "white"
    latents: Literal["mode", "sample"] = "mode"
    flip: bool = False


class SampleConfig(Section):
    """What is sampled from each student.

    Attributes:
        prompts: a named prompt set or a path; "" is the backbone's own evaluation set.
        n: number of samples, the first n prompts (cycled when the set is shorter).
        batch_size: samples of one network call.
        keep: the samples as files in the run's folder too, in no key: "png" (videos: GIF), or "mp4"
            for videos, by PyAV; `distillbench samples` writes them of any run.
        trajectory: of so many samples, the first ones, the clean prediction of every evaluation is
            kept too, for grids across "evaluations"; samples are the same, their key is another.
    """

    prompts: str = ""
    n: PositiveInt = 400
    batch_size: PositiveInt = 50
    keep: Literal["", "png", "mp4"] = ""
    trajectory: Annotated[int, Field(ge=0, le=64)] = 0
