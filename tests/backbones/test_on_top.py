"""LoRAs of others on top of what is sampled: as diffusers sets several adapters with weights."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import diffusers as stock
import pytest
import torch
from safetensors.torch import save_file

from distillbench.api.published import Published
from distillbench.api.registry import build_backbone, build_method
from distillbench.errors import BadInput
from distillbench.files.hashes import file_sha256
from distillbench.student.files import load_student
from distillbench.student.placed import Placed

HELPERS = str(Path(__file__).with_name("published.py"))
made: Any = SourceFileLoader("published", HELPERS).load_module()
Folders = Callable[[str], Path]


def style(folder: Path, base: Any, scale: float, seed: int = 7) -> Published:
    path = folder / f"style{seed}.safetensors"
    save_file(made.kohya(made.layers_of(base, seed=seed)), path)
    return Published(str(path), "lora", scale, "", file_sha256(path))


def raw(backbone: Any, net: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A network's output, with the noise and the text that it is of."""
    cond = backbone.encode(["a red car"])
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone.predict(net, x, torch.tensor([499]), cond).raw, x, cond.tensors["tokens"]


@pytest.mark.parametrize("kind", ["lora", "network"])
def test_both_kinds_of_students(kind: str, folders: Folders, tmp_path: Path) -> None:
    base = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    layers, first, second = (made.layers_of(base, seed=seed) for seed in (3, 7, 9))
    whole = made.merged(base, layers)
    save_file(made.kohya(layers) if kind == "lora" else whole, tmp_path / "x.safetensors")
    params = {"weights": str(tmp_path / "x.safetensors"), "kind": kind}
    made.adopted(tmp_path / "run", "sd", {"model": str(folders("sd"))}, params)
    on_top = [style(tmp_path, base, 0.5), style(tmp_path, base, -0.25, 9)]
    student = load_student(tmp_path / "run", placed=Placed(adapters=tuple(on_top)))
    ours, x, text = raw(student.method.backbone, student.net)
    for factors, scale in ((layers, 1.0), (first, 0.5), (second, -0.25)):
        base.load_state_dict(made.merged(base, factors, scale))
    with torch.no_grad():
        theirs = base(x, 499, encoder_hidden_states=text).sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-5)


def test_as_diffusers_sets_adapters(folders: Folders, tmp_path: Path) -> None:
    pipe = stock.StableDiffusionPipeline.from_pretrained(folders("sd"), safety_checker=None)
    base = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    linear, other = ({n: v for n, v in made.layers_of(base, every_linear=True, seed=seed).items()
                      if "attn" in n} for seed in (3, 7))  # fmt: skip
    same = [{n: (d, u, 2.0) for n, (d, u, _) in f.items()} for f in (linear, other)]
    for name, layers in zip("xy", same, strict=True):
        save_file(made.kohya(layers), tmp_path / f"{name}.safetensors")
        pipe.load_lora_weights(tmp_path / f"{name}.safetensors", adapter_name=name)
    pipe.set_adapters(["x", "y"], [1.0, 0.6])
    params = {"weights": str(tmp_path / "x.safetensors")}
    made.adopted(tmp_path / "run", "sd", {"model": str(folders("sd"))}, params)
    on_top = [Published(str(tmp_path / "y.safetensors"), "lora", 0.6)]
    student = load_student(tmp_path / "run", placed=Placed(adapters=tuple(on_top)))
    ours, x, text = raw(student.method.backbone, student.net)
    with torch.no_grad():
        theirs = pipe.unet(x, 499, encoder_hidden_states=text).sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_other_bytes_than_planned_are_refused(folders: Folders, tmp_path: Path) -> None:
    base = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    save_file(made.kohya(made.layers_of(base, seed=3)), tmp_path / "x.safetensors")
    where = {"model": str(folders("sd"))}
    made.adopted(tmp_path / "run", "sd", where, {"weights": str(tmp_path / "x.safetensors")})
    given = style(tmp_path, base, 1.0)
    save_file(made.kohya(made.layers_of(base, seed=8)), tmp_path / "style7.safetensors")
    with pytest.raises(BadInput, match="sha256 is"):
        load_student(tmp_path / "run", placed=Placed(adapters=(given,)))
    assert build_method("teacher", {}, build_backbone("sd", where)).published() is None
