"""Whether the parts of a pipeline fit each other and the backbone's parameters (no torch here)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import Layout, Shape
from distillbench.files.weight_files import Tensors

__all__ = ["autoencoder", "cell", "equal", "network", "schedule", "text", "weights"]

Config = Mapping[str, Any]


def equal(*sides: tuple[str, int]) -> Iterator[str]:
    """Each (name, value) must have the first one's value."""
    (first, wanted), *rest = sides
    for name, value in rest:
        if value != wanted:
            yield f"{name} is {value}, {first} is {wanted}: these parts do not belong together"


def schedule(config: Config) -> Iterator[str]:
    """Betas must rise."""
    start, end = config.get("beta_start"), config.get("beta_end")
    if start is not None and end is not None and start > end:
        yield (f"scheduler/scheduler_config.json: beta_start: {start:g} is above beta_end: {end:g}")


def autoencoder(config: Config, layout: Layout) -> Iterator[str]:
    """Scaling, shift, and mean and deviation of latents must say one thing."""
    file, channels = "vae/config.json", config["latent_channels"]
    if "scaling_factor" not in config and channels != layout.default_scale:
        yield f"{file}: scaling_factor is missing; latents cannot be scaled without it"
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if (mean is None) != (std is None):
        lone, other = ("latents_mean", "latents_std")[:: 1 if std is None else -1]
        yield f"{file}: {lone} without {other} would be ignored; give both or neither"
    for name, values in (("latents_mean", mean), ("latents_std", std)):
        if values is not None and len(values) != channels:
            yield f"{file}: {name} has {len(values)} numbers for {channels} latent channels"
    if mean is not None and config.get("shift_factor"):
        yield f"{file}: shift_factor beside latents_mean; which is meant is not known"
    for name in ("down_block_types", "up_block_types"):
        yield from _as_many(file, config, name)


def network(folder: Folder, part: str, *, variance: bool = False) -> Iterator[str]:
    """Channels must be those of the autoencoder, and of the weights."""
    config, file = folder.configs[part], f"{part}/config.json"
    latent = folder.configs["vae"]["latent_channels"]
    into, out = config["in_channels"], config["out_channels"]
    if into != latent:
        inpainting = into == 2 * latent + 1
        more = "an inpainting network" if inpainting else "a network for other inputs"
        yield f"{file}: in_channels: {into} for {latent} latent channels: {more} is no teacher here"
    if out == 2 * latent and not variance:
        yield f"{file}: out_channels: {out}: a learned variance is read under pixart alone"
    elif out not in (latent, 2 * latent):
        yield f"{file}: out_channels: {out} for {latent} latent channels"
    for name in ("down_block_types", "up_block_types"):
        if name in config:
            yield from _as_many(file, config, name)


def _as_many(file: str, config: Config, name: str) -> Iterator[str]:
    wanted = len(config["block_out_channels"])
    if len(config[name]) != wanted:
        yield f"{file}: {name} has {len(config[name])} entries, block_out_channels {wanted}"


def weights(folder: Folder, layout: Layout) -> Iterator[str]:
    """Weights must have the shapes, and be as many layers, as the configurations say."""
    for name, tensors in folder.tensors.items():
        part, config = layout.parts[name], folder.configs[name]
        plain = {key.removeprefix("text_model."): shape for key, shape in tensors.items()}
        for tensor, sides in part.shapes.items():
            yield from _shaped(name, config, plain, tensor, sides)
        for start, key in part.stacks.items():
            yield from _stacked(name, config, plain, start, key)


def _shaped(
    name: str, config: Config, tensors: Tensors, tensor: str, sides: Shape
) -> Iterator[str]:
    """The first weight of that name with another shape than the settings say."""
    for key, shape in tensors.items():
        if key != tensor and not (tensor.startswith(".") and key.endswith(tensor)):
            continue
        for said, size in zip(sides, shape, strict=False):
            wanted = None if said is None else _product(config, said)
            if wanted is not None and wanted != size:
                yield (
                    f"{name}/config.json: {said}: {wanted}, but {key} has shape {list(shape)}: "
                    "these weights are not of this configuration"
                )
                return


def _product(config: Config, keys: str) -> int | None:
    """The product of settings, None where one is not given."""
    values = [config.get(key) for key in keys.split("*")]
    firsts = [v[0] if isinstance(v, list) and v else v for v in values]
    whole = [v for v in firsts if isinstance(v, int)]
    return math.prod(whole) if len(whole) == len(values) else None


def _stacked(name: str, config: Config, tensors: Tensors, start: str, key: str) -> Iterator[str]:
    """As many layers as the setting says (of a list of widths: as many as it has)."""
    found = {k[len(start) :].split(".")[0] for k in tensors if k.startswith(start)}
    value = config.get(key)
    if isinstance(value, list):
        wanted = len(value) if key == "block_out_channels" else value[0]
    else:
        wanted = value
    if tensors and wanted is not None and wanted != len(found):
        yield f"{name}/config.json: {key}: {value}, its weights have {len(found)} {start}*"


def text(folder: Folder, encoder: str, words: str) -> Iterator[str]:
    """A prompt's tokens must fit the encoder."""
    length = folder.configs[words]["model_max_length"]
    most = folder.configs[encoder]["max_position_embeddings"]
    if length > most:
        yield (
            f"{words}/tokenizer_config.json: model_max_length: {length} is more than the {most} "
            f"positions of {encoder}"
        )
    config = folder.configs[encoder]
    heads, width = config["num_attention_heads"], config["hidden_size"]
    if width % heads:
        yield f"{encoder}/config.json: hidden_size: {width} is no multiple of {heads} heads"


def cell(config: Config) -> int:
    """Pixels that one number of a latent stands for, along one side."""
    return int(2 ** (len(config["block_out_channels"]) - 1))
