"""A discriminator of two states of one trajectory, on what the frozen teacher makes of them.

SDXL-Lightning's D(x_t, x_s, t, s, c) (arXiv 2402.13929), which Hyper-SD (arXiv 2404.13686) takes
over, with PCM's saving (arXiv 2405.18407): the network in front of the head is the frozen teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillbench.api.method import Losses
from distillbench.core.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from distillbench.api.backbone import Backbone, Cond

__all__ = ["PairDiscriminator", "gradient_balanced", "mixed_losses"]

WIDTH = 128


@dataclass(frozen=True)
class PairDiscriminator:
    """Reads a pair (x_t, x_s); `head` maps (B, positions, channels) to a logit per position."""

    backbone: Backbone
    head: torch.nn.Module | None = None

    def make_head(self) -> torch.nn.Module:
        """Two hidden layers shared by all positions; as wide as the backbone's features ask."""
        cond = self.backbone.encode_null()
        device = next(iter(cond.tensors.values())).device
        x = torch.zeros(1, *self.backbone.latent_shape, device=device)
        with torch.no_grad():
            channels = self._read(x, torch.zeros(1, dtype=torch.long, device=device), cond).shape[2]
        nn = torch.nn
        return nn.Sequential(
            nn.Linear(2 * channels, WIDTH), nn.LayerNorm(WIDTH), nn.SiLU(),
            nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1),
        )  # fmt: skip

    def logits(
        self, x_s: torch.Tensor, s: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor, cond: Cond,
        *, paired: bool = True,
    ) -> torch.Tensor:  # fmt: skip
        """Mean logit (B,) that x_s is the target's jump from x_t and not the student's.

        Not `paired`, the head sees zeros in x_t's place (SDXL-Lightning's relaxation).
        """
        assert self.head is not None
        with torch.no_grad():
            start = self._read(x_t, t, cond) * paired
        pair = torch.cat([self._read(x_s, s, cond), start], 2)
        return self.head(pair).mean((1, 2))  # type: ignore[no-any-return]

    def _read(self, x: torch.Tensor, t: torch.Tensor, cond: Cond) -> torch.Tensor:
        """(B, positions, channels): middle features and the time.

        Backbones without features give the state with its prediction instead.
        """
        backbone, known = self.backbone, t.clamp(min=0)
        if backbone.has_features:
            maps = backbone.features(None, x, known, cond, ("mid",))[0]
        else:
            maps = torch.cat([x, backbone.predict(None, x, known, cond).raw], 1)
        maps = maps.flatten(2).transpose(1, 2) if maps.ndim > 2 else maps[:, None]
        time = (known / backbone.num_timesteps).to(maps.dtype)[:, None, None]
        return torch.cat([maps, time.expand(-1, maps.shape[1], 1)], 2)


def mixed_losses(
    pred: torch.Tensor,
    w_main: float,
    main: Callable[[torch.Tensor], torch.Tensor],
    w_adv: float,
    adversary: Callable[[torch.Tensor], torch.Tensor],
) -> Losses:
    """w_main main(pred) + w_adv adversary(pred), the adversary's gradient as long as main's."""
    if not w_adv:
        return Losses(w_main * main(pred))
    mse, adv = gradient_balanced(pred, main, adversary)
    return Losses(w_main * mse + w_adv * adv, {"mse": mse, "adversary": adv})


def gradient_balanced(
    x: torch.Tensor,
    main: Callable[[torch.Tensor], torch.Tensor],
    other: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """main(x), and other(x) scaled so that its gradient at x is as long as main's.

    The factor stays in [0.01, 10] (VQGAN's and CTM's adaptive weight, arXiv 2310.02279, taken at
    the output of the network and afresh in every batch, so that a resumed run needs no state).
    Gradients of the result reach x alone, and not what `other` evaluates.
    """
    leaf = x.detach().requires_grad_(True)
    value = other(leaf)
    (toward,) = torch.autograd.grad(value, leaf)
    (reference,) = torch.autograd.grad(main(leaf), leaf)
    factor = (reference.norm() / toward.norm().clamp(min=1e-12)).clamp(0.01, 10.0)
    return main(x), factor * (value.detach() + ((x - leaf.detach()) * toward).sum())
