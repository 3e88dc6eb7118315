"""One update of LCM, TSCD, TDM and DMD2 in plain torch: the needed passes and nothing around them.

No counting, logging, checks, prompts or checkpoints; noise comes from torch's global generator. The
mathematics is cut to what costs (no weights, no clipping of times), so these train nothing of use.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from distillbench.backbones._layouts import UNET_LAYERS
from distillbench.core.noise import generator

__all__ = ["STEPS", "Plain"]

NODES = (999, 749, 499, 249)


class _Lora(nn.Module):
    """A frozen layer with one adapter a role."""

    def __init__(self, base: nn.Module, roles: tuple[str, ...], rank: int, plain: Plain) -> None:
        super().__init__()
        self.base, self.plain = [base], plain.active
        down, up = nn.ModuleDict(), nn.ModuleDict()
        for role in roles:
            if isinstance(base, nn.Conv2d):
                down[role] = nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride,
                                       base.padding, bias=False)  # type: ignore[arg-type]  # fmt: skip
                up[role] = nn.Conv2d(rank, base.out_channels, 1, bias=False)
            else:
                assert isinstance(base, nn.Linear)
                down[role] = nn.Linear(base.in_features, rank, bias=False)
                up[role] = nn.Linear(rank, base.out_features, bias=False)
            nn.init.zeros_(up[role].weight)
        self.down, self.up = down, up

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        out = self.base[0](x)
        if not self.plain:
            return out
        return out + self.up[self.plain[0]](self.down[self.plain[0]](x))


class Plain:
    """The networks of a method with AdamW, as adapters on one UNet or as full copies of it."""

    def __init__(
        self, folder: Path, roles: tuple[str, ...], *, copies: bool, rank: int, batch: int,
        device: str, dtype: torch.dtype, average: bool, clip: float | None, tokens: tuple[int, int],
    ) -> None:  # fmt: skip
        self.active: list[str] = []
        self.batch, self.device, self.clip, self.dtype = batch, device, clip, dtype
        self.base = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype)
        self.base.to(device, memory_format=torch.channels_last).requires_grad_(False)
        self.shape = (batch, 4, self.base.config.sample_size, self.base.config.sample_size)
        self.tokens = torch.randn(batch, *tokens, device=device, dtype=dtype)
        self.copies: dict[str, nn.Module] = {}
        if copies:
            self.copies = {role: copy.deepcopy(self.base).float() for role in roles}
            self.own = {role: list(net.parameters()) for role, net in self.copies.items()}
        else:
            self._adapt(roles, rank)
        self.mean = [p.clone() for p in self.own["student"]] if average else []
        self.optimizers = {r: torch.optim.AdamW(p, lr=1e-5) for r, p in self.own.items()}
        squared = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
        self.alphas, self.sigmas = (v.to(device) for v in (squared.sqrt(), (1 - squared).sqrt()))

    def _adapt(self, roles: tuple[str, ...], rank: int) -> None:
        self.own = {role: [] for role in roles}
        for path, layer in list(self.base.named_modules()):
            if path.endswith(UNET_LAYERS) and isinstance(layer, nn.Linear | nn.Conv2d):
                parent, _, name = path.rpartition(".")
                adapted = _Lora(layer, roles, rank, self).to(self.device)
                setattr(self.base.get_submodule(parent), name, adapted)
                for role in roles:
                    own = (*adapted.down[role].parameters(), *adapted.up[role].parameters())
                    self.own[role] += own

    # ---- passes -----------------------------------------------------------------------------

    def noise(self) -> Tensor:
        """Standard normal, one latent a sample."""
        return torch.randn(self.shape, device=self.device)

    def times(self, high: int = 1000) -> Tensor:
        """Uniform times, (B,)."""
        return torch.randint(0, high, (self.batch,), device=self.device)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, (B, 1, 1, 1)."""
        return self.alphas[t].reshape(-1, 1, 1, 1), self.sigmas[t].reshape(-1, 1, 1, 1)

    def eps(self, role: str | None, x: Tensor, t: Tensor) -> Tensor:
        """One forward."""
        net = self.copies.get(role or "", self.base)
        half = net is not self.base and self.dtype != torch.float32
        self.active[:] = [role] if role and net is self.base else []
        mixed = half or (role is not None and self.dtype != torch.float32)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=mixed):
            out = net(x.to(self.dtype), t, self.tokens[: len(x)], return_dict=False)[0]
        return out.float()  # type: ignore[no-any-return]

    def x0(self, role: str | None, x: Tensor, t: Tensor) -> Tensor:
        """The clean prediction."""
        alpha, sigma = self.at(t)
        return (x - sigma * self.eps(role, x, t)) / alpha

    def guided(self, x: Tensor, t: Tensor, scale: float = 5.0) -> Tensor:
        """The teacher's noise, both branches in one forward."""
        tokens, self.tokens = self.tokens, self.tokens.repeat(2, 1, 1)
        on, off = self.eps(None, x.repeat(2, 1, 1, 1), t.repeat(2)).chunk(2)
        self.tokens = tokens
        return off + scale * (on - off)

    @contextmanager
    def update(self, role: str) -> Iterator[list[Tensor]]:
        """Append the loss inside; gradients, clipping and AdamW follow."""
        for name, parameters in self.own.items():
            for parameter in parameters:
                parameter.requires_grad_(name == role)
        losses: list[Tensor] = []
        yield losses
        losses[0].backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.own[role], self.clip)
        self.optimizers[role].step()
        self.optimizers[role].zero_grad(set_to_none=True)
        if role == "student" and self.mean:
            with torch.no_grad():
                torch._foreach_lerp_(self.mean, self.own[role], 0.05)


# ---- one update of the student with all that goes before it ------------------------------------


def consistency(plain: Plain, step: int) -> None:
    """LCM and TSCD: a guided step of the teacher, the target, the student (4 forwards)."""
    x0, noise, t = plain.noise(), plain.noise(), plain.times(980) + 20
    alpha, sigma = plain.at(t)
    x_t = alpha * x0 + sigma * noise
    with torch.no_grad():
        eps = plain.guided(x_t, t)
        a, s = plain.at(t - 20)
        x_u = a * (x_t - sigma * eps) / alpha + s * eps
        target = plain.x0("student", x_u, t - 20)
    with plain.update("student") as losses:
        gap = plain.x0("student", x_t, t) - target
        losses.append((gap.square() + 1e-6).sqrt().mean())


def tdm(plain: Plain, step: int) -> None:
    """The rollout, the fake score's turn and the student's (9 forwards)."""
    x, states = plain.noise(), []
    with torch.no_grad():
        for u, following in zip(NODES, (*NODES[1:], 0), strict=True):
            t = torch.full((plain.batch,), u, device=plain.device)
            eps = plain.eps("student", x, t)
            alpha, sigma = plain.at(t)
            x0 = (x - sigma * eps) / alpha
            states.append((x, x0))
            a, s = plain.at(torch.full_like(t, following))
            x = a * x0 + s * eps
    k = int(torch.randint(0, 4, ()))
    x_u, x0 = states[k]
    with plain.update("fake") as losses:
        tau = plain.times()
        alpha, sigma = plain.at(tau)
        losses.append(
            (plain.x0("fake", alpha * x0 + sigma * plain.noise(), tau) - x0).square().mean()
        )
    with plain.update("student") as losses:
        x0 = plain.x0("student", x_u, torch.full((plain.batch,), NODES[k], device=plain.device))
        losses.append(_matching(plain, x0))


def dmd2(plain: Plain, step: int) -> None:
    """Five turns of the fake score and one of the student, whose sample serves the first of them.

    The numbers of simulated steps are those that the method draws at this step.
    """
    with plain.update("student") as losses:
        with torch.no_grad():
            x, t = _simulated(plain, _drawn(step, 0))
        sample = plain.x0("student", x, t)
        losses.append(_matching(plain, sample))
    for repeat in range(5):
        if repeat:
            with torch.no_grad():
                sample = plain.x0("student", *_simulated(plain, _drawn(step, repeat)))
        with plain.update("fake") as losses:
            t, noise = plain.times(), plain.noise()
            alpha, sigma = plain.at(t)
            eps = plain.eps("fake", alpha * sample.detach() + sigma * noise, t)
            losses.append((eps - noise).square().mean())


def _matching(plain: Plain, x0: Tensor) -> Tensor:
    t = plain.times()
    alpha, sigma = plain.at(t)
    with torch.no_grad():
        x_t = alpha * x0 + sigma * plain.noise()
        real = (x_t - sigma * plain.guided(x_t, t)) / alpha
        grad = (plain.x0("fake", x_t, t) - real) / (x0 - real).abs().mean((1, 2, 3), keepdim=True)
    return 0.5 * (x0 - (x0 - grad).detach()).square().mean()


def _simulated(plain: Plain, steps: int) -> tuple[Tensor, Tensor]:
    x, t = plain.noise(), torch.full((plain.batch,), NODES[0], device=plain.device)
    for u in NODES[1 : steps + 1]:
        x0, t = plain.x0("student", x, t), torch.full_like(t, u)
        alpha, sigma = plain.at(t)
        x = alpha * x0 + sigma * plain.noise()
    return x, t


def _drawn(step: int, repeat: int) -> int:
    """How many steps the method simulates in a turn."""
    rng = generator(0, "train", step, repeat, "shared", "fake" if repeat else "student", "steps")
    return int(torch.randint(0, 4, (), generator=rng))


STEPS = {"lcm": consistency, "tscd": consistency, "tdm": tdm, "dmd2": dmd2}
