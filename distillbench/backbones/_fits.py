"""Whether the parts of a pipeline fit each other and the backbone's parameters (no torch here)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import Layout

__all__ = ["autoencoder", "cell", "equal", "network", "schedule", "text", "vocabulary"]

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
    yield from _shapes(folder, part)


def _as_many(file: str, config: Config, name: str) -> Iterator[str]:
    wanted = len(config["block_out_channels"])
    if len(config[name]) != wanted:
        yield f"{file}: {name} has {len(config[name])} entries, block_out_channels {wanted}"


def _shapes(folder: Folder, part: str) -> Iterator[str]:
    """The first and last layer must have the shapes that the configuration says."""
    config, tensors = folder.configs[part], folder.tensors.get(part, {})
    into, out = config["in_channels"], config["out_channels"]
    wanted: dict[str, tuple[int, ...]] = {}
    if "block_out_channels" in config:
        width = config["block_out_channels"][0]
        a, b = config.get("conv_in_kernel", 3), config.get("conv_out_kernel", 3)
        wanted = {"conv_in.weight": (width, into, a, a), "conv_out.weight": (out, width, b, b)}
    else:
        width = config["num_attention_heads"] * config["attention_head_dim"]
        patch = config["patch_size"]
        stem = "patch_embed" if "patch_embed.proj.weight" in tensors else "pos_embed"
        wanted = {
            f"{stem}.proj.weight": (width, into, patch, patch),
            "proj_out.weight": (patch * patch * out, width),
        }
    for name, shape in wanted.items():
        if name in tensors and tensors[name] != shape:
            yield (
                f"{part}: {name} has shape {list(tensors[name])}, {part}/config.json makes it "
                f"{list(shape)}"
            )


def text(folder: Folder, encoder: str, words: str) -> Iterator[str]:
    """A prompt's tokens must fit the encoder."""
    length = folder.configs[words]["model_max_length"]
    most = folder.configs[encoder]["max_position_embeddings"]
    if length > most:
        yield (
            f"{words}/tokenizer_config.json: model_max_length: {length} is more than the {most} "
            f"positions of {encoder}"
        )
    yield from vocabulary(folder, encoder)
    config = folder.configs[encoder]
    heads, width = config["num_attention_heads"], config["hidden_size"]
    if width % heads:
        yield f"{encoder}/config.json: hidden_size: {width} is no multiple of {heads} heads"


def vocabulary(folder: Folder, encoder: str) -> Iterator[str]:
    """The encoder's tables of tokens and positions must be as its configuration says."""
    config = folder.configs[encoder]
    width = config.get("hidden_size", config.get("d_model"))
    tables = {
        "token_embedding.weight": "vocab_size",
        "shared.weight": "vocab_size",
        "position_embedding.weight": "max_position_embeddings",
    }
    for name, shape in folder.tensors.get(encoder, {}).items():
        key = next((k for end, k in tables.items() if name.endswith(end)), None)
        if key is None:
            continue
        if shape[0] != config[key]:
            yield f"{encoder}/config.json: {key}: {config[key]}, its weights have {shape[0]}"
        if shape[1] != width:
            yield f"{encoder}/config.json: width {width}, its weights have {shape[1]}"


def cell(config: Config) -> int:
    """Pixels that one number of a latent stands for, along one side."""
    return int(2 ** (len(config["block_out_channels"]) - 1))
