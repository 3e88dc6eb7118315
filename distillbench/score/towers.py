"""Networks of transformers and torchvision that scorers use, from folders of the hub's format.

Sizes come from the configuration that lies beside a checkpoint; loading is strict.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import normalize

from distillbench.api.metric import Samples
from distillbench.errors import BadInput, NotSupported
from distillbench.score.features import read_state
from distillbench.score.kept import Kept, cropped
from distillbench.score.precision import forward
from distillbench.score.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    crop_square,
    standardise,
    stretch,
)
from distillbench.score.progress import ahead
from distillbench.score.weights import VGG_LEAST, too_small

__all__ = ["ClipPair", "DinoNet", "clip_pair", "dino_net", "filled", "perceptual"]


def filled(net: torch.nn.Module, state: dict[str, Tensor], path: Path, *,
           derived: Sequence[str] = ()) -> Any:  # fmt: skip
    """`net` with the tensors of `state`, every name and shape equal, frozen, in float32.

    Args:
        net: the network.
        state: its tensors.
        path: where they are from, for messages.
        derived: ends of names that are computed and not learned, left out where they occur.

    Raises:
        BadInput: a tensor is missing, odd or of another shape.
    """
    kept = {k: v for k, v in state.items() if not k.endswith(tuple(derived))} if derived else state
    try:
        missing, odd = net.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise BadInput(f"{path} does not fit its network: {_line(error)}") from None
    missing = [k for k in missing if not derived or not k.endswith(tuple(derived))]
    if missing or odd:
        first = f"lacks {missing[0]}" if missing else f"has {odd[0]}"
        raise BadInput(f"{path} does not fit its network: {first}")
    return net.eval().requires_grad_(False).float()


def _from_hub(kind: Any, checkpoint: Path) -> Any:
    """A network of transformers, every tensor of it from the folder of its checkpoint.

    Raises:
        BadInput: no config.json, or a tensor is missing, odd or of another shape.
    """
    if not (checkpoint.parent / "config.json").is_file():
        raise BadInput(f"{checkpoint} lies without its config.json",
                       hint="put both files of the hub's repository into one folder")  # fmt: skip
    try:
        net, told = kind.from_pretrained(
            checkpoint.parent, local_files_only=True, output_loading_info=True,
            dtype=torch.float32,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(f"{checkpoint} does not fit its network: {_line(error)}") from None
    for what, word in (("missing_keys", "lacks"), ("unexpected_keys", "has")):
        names = [k for k in told[what] if not k.endswith("position_ids")]
        if names:
            raise BadInput(f"{checkpoint} does not fit its network: it {word} {sorted(names)[0]}")
    return net.eval().requires_grad_(False)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


class ClipPair:
    """A CLIP of transformers: cosines of pictures and prompts, times its trained scale.

    Prompts go through the hub's own tokenizer, made from the vocabulary that open_clip ships:
    longer ones are cut at the context's length.
    """

    def __init__(self, checkpoint: Path, device: str = "cpu") -> None:
        from transformers import CLIPModel

        self.net: Any = _from_hub(CLIPModel, checkpoint).to(device)
        self.device, self.side = device, int(self.net.config.vision_config.image_size)
        self.length = int(self.net.config.text_config.max_position_embeddings)
        self.tokens = _tokenizer()

    @torch.no_grad()
    def scores(self, samples: Samples) -> list[float]:
        """exp(logit_scale) * cos(picture, prompt), one a sample."""
        scale, values = self.net.logit_scale.exp(), []
        pictures = cropped(samples, self.side)
        for part, pixels in ahead(lambda p: self._pixels(pictures[p]), len(samples)):
            words = self.tokens(list(samples.prompts[part]), padding="max_length", truncation=True,
                                max_length=self.length, return_tensors="pt")  # fmt: skip
            with forward(self.device):
                image = self.net.get_image_features(pixel_values=pixels.to(self.device))
                text = self.net.get_text_features(**words.to(self.device))
            values += (scale * (self._unit(image) * self._unit(text)).sum(dim=-1)).tolist()
        return values

    def _pixels(self, pictures: Tensor) -> Tensor:
        return standardise(crop_square(pictures, self.side))

    def _unit(self, out: Any) -> Tensor:
        # transformers 5 returns a record where 4 returned the projected features.
        return normalize(getattr(out, "pooler_output", out).float(), dim=-1)


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

    words = open_clip.SimpleTokenizer()
    hub = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {hub.get(word, word): number for word, number in words.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(words.bpe_ranks))


class DinoNet:
    """The class token of a DINOv2 after its last norm (arXiv 2304.07193): one vector a picture.

    Pictures are resized to 224 x 224 (bicubic, the aspect ratio not kept) as the Frechet distance
    of Stein et al. (arXiv 2306.04675) has it.
    """

    side = 224
    resize = "stretch-224"

    def __init__(self, checkpoint: Path, device: str = "cpu") -> None:
        from transformers import Dinov2Model

        self.net: Any = _from_hub(Dinov2Model, checkpoint).to(device)
        self.device, self.dim = device, int(self.net.config.hidden_size)
        self._kept = Kept()

    def features(self, samples: Samples) -> Tensor:
        """(n, dim) float32 features on the CPU."""
        return self._kept.get(samples.key, lambda: self.encode(samples.data))

    @torch.no_grad()
    def encode(self, data: Tensor) -> Tensor:
        """The same of uint8 pictures (n, H, W, 3)."""
        found = []
        for _, pixels in ahead(lambda part: self._pixels(data[part]), len(data)):
            with forward(self.device):
                token = self.net(pixel_values=pixels.to(self.device)).pooler_output
            found.append(token.float().cpu())
        return torch.cat(found)

    def _pixels(self, pictures: Tensor) -> Tensor:
        return standardise(stretch(pictures, self.side), IMAGENET_MEAN, IMAGENET_STD)


@lru_cache(maxsize=2)
def clip_pair(checkpoint: Path, device: str = "cpu") -> ClipPair:
    """The process's one network of a checkpoint."""
    return ClipPair(checkpoint, device)


@lru_cache(maxsize=2)
def dino_net(checkpoint: Path, device: str = "cpu") -> DinoNet:
    """The process's one network of a checkpoint."""
    return DinoNet(checkpoint, device)


@lru_cache(maxsize=2)
def perceptual(path: Path, device: str = "cpu") -> Any:
    """A function of two batches uint8 (n, H, W, 3) to (n,) perceptual distances.

    A file holds torchvision's VGG16: LPIPS (arXiv 1801.03924) with the linear layers that
    torchmetrics ships. A folder holds a tiny feature net: the mean over its blocks of the squared
    distance between unit feature columns, with no learned layer.
    """
    return _Tiny(path, device) if path.is_dir() else _Lpips(path, device)


class _Lpips:
    def __init__(self, path: Path, device: str) -> None:
        from torchmetrics.functional.image.lpips import _LPIPS

        self.net = _LPIPS(net="vgg", pnet_rand=True).to(device)
        state = {k: v for k, v in read_state(path).items() if k.startswith("features.")}
        slices = [f"slice{i}." for i in range(1, 6)]
        names = {
            k.split(".", 1)[1]: k for k in self.net.net.state_dict() if k.startswith(tuple(slices))
        }
        renamed = {names[k.removeprefix("features.")]: v for k, v in state.items()
                   if k.removeprefix("features.") in names}  # fmt: skip
        filled(self.net.net, renamed, path)
        self.device = device

    @torch.no_grad()
    def __call__(self, one: Tensor, two: Tensor) -> Tensor:
        if what := too_small("LPIPS with VGG", VGG_LEAST, *one.shape[1:3]):
            raise NotSupported(what)
        pixels = [x.permute(0, 3, 1, 2).float().div(127.5).sub(1).to(self.device)
                  for x in (one, two)]  # fmt: skip
        with forward(self.device):
            found: Tensor = self.net(*pixels)
        return found.flatten().float().cpu()


class _Tiny:
    def __init__(self, folder: Path, device: str) -> None:
        from distillbench.score.features import TinyNet

        self.net, self.device = TinyNet(folder, device), device

    @torch.no_grad()
    def __call__(self, one: Tensor, two: Tensor) -> Tensor:
        seen = [self.net.pixels(x).to(self.device) for x in (one, two)]
        with forward(self.device):
            maps = [self.net.net.maps(pixels) for pixels in seen]
        units = zip(*([normalize(m.float(), dim=1) for m in each] for each in maps))
        apart = [(a - b).square().sum(dim=1) for a, b in units]
        return torch.stack([d.flatten(1).mean(dim=1) for d in apart]).mean(dim=0).cpu()
