"""Where scorers' weights come from: identity, strict loading, formats, and clear refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from distillbench.api.registry import build_metric
from distillbench.errors import BadInput, ConfigError, MissingWeights
from distillbench.score.features import ClipExtractor, clip_extractor
from distillbench.score.weights import ClipSource, clip_folder


def test_torchscript_files_load_by_their_tensors(scorers: Path, tmp_path: Path) -> None:
    """OpenAI's own files are TorchScript archives with three extra numbers."""

    class Holder(torch.nn.Module):
        def __init__(self, state: dict[str, torch.Tensor]) -> None:
            super().__init__()
            for name in ("input_resolution", "context_length", "vocab_size"):
                self.register_buffer(name, torch.tensor(32))
            for name, value in state.items():
                owner = self
                *parents, leaf = name.split(".")
                for parent in parents:
                    if not hasattr(owner, parent):
                        owner.add_module(parent, torch.nn.Module())
                    owner = getattr(owner, parent)
                owner.register_buffer(leaf, value)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    source = clip_folder(scorers / "clip", "crop")
    extractor = ClipExtractor(source)
    path = tmp_path / "ViT-L-14.pt"
    torch.jit.script(Holder(extractor.net.state_dict())).save(str(path))
    again = ClipExtractor(dataclasses.replace(source, checkpoint=path))
    assert torch.equal(again.texts(["a cat"]), extractor.texts(["a cat"]))


def test_a_file_with_another_hash_is_not_the_published_head(
    scorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    metric = build_metric("aes", {"weights": "laion-v2", "clip": str(scorers / "clip")})
    place = tmp_path / "weights" / "laion-v2" / "sac+logos+ava1-l14-linearMSE.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes((scorers / "head.pth").read_bytes())
    with pytest.raises(MissingWeights, match="its sha256 is"):
        metric.load()


def test_one_extractor_per_source_and_process(scorers: Path) -> None:
    crop = clip_folder(scorers / "clip", "crop")
    assert clip_extractor(crop) is clip_extractor(clip_folder(scorers / "clip", "crop"))
    assert clip_extractor(crop) is not clip_extractor(dataclasses.replace(crop, resize="pad"))


def test_a_checkpoint_that_does_not_fit_is_refused(scorers: Path, tmp_path: Path) -> None:
    source = clip_folder(scorers / "clip", "crop")
    state = dict(ClipExtractor(source).net.state_dict())
    state.pop("text_projection")
    torch.save(state, tmp_path / "short.pt")
    broken = ClipSource(source.arch, tmp_path / "short.pt", "crop")
    with pytest.raises(BadInput, match="text_projection"):
        ClipExtractor(broken)


def test_unknown_weights_are_explained() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'hpsv2\.1'"):
        build_metric("hps", {"weights": "hpsv21"})


def test_identity_follows_the_bytes_of_a_folder(scorers: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (scorers / "clip").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    one = build_metric("clip", {"weights": str(scorers / "clip")}).revision()
    copy = build_metric("clip", {"weights": str(folder)})
    assert copy.revision() == one
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")
    assert copy.revision() != one
    with pytest.raises(MissingWeights, match="no weights at"):
        build_metric("clip", {"weights": str(tmp_path / "nowhere")}).revision()


def test_published_weights_have_an_identity_before_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    assert build_metric("hps", {"weights": "hpsv2.1"}).revision().startswith("hpsv2.1:")
    assert "b8cca3fd41ae" in build_metric("clip", {"weights": "openai-ViT-L-14"}).revision()
    assert "21dd590f3ccd" in build_metric("aes", {"weights": "laion-v2"}).revision()
