"""Feature extractors, loaded once per process and shared between metrics.

Two metrics that ask for the same checkpoint get the same object, and the features of the last
few sample sets are kept by content key, so that a picture passes each network once.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import open_clip
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from distillbench.api.metric import Samples
from distillbench.errors import BadInput, NotSupported
from distillbench.score.kept import Kept, cropped
from distillbench.score.precision import current, forward
from distillbench.score.preprocess import (
    centre_patch,
    clean_resize,
    crop_square,
    pad_square,
    standardise,
)
from distillbench.score.progress import ahead, in_parts
from distillbench.score.weights import INCEPTION_SIDE, TINY_SIDE, ClipSource, arch_of, tiny_misfit

__all__ = [
    "ClipExtractor",
    "FeatureNet",
    "InceptionNet",
    "TinyNet",
    "clip_extractor",
    "feature_net",
    "load_strict",
    "read_state",
]


def read_state(path: Path) -> dict[str, Tensor]:
    """Named tensors of a checkpoint: .safetensors, or .pt through weights-only loading.

    Accepts a bare state dict, {"state_dict": ...} with anything beside it, a "module." prefix on
    every name, and a TorchScript archive (OpenAI's own CLIP files are such).
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    if _is_torchscript(path):
        state = _torchscript(path, "cpu").state_dict()
        extra = {"input_resolution", "context_length", "vocab_size"}
        return {name: value for name, value in state.items() if name not in extra}
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    state = loaded.get("state_dict", loaded)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _torchscript(path: Path, device: str) -> nn.Module:
    net: nn.Module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    return net


def load_strict(net: nn.Module, path: Path) -> None:
    """Fill `net` from `path`, every name and shape equal. Raises BadInput naming the file."""
    try:
        net.load_state_dict(read_state(path), strict=True)
    except RuntimeError as error:
        raise BadInput(
            f"{path} does not fit its network: {' '.join(str(error).split())}"
        ) from error


def _batches(data: Tensor, fitted: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """What `fitted` makes of each batch of pictures, the next one meanwhile."""
    return (pixels for _, pixels in ahead(lambda part: fitted(data[part]), len(data)))


class ClipExtractor:
    """Image and text features of one CLIP, float32, each of unit length.

    Args:
        source: which network, checkpoint and resize rule.
        device: where it runs.

    Raises:
        BadInput: the checkpoint does not fit the architecture.
    """

    def __init__(self, source: ClipSource, device: str = "cpu") -> None:
        config = _config(source)
        self.source = source
        self.device = device
        self.size = int(config["vision_cfg"]["image_size"])
        self.net: Any = open_clip.CLIP(**config)
        load_strict(self.net, source.checkpoint)
        self.net.eval().requires_grad_(False).float().to(device)
        context = int(config["text_cfg"].get("context_length", 77))
        self._tokens = open_clip.SimpleTokenizer(context_length=context)
        self._texts: dict[tuple[str, str], Tensor] = {}
        self._images = Kept()

    def images(self, samples: Samples) -> Tensor:
        """(n, d) unit image features on the CPU, in the order of the samples."""
        return self._images.get(samples.key, lambda: self.encode(self._cut(samples)))

    def _cut(self, samples: Samples) -> Tensor:
        return cropped(samples, self.size) if self.source.resize == "crop" else samples.data

    @torch.no_grad()
    def encode(self, data: Tensor) -> Tensor:
        """(n, d) unit features of uint8 pictures (n, H, W, 3)."""
        batches = (pixels.to(self.device) for pixels in _batches(data, self.pixels))
        with forward(self.device):
            parts = [self.net.encode_image(pixels) for pixels in batches]
        return normalize(torch.cat(parts).float(), dim=-1).cpu()

    def pixels(self, data: Tensor) -> Tensor:
        """What the network sees: (n, 3, size, size) float32."""
        if self.source.resize == "crop":
            return standardise(crop_square(data, self.size))
        return standardise(
            pad_square(data, self.size, antialias=self.source.resize != "pad-legacy")
        )

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """(n, d) unit text features on the CPU; a prompt is encoded once per process."""
        new = [p for p in dict.fromkeys(prompts) if (p, current()) not in self._texts]
        for places in in_parts(len(new)):
            part = new[places]
            with forward(self.device):
                out = self.net.encode_text(self._tokens(part).to(self.device))
            names = [(prompt, current()) for prompt in part]
            self._texts.update(zip(names, normalize(out.float(), dim=-1).cpu(), strict=True))
        return torch.stack([self._texts[prompt, current()] for prompt in prompts])


def _config(source: ClipSource) -> dict[str, Any]:
    path = Path(source.arch)
    config = arch_of(path) if path.is_file() else open_clip.get_model_config(source.arch)
    if config is None:
        raise BadInput(f"{source.arch!r} is neither a network of open_clip nor a JSON file")
    # open_clip says nothing when OpenAI's file is read from disk into a GELU network; the
    # features are then silently wrong, so a named checkpoint decides its own activation.
    if source.quickgelu:
        config["quick_gelu"] = True
    return config


@lru_cache(maxsize=4)
def clip_extractor(source: ClipSource, device: str = "cpu") -> ClipExtractor:
    """The process's one extractor for `source`."""
    return ClipExtractor(source, device)


class FeatureNet(Protocol):
    """What a Frechet distance needs of a network: pictures to one vector each."""

    dim: int
    resize: str

    def features(self, samples: Samples) -> Tensor:
        """(n, dim) float32 features on the CPU."""
        ...

    def encode(self, data: Tensor) -> Tensor:
        """The same of uint8 pictures (n, H, W, 3)."""
        ...


class InceptionNet:
    """Inception-v3 pool features, 2048-d, through NVIDIA's TorchScript export of the 2015 net.

    The protocol of clean-fid's `clean` mode (arXiv 2104.11222): each channel resized by PIL in
    float32, bicubic, to 299x299, aspect ratio not kept, then (x - 128) / 128. Patches are the
    central 299 pixels as they are (SDXL-Lightning, arXiv 2402.13929).
    """

    dim = 2048
    side = INCEPTION_SIDE

    def __init__(self, checkpoint: Path, device: str = "cpu", rule: str = "resize") -> None:
        self.device, self.rule = device, rule
        self.resize = f"{'clean' if rule == 'resize' else rule}-{self.side}"
        self.layers: Any = _torchscript(checkpoint, device).eval().layers
        self._kept = Kept()

    def features(self, samples: Samples) -> Tensor:
        """(n, 2048) float32 features on the CPU. Raises NotSupported: smaller than a patch."""
        return self._kept.get(samples.key, lambda: self.encode(samples.data))

    @torch.no_grad()
    def encode(self, data: Tensor) -> Tensor:
        """Features of uint8 pictures (n, H, W, 3)."""
        fitted = clean_resize if self.rule == "resize" else centre_patch
        parts = []
        for pixels in _batches(data, lambda batch: fitted(batch, self.side)):
            seen = self.layers((pixels.to(self.device) - 128) / 128)
            parts.append(seen.flatten(1).float().cpu())
        return torch.cat(parts)


class TinyNet:
    """The feature net shipped with the tiny world; it sees pictures of its own size only.

    Args:
        folder: config.json and model.safetensors of a `world.networks.AttributeNet`.
        device: where it runs.
        rule: "patch" shows it the central quarter of the picture, every pixel doubled.
    """

    side = TINY_SIDE

    def __init__(self, folder: Path, device: str = "cpu", rule: str = "resize") -> None:
        from distillbench.world.oracle import load_net

        self.device, self.rule = device, rule
        self.resize = "none" if rule == "resize" else f"{rule}-{self.side // 2}"
        self.net = load_net(folder).to(device)
        self.dim = self.net.features.out_features
        self._kept = Kept()

    def features(self, samples: Samples) -> Tensor:
        """(n, dim) float32 features on the CPU. Raises NotSupported for another picture size."""
        return self._kept.get(samples.key, lambda: self.encode(samples.data))

    @torch.no_grad()
    def encode(self, data: Tensor) -> Tensor:
        """Features of uint8 pictures (n, 32, 32, 3). Raises NotSupported for another size."""
        seen = _batches(data, lambda batch: self.pixels(self._shown(batch)))
        return torch.cat([self.net.embed(pixels.to(self.device)).cpu() for pixels in seen])

    def _shown(self, data: Tensor) -> Tensor:
        if self.rule != "patch":
            return data
        half = centre_patch(data, self.side // 2).repeat_interleave(2, 2)
        return half.repeat_interleave(2, 3).permute(0, 2, 3, 1)

    def pixels(self, data: Tensor) -> Tensor:
        """What the network sees: (n, 3, 32, 32) in -1..1. Raises NotSupported for another size."""
        if what := tiny_misfit(*data.shape[1:3]):
            raise NotSupported(what)
        return data.permute(0, 3, 1, 2).float().div(127.5).sub(1)


@lru_cache(maxsize=4)
def feature_net(path: Path, device: str = "cpu", rule: str = "resize") -> FeatureNet:
    """The process's one feature net at `path`: a folder is a tiny net, a file the Inception."""
    return TinyNet(path, device, rule) if path.is_dir() else InceptionNet(path, device, rule)
