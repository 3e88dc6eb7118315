"""CLIP score beside that of torchmetrics, on one random network in both libraries' formats."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score.evaluate import evaluate
from distillbench.score.towers import _tokenizer

SIDE = 32
NAMES = {
    r"^visual\.(class_embedding)$": r"vision_model.embeddings.\1",
    r"^visual\.positional_embedding$": "vision_model.embeddings.position_embedding.weight",
    r"^visual\.conv1\.": "vision_model.embeddings.patch_embedding.",
    r"^visual\.ln_pre\.": "vision_model.pre_layrnorm.",
    r"^visual\.ln_post\.": "vision_model.post_layernorm.",
    r"^visual\.proj$": "visual_projection.weight",
    r"^visual\.transformer\.resblocks": "vision_model.encoder.layers",
    r"^transformer\.resblocks": "text_model.encoder.layers",
    r"^positional_embedding$": "text_model.embeddings.position_embedding.weight",
    r"^token_embedding\.": "text_model.embeddings.token_embedding.",
    r"^ln_final\.": "text_model.final_layer_norm.",
    r"^text_projection$": "text_projection.weight",
    r"\.ln_([12])\.": r".layer_norm\1.",
    r"\.attn\.": ".self_attn.",
    r"\.mlp\.c_fc\.": ".mlp.fc1.",
    r"\.mlp\.c_proj\.": ".mlp.fc2.",
}


def of_the_hub(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's tensors under transformers' names."""
    found = {}
    for old, value in state.items():
        name = old
        for pattern, new in NAMES.items():
            name = re.sub(pattern, new, name)
        if "in_proj" in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                found[name.replace("in_proj_", f"{part}_proj.")] = piece
        else:
            found[name] = value.T if old in ("visual.proj", "text_projection") else value
    return found


class Network:
    """transformers' CLIP as torchmetrics 1.9 calls it: features come as tensors."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        from transformers import CLIPConfig, CLIPModel

        text = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1,
                "num_attention_heads": 2, "eos_token_id": 49407, "bos_token_id": 49406}  # fmt: skip
        vision = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2,
                  "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}  # fmt: skip
        act = {"hidden_act": "gelu"}
        self.net: Any = CLIPModel(CLIPConfig(
            text_config=text | act, vision_config=vision | act, projection_dim=16,
        )).eval()  # fmt: skip
        self.net.load_state_dict(of_the_hub(state), strict=True)
        self.config = self.net.config

    def to(self, device: Any) -> Network:
        return self

    @torch.no_grad()
    def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._tensor(self.net.get_image_features(pixel_values=pixels))

    @torch.no_grad()
    def get_text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._tensor(self.net.get_text_features(input_ids=ids, attention_mask=mask))

    @staticmethod
    def _tensor(out: Any) -> torch.Tensor:
        found: torch.Tensor = getattr(out, "pooler_output", out)
        return found


def processor(images: Any = None, text: Any = None, **options: Any) -> Any:
    """The hub's processor of pictures, or its tokenizer."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    if text is not None:
        return _tokenizer()(text, **options)
    fitted = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    return fitted([picture.permute(1, 2, 0).numpy() for picture in images], return_tensors="pt")


def test_clip_score_is_torchmetrics_on_the_same_network(scorers: Path, pictures: Samples) -> None:
    from torchmetrics.functional.multimodal import clip_score
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update

    prompts = ["a photo of number 1", "It's 5 o'clock", "", "blue-green dragonfly, 4k", "x", "y"]
    samples = dataclasses.replace(pictures, prompts=prompts)
    ours = evaluate(build_metric("clip", {"weights": str(scorers / "clip")}), samples)
    net: Any = Network(load_file(scorers / "clip" / "open_clip_model.safetensors"))
    seen, read = list(samples.data.permute(0, 3, 1, 2)), processor
    theirs, _ = _clip_score_update(seen, prompts, net, read)  # type: ignore[arg-type]
    assert ours.per_sample[""] == pytest.approx(theirs.tolist(), abs=1e-4)
    assert theirs.std() > 2
    # What torchmetrics prints is held above zero; ours is not.
    printed = float(clip_score(seen, prompts, lambda: (net, read)))  # type: ignore[arg-type]
    assert max(ours.aggregate[""], 0.0) == pytest.approx(printed, abs=1e-4)
