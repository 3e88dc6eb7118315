"""Parts that two teachers have are stored once, and nothing about the models changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from distillbench.tiny_training.sharing import share
from distillbench.world import weights


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two models with the same autoencoder, and one with another."""
    for seed, name in ((0, "one"), (0, "two"), (1, "three")):
        torch.manual_seed(seed)
        vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
        vae.save_pretrained(tmp_path / name / "vae")
        (tmp_path / name / "model_index.json").write_text(f'"{name}"')
    return tmp_path


def test_a_part_of_another_model_becomes_a_link_to_it(root: Path) -> None:
    before = weights.hash_files(root / "two")
    kept = AutoencoderKL.from_pretrained(root / "two" / "vae").state_dict()
    assert share(root, "two") == {"vae": "../one/vae"}
    assert (root / "two" / "vae").is_symlink()
    assert weights.hash_files(root / "two") == before
    linked = AutoencoderKL.from_pretrained(root / "two" / "vae").state_dict()
    assert all(torch.equal(linked[name], kept[name]) for name in kept)


def test_what_a_link_leads_to_stays(root: Path) -> None:
    share(root, "two")
    assert share(root, "one") == {}
    assert share(root, "two") == {}
    assert not (root / "one" / "vae").is_symlink()


def test_other_weights_and_other_settings_are_not_shared(root: Path) -> None:
    assert share(root, "three") == {}
    config = root / "two" / "vae" / "config.json"
    config.write_text(
        config.read_text().replace('"scaling_factor": 0.18215', '"scaling_factor": 1')
    )
    assert share(root, "two") == {}


@pytest.mark.parametrize("name", weights.NAMES)
def test_links_of_the_shipped_weights_lead_to_shipped_weights(name: str) -> None:
    for part in weights.folder(name).iterdir():
        assert part.exists(), part
        assert weights.root().resolve() in part.resolve().parents
