"""Scorers with random weights in the published files' formats: for measuring, not for results."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillbench.score.complexity_file import published
from distillbench.score.reward import LAYERS, RENAMED, TEXT, VISION

__all__ = ["LPIPS", "SMALL", "complexity", "hps", "inception", "lpips", "reward"]

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
"""A network of open_clip that takes no time."""
LPIPS = "pip install --no-deps lpips scipy"
WIDTHS = (768, 1024, 128, 64, 16, 1)


def hps(folder: Path, config: dict[str, Any]) -> Path:
    """A CLIP of open_clip as HPSv2 ships one, in half precision, with its JSON beside it."""
    import open_clip

    folder.mkdir()
    torch.manual_seed(1)
    state = {name: value.half() for name, value in open_clip.CLIP(**config).state_dict().items()}
    torch.save({"state_dict": state}, folder / "HPS.pt")
    (folder / "clip.json").write_text(json.dumps(config))
    return folder


def reward(folder: Path, layers: int = 12) -> Path:
    """ImageReward.pt of the published sizes, of as many text layers, with a vocabulary."""
    from transformers import BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": layers}
    eye = BlipVisionModel(BlipVisionConfig(**VISION))
    text = BlipTextModel(BlipTextConfig(**{**TEXT, **sizes}), add_pooling_layer=False)
    state = {f"blip.text_encoder.{name}": value for name, value in text.state_dict().items()}
    for name, value in eye.state_dict().items():
        for old, new in RENAMED.items():
            name = name.replace(new, old)
        name = name.replace("encoder.layers.", "blocks.").replace("post_layernorm", "norm")
        state[f"blip.visual_encoder.{name}"] = value
    for index, (before, after) in zip(LAYERS, pairwise(WIDTHS)):
        state[f"mlp.layers.{index}.weight"] = torch.randn(after, before) / before**0.5
        state[f"mlp.layers.{index}.bias"] = torch.zeros(after)
    torch.save(state, folder / "ImageReward.pt")
    (folder / "blip.json").write_text(json.dumps({"text": sizes}))
    words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]",
             "a", "photo", "of", "number", *"0123456789"]  # fmt: skip
    words += [f"word{i}" for i in range(30522 - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


def inception(folder: Path) -> tuple[Any, Path]:
    """torch-fidelity's Inception, and a TorchScript file of the same layers, as we read one."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc, unused-ignore]
        def load_state_dict(self, state: Any, *more: Any, **named: Any) -> None:
            """Keep what there is."""

    torch.manual_seed(2)
    torch.save({}, folder / "none.pt")
    net = Untrained("random", ["2048"], feature_extractor_weights_path=str(folder / "none.pt"))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):  # torch's own start makes features vanish
            nn.init.kaiming_normal_(layer.weight)

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*(m for name, m in net.named_children() if name != "fc"))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.layers(pixels)  # type: ignore[no-any-return]

    file = folder / "inception.pt"
    torch.jit.script(Layers().eval()).save(str(file))  # type: ignore[no-untyped-call]
    return net, file


def lpips(folder: Path) -> tuple[Callable[[Tensor, Tensor], float], Path]:
    """The package's distance of two pictures (H, W, 3), and its random VGG16 as we read one."""
    package = import_module("lpips")
    torch.manual_seed(0)
    net = package.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    trunk = {name.split(".", 1)[1]: value for name, value in net.net.state_dict().items()}
    file = folder / "vgg16.pth"
    torch.save({f"features.{name}": value for name, value in trunk.items()}, file)

    @torch.no_grad()
    def distance(one: Tensor, two: Tensor) -> float:
        return float(net(package.im2tensor(one.numpy()), package.im2tensor(two.numpy())))

    return distance, file


def complexity(folder: Path) -> Path:
    """A ck.pth of ICNet; norms of factor one and mean zero."""
    rng = torch.Generator().manual_seed(3)
    state = {
        name: torch.randn(shape, generator=rng) / max(torch.Size(shape[1:]).numel(), 1) ** 0.5
        if len(shape) > 1 else torch.full(shape, float(name.endswith(("weight", "var"))))
        for name, shape in published().items()
    }  # fmt: skip
    torch.save(state, folder / "ck.pth")
    return folder / "ck.pth"
