"""The exact mixture's mathematics and the student network of the gmm backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from distillbench.api.backbone import Prediction
from distillbench.core.noise import generator
from distillbench.core.parameterization import guided, raw_output, x0_eps
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.errors import NotSupported
from distillbench.world.mixture import CONDITIONS, labels_of, mixture

if TYPE_CHECKING:
    from distillbench.api.nets import NetHandle

__all__ = [
    "ExactMixture", "PointNet", "exact_prediction", "exact_samples", "load_warm_start", "make_net",
    "middle", "net_prediction", "process",
]  # fmt: skip

WIDTH, DEPTH, FEATURES = 64, 3, 64
# What makes each scalar condition spread over the sinusoids as a time from 0 to 999 does.
SCALES = {"guidance": 100.0, "end_t": 1.0, "steps_k": 100.0}


Kind = Literal["vp", "flow"]
TYPES: dict[Kind, str] = {"vp": "v_prediction", "flow": "flow"}
"""What the networks put out."""


@cache
def process(kind: Kind = "vp") -> NoiseProcess:
    """Stable Diffusion's schedule with a clean end, or rectified flow."""
    return NoiseProcess.flow() if kind == "flow" else NoiseProcess.scaled_linear(final=CLEAN)


class ExactMixture:
    """Closed-form density, score and samples of the noised mixture, in float64.

    With modes mu_k of weight w_k(c) and standard deviation s, x_t given condition c is the mixture
    of N(alpha mu_k, v), v = alpha^2 s^2 + sigma^2. Labels 0..7 are conditions, 8 is the mixture of
    all, which has the same modes with w_k / 8.

    Attributes:
        means: (32, 2), condition by condition.
        log_weights: (9, 32), -inf where a condition lacks the mode.
        std: s.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        world = mixture()
        self.std = world.std
        self.means = torch.tensor(world.centres, dtype=torch.float64).flatten(0, 1)
        own = torch.tensor(world.weights, dtype=torch.float64)
        table = torch.cat([_block_diagonal(own), own.reshape(1, -1) / CONDITIONS])
        self.means, self.log_weights = self.means.to(device), table.log().to(device)

    def x0_eps(
        self, x: Tensor, labels: Tensor, alpha: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """E[x0 | x_t = x] and eps = -sigma * score, (B, 2)."""
        log_terms, variance = self._log_terms(x, labels, alpha, sigma)
        mean = log_terms.softmax(1) @ self.means  # of the modes' centres, a posteriori
        rest = (x - alpha * mean) / variance
        return mean + alpha * self.std**2 * rest, sigma * rest

    def sample(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        """One exact draw per label, float32 (B, 2) on the CPU."""
        weights = self.log_weights.cpu().exp()[labels]
        modes = torch.multinomial(weights, 1, generator=rng)[:, 0]
        noise = torch.randn(len(labels), 2, generator=rng, dtype=torch.float64)
        return (self.means.cpu()[modes] + self.std * noise).float()

    def _log_terms(
        self, x: Tensor, labels: Tensor, alpha: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        variance = (alpha * self.std) ** 2 + sigma**2
        centres = alpha[..., None] * self.means[None]
        square = ((x[:, None] - centres) ** 2).sum(2)
        return self.log_weights[labels] - square / (2 * variance), variance


def _block_diagonal(rows: Tensor) -> Tensor:
    n, k = rows.shape
    return (torch.eye(n, dtype=rows.dtype)[:, :, None] * rows).reshape(n, n * k)


def exact_samples(prompts: Sequence[str], seed: int) -> Tensor:
    """Exact draws, float32 (n, 2); each depends on (seed, its index, its prompt) alone."""
    exact, labels = ExactMixture(), labels_of(prompts)
    rows = [
        exact.sample(torch.tensor([label]), generator(seed, i, "exact"))
        for i, label in enumerate(labels)
    ]
    return torch.cat(rows)


class PointNet(nn.Module):
    """v at (x_t, t) given a label: an MLP with time and label added at every layer.

    v is what the process has, alpha eps - sigma x0 of diffusion and the velocity eps - x0 of flow.

    Args:
        conditions: names of further scalar inputs, whose embeddings start at zero.
    """

    def __init__(self, conditions: Sequence[str] = ()) -> None:
        super().__init__()
        self.time = nn.Linear(FEATURES, WIDTH)
        self.label = nn.Embedding(CONDITIONS + 1, WIDTH)
        self.extra = nn.ModuleDict({n: nn.Linear(FEATURES, WIDTH, bias=False) for n in conditions})
        for weight in self.extra.parameters():
            nn.init.zeros_(weight)
        self.enter = nn.Linear(2, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        self.shifts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        self.leave = nn.Linear(WIDTH, 2)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        label: Tensor,
        values: Mapping[str, Tensor],
        depth: int | None = None,
    ) -> Tensor:
        """v, (B, 2), from x (B, 2), t and label (B,) and one (B,) value per condition.

        With a depth the hidden vector (B, WIDTH) after so many layers.
        """
        embedding = self.time(_sinusoids(t)) + self.label(label)
        for name, layer in self.extra.items():
            embedding = embedding + layer(_sinusoids(SCALES[name] * values[name]))
        embedding = nn.functional.silu(embedding)
        h: Tensor = self.enter(x)
        for layer, shift in zip(self.layers[:depth], self.shifts[:depth], strict=True):
            h = h + layer(nn.functional.silu(h + shift(embedding)))
        if depth is not None:
            return h
        return self.leave(nn.functional.silu(h))  # type: ignore[no-any-return]


def _sinusoids(value: Tensor) -> Tensor:
    half = FEATURES // 2
    powers = torch.arange(half, device=value.device) / half
    angles = value.float()[:, None] * torch.exp(-math.log(10000.0) * powers)
    return torch.cat([angles.sin(), angles.cos()], 1)


def load_warm_start(folder: Path, device: str) -> PointNet:
    """The shipped network, regressed on the exact score."""
    net = PointNet()
    net.load_state_dict(load_file(folder / "model.safetensors"))
    return net.to(device).requires_grad_(False)


def make_net(name: str, start: PointNet, conditions: tuple[str, ...]) -> NetHandle:
    """A trainable copy of `start`. Raises NotSupported for an unknown condition."""
    from distillbench.api.nets import NetHandle

    if unknown := set(conditions) - SCALES.keys():
        raise NotSupported(f"the gmm backbone has no conditions {sorted(unknown)}")
    net = PointNet(conditions).to(start.leave.weight.device)
    net.load_state_dict(start.state_dict(), strict=False)
    return NetHandle(name, net, conditions=conditions)


def exact_prediction(
    exact: ExactMixture,
    x_t: Tensor,
    t: Tensor,
    branches: Sequence[Tensor],
    scale: float | Tensor,
    kind: Kind = "vp",
) -> Prediction:
    """The teacher's answer, guided between branches [cond] or [cond, uncond]."""
    x = x_t.double()
    alpha, sigma = _alpha_sigma(kind, t, x)
    parts = [exact.x0_eps(x, labels, alpha, sigma) for labels in branches]
    x0, eps = parts[0] if len(parts) == 1 else (
        guided(c, u, scale) for c, u in zip(*parts, strict=True)
    )  # fmt: skip
    raw = raw_output(x0, eps, alpha, sigma, TYPES[kind])
    return Prediction(x0.to(x_t.dtype), eps.to(x_t.dtype), raw.to(x_t.dtype))


def net_prediction(
    dtype: str,
    net: NetHandle,
    x_t: Tensor,
    t: Tensor,
    branches: Sequence[Tensor],
    scale: float | Tensor,
    values: Mapping[str, Tensor],
    kind: Kind = "vp",
) -> Prediction:
    """A role's answer; both branches go through the network in one batch."""
    n = len(branches)
    doubled = {name: value.expand(len(x_t)).repeat(n) for name, value in values.items()}
    with net.active(), _precision(dtype, x_t):
        raw = net.module(
            x_t.float().repeat(n, 1),
            t.expand(len(x_t)).repeat(n),
            torch.cat(list(branches)),
            doubled,
        ).float()
    if n == 2:
        cond, uncond = raw.chunk(2)
        raw = guided(cond, uncond, scale)
    alpha, sigma = _alpha_sigma(kind, t, x_t)
    return Prediction(*x0_eps(raw, x_t, alpha, sigma, TYPES[kind]), raw)


def middle(
    dtype: str,
    net: NetHandle,
    x_t: Tensor,
    t: Tensor,
    labels: Tensor,
    values: Mapping[str, Tensor],
) -> Tensor:
    """A role's hidden vector after its middle layer, (B, WIDTH) float32."""
    size = len(x_t)
    told = {name: value.expand(size) for name, value in values.items()}
    with net.active(), _precision(dtype, x_t):
        hidden: Tensor = net.module(
            x_t.float(), t.expand(size), labels.expand(size), told, (DEPTH + 1) // 2
        )
    return hidden.float()


def _alpha_sigma(kind: Kind, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Those of a network's time, which piecewise flows begin one above the noisiest."""
    known = t.clamp(max=process(kind).num_timesteps - 1) if kind == "vp" else t
    return process(kind).alpha_sigma(known, x)


def _precision(dtype: str, x: Tensor) -> torch.autocast:
    low = getattr(torch, dtype)
    return torch.autocast(x.device.type, low, enabled=low != torch.float32)
