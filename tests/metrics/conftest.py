"""Random scorers in the published file formats, small enough to run in a moment."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from distillbench.api.metric import Samples
from distillbench.api.registry import METRICS
from distillbench.score.complexity_file import published
from distillbench.score.vbench_totals import DIMENSIONS
from distillbench.world.networks import AttributeNet

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}
FEATURES = {"widths": [8, 16, 16], "dim": 8, "extra": 0}
HEAD = (16, 12, 8, 6, 4, 1)


def random_clip(seed: int = 0, **config: Any) -> open_clip.CLIP:
    torch.manual_seed(seed)
    net = open_clip.CLIP(**CLIP | config)
    # open_clip starts biases and the class token near zero; larger values make the test images
    # and prompts differ.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="session")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clip/ (JSON + safetensors), hps/ (JSON + .pt as HPSv2 ships it), head.pth, features/."""
    root = tmp_path_factory.mktemp("scorers")
    for name in ("clip", "hps", "features"):
        (root / name).mkdir()
    (root / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP}))
    save_file(random_clip(0).state_dict(), root / "clip" / "open_clip_model.safetensors")
    (root / "hps" / "tiny-vit.json").write_text(json.dumps(CLIP))
    state = {name: value.half() for name, value in random_clip(1).state_dict().items()}
    torch.save({"epoch": 7, "state_dict": state}, root / "hps" / "HPS_v2.1_compressed.pt")
    torch.save(random_head(), root / "head.pth")
    (root / "features" / "config.json").write_text(json.dumps(FEATURES))
    torch.manual_seed(2)
    net = AttributeNet(widths=(8, 16, 16), dim=8)
    save_file(net.state_dict(), root / "features" / "model.safetensors")
    return root


def random_head(seed: int = 3) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for index, (inputs, outputs) in zip((0, 2, 4, 6, 7), pairwise(HEAD)):
        state[f"layers.{index}.weight"] = torch.randn(outputs, inputs, generator=rng)
        state[f"layers.{index}.bias"] = torch.randn(outputs, generator=rng)
    return state


@pytest.fixture
def pictures() -> Samples:
    """Six smooth pictures that are wider than high."""
    rng = torch.Generator().manual_seed(5)
    coarse = torch.rand(6, 3, 6, 9, generator=rng)
    data = torch.nn.functional.interpolate(coarse, (96, 144), mode="bicubic").clamp(0, 1)
    images = (data * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    prompts = [f"a photo of number {i}" for i in range(6)]
    return Samples(images, prompts, ["photo", "anime"] * 3, seed=0)


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the hub's format with random networks: pick/, dino/, reward/, judge/."""
    from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(4)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "eos_token_id": 49407, "bos_token_id": 49406}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
              "num_attention_heads": 2, "image_size": 32, "patch_size": 8}  # fmt: skip
    pick = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    pick.save_pretrained(root / "pick")
    dino = Dinov2Model(Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                    image_size=28, patch_size=14))  # fmt: skip
    dino.save_pretrained(root / "dino")
    random_reward(root / "reward")
    random_judge(root / "judge")
    return root


def random_complexity() -> dict[str, torch.Tensor]:
    """Tensors of ICNet by their published names, of sizes at which pictures differ."""
    rng = torch.Generator().manual_seed(7)
    state = {}
    for name, shape in published().items():
        spread = torch.randn(shape, generator=rng)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
        elif name.endswith("running_var"):
            state[name] = 1 + 0.5 * spread.tanh()
        elif len(shape) > 1:
            state[name] = spread * (2 / spread[0].numel()) ** 0.5
        else:  # the factors of a norm are about one
            state[name] = 0.2 * spread + float(name.endswith("weight"))
    state["head.2.weight"] /= 2
    return state


@pytest.fixture(scope="session")
def complexity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ck.pth of the published names and shapes."""
    file = tmp_path_factory.mktemp("complexity") / "ck.pth"
    torch.save(random_complexity(), file)
    return file


FAKE_VBENCH = """#!{python}
import json, sys
import numpy as np
job, *items = [json.loads(line) for line in sys.stdin]
if job["dimension"] == {broken!r}:
    sys.exit("weights of it are missing")
scores = [float(np.load(item["frames"]).mean()) / 255 for item in items]
for item, score in zip(items, scores):
    print(json.dumps({{"id": item["id"], "score": score}}))
value = sum(sorted(scores)) / len(scores)
print(json.dumps({{"done": len(items), "value": {value}}}))
"""


def vbench_worker(folder: Path, value: str = "value", broken: str = "") -> str:
    """An interpreter in name that answers a job by the brightness of its videos."""
    path = folder / "worker"
    path.write_text(FAKE_VBENCH.format(python=sys.executable, value=value, broken=broken))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def vbench_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small VBench_full_info.json where the real one belongs, and a worker beside it."""
    module = import_module(METRICS.get("vbench").__module__)
    monkeypatch.setattr(module, "INFO", replace(module.INFO, sha256=""))
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    place = tmp_path / "weights" / "vbench" / "VBench_full_info.json"
    place.parent.mkdir(parents=True)
    entries = [{"prompt_en": p, "dimension": list(DIMENSIONS)} for p in ("a cat", "a dog")]
    place.write_text(json.dumps(entries))
    return vbench_worker(tmp_path)


REWARD = {
    "vision": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
               "num_attention_heads": 2, "image_size": 32, "patch_size": 16},
    "text": {"vocab_size": 64, "hidden_size": 16, "encoder_hidden_size": 16,
             "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "max_position_embeddings": 48},
}  # fmt: skip


def random_reward(folder: Path) -> None:
    """ImageReward.pt with the package's own names, vocab.txt, and the sizes of the network."""
    from transformers import BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    folder.mkdir()
    eye = BlipVisionModel(BlipVisionConfig(**REWARD["vision"]))
    text = BlipTextModel(BlipTextConfig(**REWARD["text"], is_decoder=True), add_pooling_layer=False)
    backward = {
        "embeddings.patch_embedding": "patch_embed.proj", "embeddings.class_embedding": "cls_token",
        "embeddings.position_embedding": "pos_embed", "encoder.layers.": "blocks.",
        "self_attn.qkv": "attn.qkv", "self_attn.projection": "attn.proj", "layer_norm1": "norm1",
        "layer_norm2": "norm2", "post_layernorm": "norm",
    }  # fmt: skip
    state = {}
    for name, value in eye.state_dict().items():
        for new, old in backward.items():
            name = name.replace(new, old)
        state[f"blip.visual_encoder.{name}"] = value + 0.2 * torch.randn_like(value)
    for name, value in text.state_dict().items():
        noise = 0.2 * torch.randn_like(value) if value.is_floating_point() else 0
        state[f"blip.text_encoder.{name}"] = value + noise
    state["blip.vision_proj.weight"] = torch.zeros(2, 16)
    state |= {f"mlp.{name}": value for name, value in random_head().items()}
    torch.save(state, folder / "ImageReward.pt")
    (folder / "blip.json").write_text(json.dumps(REWARD))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "picture", "thing",
             "number", *"0123456789", *(f"##{i}" for i in range(10))]  # fmt: skip
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")


JUDGE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "vocab_size": 400,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}, "rope_theta": 1e4,
    "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2,
                      "mlp_ratio": 2, "patch_size": 14, "spatial_merge_size": 2,
                      "temporal_patch_size": 2, "model_type": "qwen2_vl"},
}  # fmt: skip
JUDGE_WORDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
               "<|image_pad|>", "<|video_pad|>")  # fmt: skip
TALK = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTION = '''"""What is asked."""
import nowhere

INSTRUCTION = """
How good is the picture?
Prompt - {text_prompt}
"""
prompt_with_special_token = """
Well: <|Reward|>
END
"""
'''


def random_judge(folder: Path) -> None:
    """HPSv3.safetensors with the names of transformers 4.45, Qwen2-VL's files, the question's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    folder.mkdir()
    space = "\u0120"
    doubled = [f"x{space}" * 2**n for n in range(8)]  # long prompts of these are few tokens
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: n for n, word in enumerate([*alphabet, *doubled])}
    merges = [("x", space), *((half, half) for half in doubled[:-1])]
    tokenizer = Tokenizer(models.BPE(words, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(JUDGE_WORDS))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TALK}))
    (folder / "data_collator_qwen.py").write_text(QUESTION)
    ids = {f"{name}_token_id": tokenizer.token_to_id(f"<|{word}|>") for name, word in (
        ("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"),
        ("vision_end", "vision_end"))}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_vl", **JUDGE, **ids}))
    rows = tokenizer.get_vocab_size() + 1
    torch.manual_seed(6)
    net = Qwen2VLForConditionalGeneration(
        Qwen2VLConfig.from_dict({**JUDGE, **ids, "vocab_size": rows})
    )
    state = {}
    for name, value in net.state_dict().items():
        name = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
        state[name] = (value + 0.2 * torch.randn_like(value)).contiguous()
    for index, before, after in ((0, 32, 12), (3, 12, 6), (5, 6, 2)):
        state[f"rm_head.{index}.weight"] = torch.randn(after, before) / before**0.5
        state[f"rm_head.{index}.bias"] = torch.randn(after)
    save_file(state, folder / "HPSv3.safetensors")
