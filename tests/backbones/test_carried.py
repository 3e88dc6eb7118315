"""A student on a fine-tune of its base: its adapter there, or its difference from the base."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import diffusers as stock
import pytest
import torch
from safetensors.torch import save_file

from distillbench.api import registry
from distillbench.errors import ArtifactError
from distillbench.plan.used import UsedBackbone, not_carried
from distillbench.student.files import load_student
from distillbench.student.placed import Placed

HELPERS = str(Path(__file__).with_name("published.py"))
made: Any = SourceFileLoader("published", HELPERS).load_module()
Folders = Callable[[str], Path]


@pytest.fixture
def tuned(folders: Folders, tmp_path: Path) -> Path:
    """The folder of a fine-tune."""
    place = tmp_path / "tuned"
    shutil.copytree(folders("sd"), place)
    module = stock.UNet2DConditionModel.from_pretrained(place / "unet")
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    module.save_pretrained(place / "unet")
    return place


def _apart(student: Any, stock_net: Any) -> float:
    """The largest difference of one prediction from that of the library's own network."""
    backbone = student.method.backbone
    cond = backbone.encode(["a red car"])
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = backbone.predict(student.net, x, torch.tensor([499]), cond).raw
        theirs = stock_net(x, 499, encoder_hidden_states=cond.tensors["tokens"]).sample
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize("kind", ["lora", "network"])
def test_both_kinds(kind: str, folders: Folders, tuned: Path, tmp_path: Path) -> None:
    base, other = (
        stock.UNet2DConditionModel.from_pretrained(f / "unet") for f in (folders("sd"), tuned)
    )
    layers = made.layers_of(base, seed=3)
    whole = made.merged(base, layers)
    save_file(made.kohya(layers) if kind == "lora" else whole, tmp_path / "x.safetensors")
    params = {"weights": str(tmp_path / "x.safetensors"), "kind": kind}
    made.adopted(tmp_path / "run", "sd", {"model": str(folders("sd"))}, params)
    there = registry.build_backbone("sd", {"model": str(tuned)})
    on = {"name": "sd", "params": {"model": str(tuned)}, "revision": there.revision()}
    student = load_student(tmp_path / "run", placed=Placed(on=on))
    other.load_state_dict(made.merged(other, layers))
    assert _apart(student, other) < 2e-5
    with pytest.raises(ArtifactError, match="to be sampled on revision 0"):
        load_student(tmp_path / "run", placed=Placed(on={**on, "revision": "0"}))


@pytest.mark.parametrize("kind", ["lora", "network"])
def test_onto_the_net_of_a_training(kind: str, folders: Folders, tmp_path: Path) -> None:
    """The same as on a folder of those weights."""
    base = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    tuned, layers = made.merged(base, made.layers_of(base, seed=5)), made.layers_of(base, seed=3)
    whole = made.merged(base, layers)
    save_file(tuned, tmp_path / "tuned.safetensors")
    save_file(made.kohya(layers) if kind == "lora" else whole, tmp_path / "x.safetensors")
    where = {"model": str(folders("sd"))}
    for name, its in (("tuned", "network"), ("x", kind)):
        params = {"weights": str(tmp_path / f"{name}.safetensors"), "kind": its}
        made.adopted(tmp_path / f"run-{name}", "sd", where, params)
    student = load_student(tmp_path / "run-x", placed=Placed(onto=tmp_path / "run-tuned"))
    other = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    other.load_state_dict(whole)
    assert _apart(student, other) > 1e-4
    other.load_state_dict(tuned)
    other.load_state_dict(made.merged(other, layers))
    assert _apart(student, other) < 2e-5


def test_another_architecture_is_refused_by_its_headers(folders: Folders, tmp_path: Path) -> None:
    place = tmp_path / "wide"
    shutil.copytree(folders("sd"), place)
    config = dict(stock.UNet2DConditionModel.load_config(place / "unet"))
    wide = stock.UNet2DConditionModel.from_config({**config, "block_out_channels": (8, 24)})
    wide.save_pretrained(place / "unet")
    used = []
    for folder in (folders("sd"), place):
        backbone = registry.build_backbone("sd", {"model": str(folder)})
        used.append(UsedBackbone(folder.name, backbone, {}, {}))
    method = registry.build_method("tdm", {}, used[0].backbone)
    assert not not_carried(method, used[0], used[0])
    assert "not of one architecture" in not_carried(method, *used)
