"""One training for the denoisers of all families: what they regress on, from cached latents.

A tenth of the captions is empty, which makes classifier-free guidance possible (arXiv 2207.12598);
text encoders and autoencoders stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from distillbench.tiny_training.bank import BATCH, SHARDS, Bank, Maker, pictures, rows_of
from distillbench.tiny_training.loop import Job, bfloat16_products, fit
from distillbench.tiny_training.text import tokens

__all__ = [
    "Family", "Noised", "denoiser_of", "flow", "noise_of", "snr_weight", "train",
    "velocity_of", "zeroed",
]  # fmt: skip

DROPOUT: Final = 0.1


class Noised(NamedTuple):
    """A regression problem: inputs, their times, what to put out, and the weight of each sample."""

    x: Tensor
    t: Tensor
    target: Tensor
    weight: Tensor


Noise = Callable[[Tensor, torch.Generator], Noised]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One teacher: how its pipeline is put together and what its denoiser learns.

    Attributes:
        name: of its folder.
        job: name of the training of its denoiser.
        needs: recipes of its frozen parts.
        build: the untrained denoiser.
        assemble: folder of all trained models, denoiser -> the pipeline.
        condition: pipeline and token ids (B, 24) -> the denoiser's arguments beside input and time.
        noise: latents to a regression problem.
        steps, lr, muon_lr: of the training (`loop.Job`).
        batch: samples a step.
        mixed: whether its products are computed in bfloat16; weights stay in full precision.
        bank, shards, encoded: folder of its encoded pictures, how many shards of them at most, and
            how they are made with its pipeline.
    """

    name: str
    job: str
    needs: tuple[str, ...]
    build: Callable[[], nn.Module]
    assemble: Callable[[Path, Any], Any]
    condition: Callable[[Any, Tensor], dict[str, Any]]
    noise: Noise
    steps: int = 12_000
    batch: int = BATCH
    lr: float = 1e-3
    muon_lr: float = 0.0
    mixed: bool = False
    bank: str = "latents"
    shards: int = SHARDS
    encoded: Callable[[Any], Maker] = pictures


def denoiser_of(pipeline: DiffusionPipeline) -> nn.Module:
    """The network of a pipeline that denoises."""
    parts: dict[str, Any] = pipeline.components
    found: nn.Module = parts.get("unet") or parts["transformer"]
    return found


def train(
    family: Family,
    out: Path,
    pipeline: DiffusionPipeline,
    bank: Bank,
    *,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    """Train the denoiser of `pipeline`, which is on `device`, in place."""
    net = denoiser_of(pipeline).to(memory_format=torch.channels_last)
    empty = tokens(pipeline.tokenizer, [""])[0].to(device)
    job = Job(
        name=family.job, out=out, steps=steps, lr=family.lr, muon_lr=family.muon_lr, seed=seed,
        device=device, ema=0.999,
    )  # fmt: skip

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.from_numpy(rows_of(seed, step, len(bank.latents), family.batch)).to(device)
        x0, words = bank.latents[rows].float(), bank.ids[rows].long()
        words[(torch.rand(family.batch, generator=generator) < DROPOUT).to(device)] = empty
        noised = family.noise(x0, generator)
        with torch.no_grad():
            given = family.condition(pipeline, words)
        x = noised.x.contiguous(memory_format=torch.channels_last) if x0.ndim == 4 else noised.x
        with bfloat16_products(device) if family.mixed else nullcontext():
            out = net(x, timestep=noised.t, return_dict=False, **given)[0].float()
        error = (out - noised.target).square().mean(tuple(range(1, out.ndim)))
        loss: Tensor = (noised.weight * error).mean()
        return loss

    return fit(job, net, loss_of)


# ---- what is regressed on -----------------------------------------------------------------


def noise_of(alphas: Tensor) -> Noise:
    """The noise in the picture (arXiv 2006.11239), weighted by `snr_weight`."""
    weight = snr_weight(alphas)

    def noised(x0: Tensor, generator: torch.Generator) -> Noised:
        t, eps, a = _drawn(alphas, x0, generator)
        x = a.sqrt() * x0 + (1 - a).sqrt() * eps
        return Noised(x, t, eps, weight.to(t.device)[t])

    return noised


def velocity_of(alphas: Tensor) -> Noise:
    """v = alpha eps - sigma x0 (arXiv 2202.00512), of any schedule, zero terminal SNR too."""

    def noised(x0: Tensor, generator: torch.Generator) -> Noised:
        t, eps, a = _drawn(alphas, x0, generator)
        x = a.sqrt() * x0 + (1 - a).sqrt() * eps
        v = a.sqrt() * eps - (1 - a).sqrt() * x0
        return Noised(x, t, v, torch.ones(len(x0), device=x0.device))

    return noised


def flow(shift: float) -> Noise:
    """eps - x0 at x = (1 - s) x0 + s eps, with logit-normal times, shifted as the sampler shifts.

    u = sigmoid(N(0, 1)) and s = g u / (1 + (g - 1) u) for shift g (arXiv 2403.03206, sections 3.1
    and 5.3.2); the network is told 1000 s.
    """

    def noised(x0: Tensor, generator: torch.Generator) -> Noised:
        u = torch.randn(len(x0), generator=generator).sigmoid().to(x0.device)
        eps = torch.randn(x0.shape, generator=generator).to(x0.device)
        s = shift * u / (1 + (shift - 1) * u)
        wide = s.reshape(-1, *[1] * (x0.ndim - 1))
        return Noised((1 - wide) * x0 + wide * eps, 1000 * s, eps - x0, torch.ones_like(s))

    return noised


def snr_weight(alphas: Tensor) -> Tensor:
    """Weights of the noise error at each time: 1 + 1/SNR, at most 10.

    That is the SNR + 1 weighting of the clean picture (arXiv 2202.00512, section 4). The plain
    noise error is nearly all in the last, least noisy steps, where shapes are already decided.
    """
    weight: Tensor = (1 / alphas).clamp(max=10)
    return weight


def _drawn(alphas: Tensor, x0: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.randint(0, len(alphas), (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    a = alphas[t].float().reshape(-1, *[1] * (x0.ndim - 1))
    return t.to(x0.device), eps.to(x0.device), a.to(x0.device)


def zeroed(net: nn.Module, *layers: str) -> nn.Module:
    """Set the layers whose names end so to zero: each block starts as the identity (adaLN-Zero,
    arXiv 2212.09748, section 3.2)."""
    for name, module in net.named_modules():
        if name.endswith(layers) and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return net
