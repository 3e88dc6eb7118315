"""PickScore, ImageReward, FD-DINOv2, LPIPS against the libraries' own code, random weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.errors import BadInput, ConfigError, MissingWeights
from distillbench.score.evaluate import evaluate

PROMPTS = [
    "a photo of number 1",
    "a  Photo of\nnumber 2!",
    "ein Häuschen, 花",
    "x " * 5000,
    "",
    "é",
]


def odd(pictures: Samples) -> Samples:
    return dataclasses.replace(pictures, prompts=PROMPTS)


def test_pick_score_is_what_the_hubs_own_pipeline_gives(hub: Path, pictures: Samples) -> None:
    """Its tokenizer from files, its PIL image processor, its model's own scaled cosine."""
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from distillbench.score.towers import clip_pair

    samples = odd(pictures)
    scores = evaluate(build_metric("pick_score", {"weights": str(hub / "pick")}), samples)
    ours = clip_pair(hub / "pick" / "model.safetensors").tokens
    saved = hub / "tokens"
    ours.save_pretrained(saved)
    words = CLIPTokenizer.from_pretrained(saved)(
        PROMPTS, padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    size = {"shortest_edge": 32}
    processor = CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32})
    seen = processor([Image.fromarray(p) for p in samples.data.numpy()], return_tensors="pt")
    model = CLIPModel.from_pretrained(hub / "pick").eval()
    with torch.no_grad():
        theirs = model(**words, pixel_values=seen["pixel_values"]).logits_per_image.diagonal()
    assert scores.per_sample[""] == pytest.approx(theirs.tolist(), abs=2e-4)
    assert len({round(v, 3) for v in scores.per_sample[""]}) > 3


def test_prompts_become_the_tokens_that_open_clip_gives(hub: Path) -> None:
    """Where neither normalises away anything, two implementations of one vocabulary agree."""
    import open_clip

    from distillbench.score.towers import clip_pair

    plain = ["a photo of number 1", "It's 5 o'clock; they'll come!", "blue-green dragonfly, 4k"]
    tokens = clip_pair(hub / "pick" / "model.safetensors").tokens(plain)["input_ids"]
    theirs = open_clip.SimpleTokenizer()(plain)
    for mine, row in zip(tokens, theirs.tolist(), strict=True):
        assert mine == row[: len(mine)]
        assert not any(row[len(mine) :])


def test_image_reward_follows_the_packages_order(hub: Path, pictures: Samples) -> None:
    """The formula written out on transformers' BLIP with the package's names put in by hand."""
    metric = build_metric("image_reward", {"weights": str(hub / "reward")})
    scores = evaluate(metric, odd(pictures))
    again = evaluate(metric, pictures)
    assert scores.per_sample[""][0] == pytest.approx(
        evaluate(metric, _one(odd(pictures), 0)).per_sample[""][0], abs=1e-3
    )
    assert scores.per_sample[""] != again.per_sample[""]
    net = metric._net  # type: ignore[attr-defined]
    state = torch.load(hub / "reward" / "ImageReward.pt")
    assert torch.equal(net.eye.embeddings.class_embedding.data,
                       state["blip.visual_encoder.cls_token"])  # fmt: skip
    assert len(net.words.encode("a " * 500).ids) == 35
    features = torch.zeros(1, 16)
    for weight, bias in net.head:
        features = torch.nn.functional.linear(features, weight, bias)
    assert features.shape == (1, 1)


def _one(samples: Samples, index: int) -> Samples:
    pick = slice(index, index + 1)
    return dataclasses.replace(samples, data=samples.data[pick], prompts=samples.prompts[pick],
                               categories=samples.categories[pick])  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s | {"extra.weight": torch.zeros(1)}, "it has extra.weight"),
        (lambda s: {k: v for k, v in s.items() if "norm1.weight" not in k}, "lacks"),
        (lambda s: {k: v for k, v in s.items() if k != "mlp.layers.7.bias"}, "mlp.layers.7.bias"),
        (lambda s: s | {"blip.visual_encoder.cls_token": torch.zeros(1, 1, 3)}, "does not fit"),
    ],
)
def test_what_is_no_image_reward_is_refused(
    hub: Path, tmp_path: Path, pictures: Samples, change: object, says: str
) -> None:
    for name in ("vocab.txt", "blip.json"):
        (tmp_path / name).write_bytes((hub / "reward" / name).read_bytes())
    state = torch.load(hub / "reward" / "ImageReward.pt")
    torch.save(change(state), tmp_path / "ImageReward.pt")  # type: ignore[operator]
    with pytest.raises(BadInput, match=says):
        build_metric("image_reward", {"weights": str(tmp_path)}).load()


@pytest.mark.parametrize(
    ("metric", "file", "beside"),
    [
        ("pick_score", "pickscore-v1/model.safetensors", "config.json"),
        ("image_reward", "image-reward-1.0/ImageReward.pt", "vocab.txt"),
        ("hpsv3", "hpsv3/HPSv3.safetensors", "config.json"),
        ("fd_dinov2", "dinov2-vit-l-14/model.safetensors", "config.json"),
        ("image_complexity", "ic9600/ck.pth", ""),
        ("lpips", "lpips-vgg/vgg16-397923af.pth", ""),
        ("diversity", "lpips-vgg/vgg16-397923af.pth", ""),
    ],
)
def test_missing_weights_are_one_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, file: str, beside: str
) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    built = build_metric(metric, {"weights": file.split("/")[0]})
    lines = [n.line for n in built.requirements(4000, ["p"]) if n.problem and n.kind == "weights"]
    assert len(lines) == 1
    assert file in lines[0]
    with pytest.raises(MissingWeights, match=Path(file).name):
        built.load()
    if beside:
        place = tmp_path / "weights" / file
        place.parent.mkdir(parents=True)
        place.write_bytes(b"")
        with pytest.raises(MissingWeights, match=f"not complete: no .*{beside}"):
            built.load()


def test_there_is_no_tiny_reward() -> None:
    with pytest.raises((BadInput, ConfigError), match=r"unknown weights 'tiny': image-reward-1\.0"):
        build_metric("image_reward", {"weights": "tiny"})


def test_dino_features_are_the_hubs_class_token(hub: Path, pictures: Samples) -> None:
    from transformers import Dinov2Model

    from distillbench.score.towers import dino_net

    found = dino_net(hub / "dino" / "model.safetensors").encode(pictures.data)
    resized = [Image.fromarray(p).resize((224, 224), Image.Resampling.BICUBIC)
               for p in pictures.data.numpy()]  # fmt: skip
    pixels = torch.from_numpy(np.stack([np.array(p) for p in resized])).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    model = Dinov2Model.from_pretrained(hub / "dino").eval()
    with torch.no_grad():
        theirs = model(pixels).last_hidden_state[:, 0]
    assert torch.allclose(found, theirs, atol=1e-5)


def test_lpips_is_torchmetrics_with_the_same_vgg(tmp_path: Path, pictures: Samples) -> None:
    import torchvision
    from torchmetrics.functional.image.lpips import _LPIPS

    from distillbench.score.towers import perceptual

    torch.manual_seed(0)
    vgg = torchvision.models.vgg16(weights=None)
    features = {k: v for k, v in vgg.state_dict().items() if k.startswith("features.")}
    torch.save(features, tmp_path / "vgg16-397923af.pth")
    net = _LPIPS(net="vgg", pnet_rand=True)
    flat = {k.split(".", 1)[1]: k for k in net.net.state_dict()}
    net.net.load_state_dict({flat[k.removeprefix("features.")]: v for k, v in features.items()})
    one, two = pictures.data[:3], pictures.data[3:]
    found = perceptual(tmp_path / "vgg16-397923af.pth")(one, two)
    x, y = (p.permute(0, 3, 1, 2) / 127.5 - 1 for p in (one, two))
    with torch.no_grad():
        theirs = net(x, y).flatten()
    assert torch.allclose(found, theirs, atol=1e-6)
    assert float(perceptual(tmp_path / "vgg16-397923af.pth")(one, one).abs().max()) == 0.0


def test_a_checkpoint_without_its_configuration_is_refused(hub: Path, tmp_path: Path) -> None:
    source = hub / "dino" / "model.safetensors"
    (tmp_path / "model.safetensors").write_bytes(source.read_bytes())
    with pytest.raises(BadInput, match=r"without its config\.json"):
        build_metric("fd_dinov2", {"weights": str(tmp_path)}).load()
    config = json.loads((hub / "dino" / "config.json").read_text()) | {"hidden_size": 16}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="does not fit"):
        build_metric("fd_dinov2", {"weights": str(tmp_path)}).load()
