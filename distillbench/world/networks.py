"""The small convolutional nets of the tiny world: the attribute judge and the feature net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distillbench.world.scene import LEVELS as WORDS
from distillbench.world.scene import SINGLE

LEVELS = tuple(len(WORDS[column]) for column in SINGLE)


class AttributeNet(nn.Module):
    """Pictures (N, 3, 32, 32) in [-1, 1] -> features (N, dim) and one linear head an attribute.

    `extra` appends that many regression outputs to the head (the feature net learns the levels
    of degradations with them); the judge has none.
    """

    def __init__(self, *, widths: tuple[int, ...], dim: int, extra: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = 3
        for depth, width in enumerate(widths):
            stride = 1 if depth == 0 else 2
            layers += [
                nn.Conv2d(last, width, 3, stride, 1, bias=False),
                nn.GroupNorm(8, width),
                nn.SiLU(),
            ]
            last = width
        self.body = nn.Sequential(*layers)
        side = 32 // 2 ** (len(widths) - 1)
        self.features = nn.Linear(last * side * side, dim)
        self.head = nn.Linear(dim, sum(LEVELS) + extra)

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, dim), before the last non-linearity."""
        y: Tensor = self.features(self.body(x).flatten(1))
        return y

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature maps after each convolution block, for feature losses."""
        out = []
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, nn.SiLU):
                out.append(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Logits of all attributes side by side, then the extra outputs: (N, 47 + extra)."""
        y: Tensor = self.head(nn.functional.silu(self.embed(x)))
        return y


def attribute_logits(out: Tensor) -> tuple[Tensor, ...]:
    """Splits the head's output into one block of logits an attribute."""
    return torch.split(out[:, : sum(LEVELS)], list(LEVELS), dim=1)
