"""tiny-controlnet: lets the edges of a picture steer tiny-sd (ControlNet, arXiv 2302.05543)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from distillbench.api.steering import Made
from distillbench.data.steering import edges_of
from distillbench.tiny_training.bank import BATCH, SEED, Bank, Images, rows_of
from distillbench.tiny_training.denoise import DROPOUT
from distillbench.tiny_training.loop import Job, fit
from distillbench.tiny_training.text import tokens
from distillbench.tiny_training.unet import FAMILY
from distillbench.world.data import draws, render

__all__ = ["EDGES", "NAME", "SHARDS", "STEPS", "build", "edge_maps", "followed", "train"]

NAME: Final = "tiny-controlnet"
STEPS: Final = 800
SHARDS: Final = 1
EDGES: Final = Made("canny")
"""The edges of rows that say `make: canny` and no thresholds."""


def build(unet: UNet2DConditionModel) -> ControlNetModel:
    """The untrained net: a copy of the denoiser's way down behind convolutions of zeros."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32))


def edge_maps(images: Images) -> Images:
    """(N, H, W) edges of (N, H, W, 3) pictures, 255 on 0: those that rows are steered by."""
    return np.stack([edges_of(image, EDGES) for image in images])


def followed(asked: Images, found: Images) -> float:
    """How far edges (N, H, W) are where they were asked: the harmonic mean of two shares.

    Of the edges asked for those that have one of the picture within a pixel, and of the picture's
    edges those that have one asked for within a pixel.
    """
    there = [torch.from_numpy(edges > 0).float()[:, None] for edges in (asked, found)]
    near = [functional.max_pool2d(edges, 3, stride=1, padding=1) for edges in there]
    pairs = ((there[0], near[1]), (there[1], near[0]))
    shares = [float((its * other).sum() / its.sum().clamp(min=1)) for its, other in pairs]
    return 2 * shares[0] * shares[1] / max(sum(shares), 1e-9)


def train(
    out: Path,
    pipe: StableDiffusionPipeline,
    bank: Bank,
    *,
    steps: int = STEPS,
    seed: int = 0,
    device: str = "cpu",
) -> ControlNetModel:
    """Regress on the noise of tiny-sd's own training, its denoiser frozen.

    Args:
        bank: encoded pictures of the training stream from its first on; they are drawn again for
            their edges.
    """
    unet: Any = pipe.unet.requires_grad_(False).to(memory_format=torch.channels_last)
    torch.manual_seed(seed)
    net: Any = build(unet).to(device, memory_format=torch.channels_last)
    empty = tokens(pipe.tokenizer, [""])[0].to(device)
    job = Job(name=NAME, out=out, steps=steps, lr=1e-3, seed=seed, device=device, ema=0.99)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        rows = rows_of(seed, step, len(bank.latents))
        at = torch.from_numpy(rows).to(device)
        x0, words = bank.latents[at].float(), bank.ids[at].long()
        words[(torch.rand(BATCH, generator=generator) < DROPOUT).to(device)] = empty
        noised = FAMILY.noise(x0, generator)
        shown = edge_maps(render(draws(SEED, rows), seed=SEED, index=rows))
        edges = torch.from_numpy(shown).to(device).float()[:, None].expand(-1, 3, -1, -1) / 255
        with torch.no_grad():
            given = FAMILY.condition(pipe, words)
        x = noised.x.contiguous(memory_format=torch.channels_last)
        down, middle = net(x, noised.t, controlnet_cond=edges, return_dict=False, **given)
        found = unet(
            x, noised.t, down_block_additional_residuals=down,
            mid_block_additional_residual=middle, return_dict=False, **given,
        )[0]  # fmt: skip
        error = (found - noised.target).square().mean((1, 2, 3))
        loss: Tensor = (noised.weight * error).mean()
        return loss

    trained: ControlNetModel = fit(job, net, loss_of)
    return trained
