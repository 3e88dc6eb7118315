"""ICNet's score of a picture (Feng et al., IC9600, TPAMI 2023), with the names of its paper.

Two branches of a ResNet-18 see the picture: the detail branch at 512 pixels, by two stages, the
context branch at 256, by all four. Both are brought to one grid of 64 x 64 and joined; a head makes
the score of that. The second head of the paper, a map of complexity, is not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import resnet18

from distillbench.api.metric import Samples
from distillbench.score.complexity_file import CONTEXT, DETAIL, HIDDEN, JOINED, JOINT_GRID, ours
from distillbench.score.features import read_state
from distillbench.score.preprocess import IMAGENET_MEAN, IMAGENET_STD, standardise, stretch
from distillbench.score.progress import ahead
from distillbench.score.towers import filled

__all__ = ["ComplexityNet", "ICNet", "complexity_net"]

BATCH = 8  # pictures of 512 pixels whose first maps take 17 MB each


class ICNet(nn.Module):
    """Standardised pictures (n, 3, side, side) to scores (n,) in 0..1; the paper's side is 512."""

    def __init__(self) -> None:
        super().__init__()
        self.detail, self.context = Branch(DETAIL), Branch(CONTEXT)
        self.detail_out, self.context_out = _mixed(128, JOINED), _mixed(512, JOINED)
        self.joint = _mixed(2 * JOINED, 2 * JOINED, 3)
        self.attention = LayoutAttention(JOINT_GRID)
        self.head = _perceptron(2 * JOINED)

    def forward(self, pictures: Tensor) -> Tensor:
        """The score of each."""
        side = pictures.shape[-1]
        near, far = self.detail(pictures), self.context(_resized(pictures, side // 2))
        grid = side // 8
        parts = self.detail_out(_resized(near, grid)), self.context_out(_resized(far, grid))
        seen = self.attention(self.joint(torch.cat(parts, dim=1)))
        score: Tensor = self.head(seen.mean(dim=(2, 3))).squeeze(1)
        return score


class Branch(nn.Module):
    """The first stages of a ResNet-18, an attention after each.

    Args:
        grids: sides of the attentions' grids, as many as there are stages.
    """

    def __init__(self, grids: Sequence[int]) -> None:
        super().__init__()
        trunk = resnet18()
        stages = (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        self.stages = nn.ModuleList(stages[: len(grids)])
        self.attentions = nn.ModuleList(LayoutAttention(grid) for grid in grids)

    def forward(self, x: Tensor) -> Tensor:
        """The last stage's maps (n, channels, h, w) of pictures (n, 3, H, W)."""
        x = self.stem(x)
        for stage, attention in zip(self.stages, self.attentions, strict=True):
            x = attention(stage(x))
        return x


class LayoutAttention(nn.Module):
    """Spatial layout attention (SLAM): a factor in 0..1 for each channel, from its own map alone.

    The map is laid on a grid of `side` x `side`, whose values in their places go through one
    perceptron, the same for every channel.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.weigh = _perceptron(side**2)

    def forward(self, maps: Tensor) -> Tensor:
        """The maps (n, channels, h, w), each times its factor."""
        factors: Tensor = self.weigh(_resized(maps, self.side).flatten(2))
        return maps * factors[..., None]


def _resized(x: Tensor, side: int) -> Tensor:
    return interpolate(x, (side, side), mode="bilinear", align_corners=True)


def _mixed(inputs: int, outputs: int, side: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _perceptron(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Sigmoid()
    )  # fmt: skip


class ComplexityNet:
    """Scores of samples by an ICNet; its file is taken to have been looked at (`mistaken`).

    Pictures are resized to a square as the authors do: by PIL, bilinear, the aspect ratio not kept.
    """

    side = 512

    def __init__(self, checkpoint: Path, device: str = "cpu") -> None:
        state = {
            new: value for name, value in read_state(checkpoint).items() if (new := ours(name))
        }
        self.net: nn.Module = filled(ICNet(), state, checkpoint).to(device)
        self.device = device

    @torch.no_grad()
    def scores(self, samples: Samples) -> list[float]:
        """One a sample, 0..1."""
        values: list[float] = []
        for _, pixels in ahead(lambda part: self.pixels(samples.data[part]), len(samples), BATCH):
            values += self.net(pixels.to(self.device)).tolist()
        return values

    def pixels(self, pictures: Tensor) -> Tensor:
        """What the network sees of uint8 pictures (n, H, W, 3)."""
        square = stretch(pictures, self.side, Image.Resampling.BILINEAR)
        return standardise(square, IMAGENET_MEAN, IMAGENET_STD)


@lru_cache(maxsize=1)
def complexity_net(checkpoint: Path, device: str = "cpu") -> ComplexityNet:
    """The process's one network of a checkpoint."""
    return ComplexityNet(checkpoint, device)
