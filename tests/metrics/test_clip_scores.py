"""HPS, CLIP score and AeS: the traps that change published numbers without an error."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from distillbench.api.metric import Samples
from distillbench.api.registry import METRICS, build_metric
from distillbench.errors import BadInput, MissingWeights
from distillbench.score import choice
from distillbench.score.evaluate import evaluate
from distillbench.score.features import ClipExtractor
from distillbench.score.weights import clip_folder


def module_of(name: str) -> Any:
    """The plug-in's module, for its tables and functions."""
    import importlib

    return importlib.import_module(METRICS.get(name).__module__)


def write_random(path: Path, net: torch.nn.Module) -> None:
    path.parent.mkdir(parents=True)
    torch.save(net.state_dict(), path)


def by_hand(folder: Path, samples: Samples, mode: str) -> torch.Tensor:
    """Cosines with open_clip's own loader, transform, tokenizer and forward."""
    config = next(folder.glob("*.json"))
    text = json.loads(config.read_text())
    net = open_clip.CLIP(**text.get("model_cfg", text))
    checkpoint = next(p for p in folder.iterdir() if p.suffix != ".json")
    open_clip.load_checkpoint(net, str(checkpoint))
    net = net.float().eval()
    transform = open_clip.image_transform(32, is_train=False, resize_mode=mode)
    pixels = torch.stack([transform(Image.fromarray(x.numpy())) for x in samples.data])
    tokens = open_clip.SimpleTokenizer(context_length=77)(list(samples.prompts))
    with torch.no_grad():
        image, words = net.encode_image(pixels), net.encode_text(tokens)
    return (normalize(image, dim=-1) * normalize(words, dim=-1)).sum(dim=-1)


@pytest.mark.parametrize(
    ("name", "folder", "mode"), [("hps", "hps", "longest"), ("clip", "clip", "shortest")]
)
def test_scores_are_100_cosines_of_open_clip(
    scorers: Path, pictures: Samples, name: str, folder: str, mode: str
) -> None:
    metric = build_metric(name, {"weights": str(scorers / folder)})
    ours = torch.tensor(evaluate(metric, pictures).per_sample[""])
    theirs = 100 * by_hand(scorers / folder, pictures, mode)
    assert theirs.std() > 2
    # HPSv2's float resize against open_clip's 8-bit one.
    assert torch.allclose(ours, theirs, atol=0.2 if name == "hps" else 1e-3)


def test_the_published_hps_file_takes_the_same_path(
    scorers: Path, pictures: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random net saved as HPSv2.1 is ({"epoch", "state_dict"} .pt in fp16) under its name."""
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    named = module_of("hps").NAMED
    small = dataclasses.replace(named["hpsv2.1"], arch=str(scorers / "hps" / "tiny-vit.json"))
    monkeypatch.setitem(named, "hpsv2.1", small)
    metric = build_metric("hps", {"weights": "hpsv2.1"})
    with pytest.raises(MissingWeights, match=r"weights/hpsv2\.1/HPS_v2\.1_compressed\.pt") as info:
        metric.load()
    assert "xswu/HPSv2" in info.value.hint
    place = tmp_path / "weights" / "hpsv2.1" / "HPS_v2.1_compressed.pt"
    place.parent.mkdir(parents=True)
    place.write_bytes((scorers / "hps" / "HPS_v2.1_compressed.pt").read_bytes())
    by_path = build_metric("hps", {"weights": str(scorers / "hps")})
    assert evaluate(metric, pictures).per_sample == evaluate(by_path, pictures).per_sample
    assert metric.label() == "HPSv2.1"
    assert by_path.label() == "HPS (custom)"


def test_hps_legacy_resize_is_another_protocol(scorers: Path, pictures: Samples) -> None:
    params = {"weights": str(scorers / "hps")}
    modern = evaluate(build_metric("hps", params), pictures)
    legacy = evaluate(build_metric("hps", params | {"antialias": False}), pictures)
    assert modern.protocol != legacy.protocol
    assert modern.aggregate != legacy.aggregate


# ---- QuickGELU ----------------------------------------------------------------------------


def test_quickgelu_changes_features(scorers: Path, pictures: Samples) -> None:
    plain = clip_folder(scorers / "clip", "crop")
    quick = dataclasses.replace(plain, quickgelu=True)
    one, two = (ClipExtractor(source).encode(pictures.data) for source in (plain, quick))
    assert (one - two).abs().max() > 1e-3


def test_openai_weights_force_quickgelu_for_a_local_file(
    scorers: Path, pictures: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip itself says nothing when OpenAI's file is loaded from a path."""
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    source = clip_folder(scorers / "clip", "crop")
    net = ClipExtractor(source).net
    write_random(tmp_path / "weights" / "openai-ViT-L-14" / "ViT-L-14.pt", net)
    small = dataclasses.replace(choice.OPENAI["openai-ViT-L-14"], arch=source.arch, sha256="")
    monkeypatch.setitem(module_of("clip").NAMED, "openai-ViT-L-14", small)
    metric = build_metric("clip", {"weights": "openai-ViT-L-14"})
    named = evaluate(metric, pictures).per_sample[""]
    plain = evaluate(build_metric("clip", {"weights": str(scorers / "clip")}), pictures)
    assert max(abs(a - b) for a, b in zip(named, plain.per_sample[""], strict=True)) > 0.05


def test_every_openai_network_is_a_quickgelu_one() -> None:
    assert all(weights.quickgelu for weights in choice.OPENAI.values())
    assert not any(weights.quickgelu for weights in module_of("hps").NAMED.values())


# ---- AeS ------------------------------------------------------------------------------------


def test_the_aesthetic_head_is_one_affine_map(scorers: Path) -> None:
    layers = module_of("aes").read_head(scorers / "head.pth")
    weight, bias = torch.eye(16, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    for w, b in layers:
        weight, bias = w.double() @ weight, w.double() @ bias + b.double()
    rng = torch.Generator().manual_seed(1)
    features = normalize(torch.randn(20, 16, generator=rng), dim=-1)
    collapsed = features.double() @ weight.T + bias
    ours = module_of("aes").aesthetic(features, layers)
    assert torch.allclose(ours.double(), collapsed.squeeze(-1), rtol=1e-5, atol=1e-4)


def test_features_that_are_not_normalised_are_refused(scorers: Path) -> None:
    layers = module_of("aes").read_head(scorers / "head.pth")
    with pytest.raises(BadInput, match="unit length"):
        module_of("aes").aesthetic(20 * torch.ones(2, 16), layers)


def test_another_head_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1, 16), "bias": torch.ones(1)}, tmp_path / "linear.pth")
    with pytest.raises(BadInput, match="no aesthetic head"):
        module_of("aes").read_head(tmp_path / "linear.pth")


def test_aes_and_clip_share_one_forward(
    scorers: Path, pictures: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = dataclasses.replace(pictures, key="shared-forward")
    aes = build_metric("aes", {"weights": str(scorers / "head.pth"), "clip": str(scorers / "clip")})
    score = build_metric("clip", {"weights": str(scorers / "clip")})
    calls = []
    encode = ClipExtractor.encode

    def counted(self: ClipExtractor, data: torch.Tensor) -> torch.Tensor:
        calls.append(len(data))
        return encode(self, data)

    monkeypatch.setattr(ClipExtractor, "encode", counted)
    evaluate(aes, samples)
    evaluate(score, samples)
    assert calls == [len(samples)]


# ---- protocol ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "weights", "millions"),
    [
        ("hps", "hpsv2.1", 986.1),
        ("clip", "openai-ViT-L-14", 427.6),
        ("clip", "openai-ViT-B-32", 151.3),
        ("clip", "openclip-ViT-bigG-14", 2539.6),
    ],
)
def test_published_networks_have_their_published_size(
    metric: str, weights: str, millions: float
) -> None:
    config = open_clip.get_model_config(module_of(metric).NAMED[weights].arch)
    with torch.device("meta"):
        net = open_clip.CLIP(**config)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_no_path_of_this_machine_enters_the_protocol(scorers: Path, pictures: Samples) -> None:
    params = {"weights": str(scorers / "head.pth"), "clip": str(scorers / "clip")}
    found = evaluate(build_metric("aes", params), pictures).protocol
    assert found["weights"] == found["clip"] == "custom"
