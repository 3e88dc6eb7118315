"""ImageReward's network on transformers' BLIP: names of its checkpoint, text and reward."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from distillbench.api.metric import Samples
from distillbench.errors import BadInput
from distillbench.score.features import read_state
from distillbench.score.kept import cropped
from distillbench.score.precision import forward
from distillbench.score.preprocess import crop_square, standardise
from distillbench.score.progress import ahead
from distillbench.score.towers import filled

__all__ = ["LENGTH", "RewardNet", "package_sizes", "reward_net"]

MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the training data's raw rewards
LENGTH = 35  # tokens of a prompt; longer ones are cut
BATCH = 16
LAYERS = (0, 2, 4, 6, 7)
VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 224, "patch_size": 16, "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
}  # fmt: skip
TEXT = {
    "vocab_size": 30524, "hidden_size": 768, "encoder_hidden_size": 1024,
    "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 512, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    "is_decoder": True,
}  # fmt: skip
RENAMED = {
    "patch_embed.proj": "embeddings.patch_embedding", "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding", "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection", "norm1": "layer_norm1", "norm2": "layer_norm2",
}  # fmt: skip
# What BLIP's checkpoint holds and the reward does not use.
UNUSED = ("blip.vision_proj.", "blip.text_proj.")


class RewardNet:
    """Rewards of pictures and prompts.

    Args:
        checkpoint: ImageReward.pt, with vocab.txt beside it, and blip.json ("vision", "text",
            "tokens") where the network has other sizes than the published one.
        device: where it runs.

    Raises:
        BadInput: a tensor is missing, odd or of another shape, or the vocabulary is missing.
    """

    length = LENGTH

    def __init__(self, checkpoint: Path, device: str = "cpu") -> None:
        from transformers import BlipTextConfig, BlipVisionConfig
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        other = _sizes(checkpoint)
        state = read_state(checkpoint)
        odd = [k for k in state if not k.startswith(("blip.visual_encoder.", "blip.text_encoder.",
                                                     "mlp.layers.", *UNUSED))]  # fmt: skip
        if odd:
            raise BadInput(f"{checkpoint} is no ImageReward checkpoint: it has {odd[0]}")
        vision = {**VISION, **other.get("vision", {})}
        eye = BlipVisionModel(BlipVisionConfig(**vision))
        text = BlipTextModel(
            BlipTextConfig(**{**TEXT, **other.get("text", {})}), add_pooling_layer=False
        )
        seen = {_eye(k): v for k, v in _part(state, "blip.visual_encoder.").items()}
        self.eye: Any = filled(eye, seen, checkpoint).to(device)
        words = _part(state, "blip.text_encoder.")
        self.text: Any = filled(text, words, checkpoint, derived=("position_ids",)).to(device)
        self.head = _head(state, checkpoint, device)
        self.words = _words(checkpoint.parent / "vocab.txt", self.length)
        self.side, self.device = int(vision["image_size"]), device

    @torch.no_grad()
    def rewards(self, samples: Samples) -> list[float]:
        """(reward - mean) / deviation of the training data, one a sample."""
        values: list[float] = []
        pictures = cropped(samples, self.side)
        for part, pixels in ahead(lambda p: self._pixels(pictures[p]), len(samples), BATCH):
            with forward(self.device):
                out = self._read(pixels.to(self.device), samples.prompts[part]).float()
            for weight, bias in self.head:
                out = linear(out, weight, bias)
            values += ((out.squeeze(-1) - MEAN) / STD).tolist()
        return values

    def _pixels(self, pictures: Tensor) -> Tensor:
        return standardise(crop_square(pictures, self.side))

    def _read(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """The first token of each prompt, which has looked at its picture, (n, width)."""
        seen = self.eye(pixels).last_hidden_state
        coded = self.words.encode_batch(list(prompts))
        ids = torch.tensor([code.ids for code in coded], device=self.device)
        everywhere = torch.ones(seen.shape[:2], dtype=torch.long, device=self.device)
        # is_decoder=False: a causal mask would give other, plausible numbers.
        out: Tensor = self.text(
            ids, attention_mask=(ids != 0).long(), encoder_hidden_states=seen,
            encoder_attention_mask=everywhere, is_decoder=False,
        ).last_hidden_state[:, 0]  # fmt: skip
        return out


@lru_cache(maxsize=1)
def reward_net(checkpoint: Path, device: str = "cpu") -> RewardNet:
    """The process's one network of a checkpoint."""
    return RewardNet(checkpoint, device)


def package_sizes(checkpoint: Path) -> dict[str, Any]:
    """The text network's configuration as the package image-reward reads it (med_config.json)."""
    text = {**TEXT, **_sizes(checkpoint).get("text", {})}
    del text["is_decoder"]  # the package reads text without a causal mask
    more = {"model_type": "bert", "type_vocab_size": 2, "pad_token_id": 0}
    return {**text, "encoder_width": text["encoder_hidden_size"], "add_cross_attention": True,
            **more}  # fmt: skip


def _sizes(checkpoint: Path) -> dict[str, Any]:
    """What stands beside a checkpoint of other sizes than the published one."""
    path = checkpoint.parent / "blip.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _head(state: dict[str, Tensor], path: Path, device: str) -> list[tuple[Tensor, Tensor]]:
    try:
        return [
            (state[f"mlp.layers.{i}.weight"].float().to(device),
             state[f"mlp.layers.{i}.bias"].float().to(device))
            for i in LAYERS
        ]  # fmt: skip
    except KeyError as error:
        raise BadInput(f"{path} is no ImageReward checkpoint: it lacks {error.args[0]}") from None


def _words(vocabulary: Path, length: int) -> Any:
    from tokenizers import BertWordPieceTokenizer

    if not vocabulary.is_file():
        raise BadInput(f"no {vocabulary}", hint="put vocab.txt of bert-base-uncased there")
    words = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
    words.enable_truncation(length)
    words.enable_padding(length=length)
    return words


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _eye(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return re.sub(r"^norm\.", "post_layernorm.", re.sub(r"^blocks\.", "encoder.layers.", name))
