"""DoRA and text-encoder parts, in files that peft, diffusers, kohya's and ComfyUI's names make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import diffusers as stock
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from distillbench.api import registry
from distillbench.api.published import Published
from distillbench.errors import DistillbenchError

HELPERS = str(Path(__file__).with_name("published.py"))
made: Any = SourceFileLoader("published", HELPERS).load_module()
Folders = Callable[[str], Path]
TEXT = "text_model_encoder_layers_0_self_attn_q_proj"
DOTTED = "text_model.encoder.layers.0.self_attn.q_proj"


def doras(unet: Any, folder: Path) -> Iterator[Path]:
    """One file each of peft, diffusers, kohya and ComfyUI."""
    layers = made.layers_of(unet, most=2, every_linear=True)
    for name, names in (("kohya", made.kohya), ("comfy", made.comfy)):
        tensors = dict(names(layers))
        for key in [key for key in tensors if key.endswith(".alpha")]:
            tensors[key.replace(".alpha", ".dora_scale")] = torch.ones(4, 1)
        save_file(tensors, folder / f"{name}.safetensors")
        yield folder / f"{name}.safetensors"
    config = LoraConfig(r=2, use_dora=True, target_modules=["to_q"])
    tuned = get_peft_model(unet, config)
    tuned.save_pretrained(folder / "peft")
    yield folder / "peft"
    state = get_peft_model_state_dict(tuned)
    plain = {key.removeprefix("base_model.model."): value for key, value in state.items()}
    stock.StableDiffusionPipeline.save_lora_weights(folder / "diffusers", unet_lora_layers=plain)
    yield folder / "diffusers"


def refused(backbone: Any, path: Path) -> str:
    """What planning says; what reads the file does not take it either."""
    published = Published(str(path))
    (line,) = backbone.unfit(published)
    with pytest.raises((DistillbenchError, ValueError)):
        backbone.adopt(f"net {path.stem}", published)
    return str(line)


def test_dora_is_refused_by_name(folders: Folders, tmp_path: Path) -> None:
    unet = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    backbone = registry.build_backbone("sd", {"model": str(folders("sd"))})
    backbone.load()
    files = list(doras(unet, tmp_path))
    assert len(files) == 4
    for path in files:
        assert "are of DoRA, which is not applied" in refused(backbone, path), path


@pytest.mark.parametrize(
    "stem",
    [f"lora_te_{TEXT}", f"lora_te1_{TEXT}", f"lora_te2_{TEXT}", f"text_encoder.{DOTTED}",
     f"text_encoder_2.{DOTTED}", f"text_encoders.clip_l.transformer.{DOTTED}",
     f"base_model.model.text_encoder.{DOTTED}", f"clip_l.transformer.{DOTTED}"],
)  # fmt: skip
def test_parts_of_text_encoders_are_refused_by_name(
    stem: str, folders: Folders, tmp_path: Path
) -> None:
    unet = stock.UNet2DConditionModel.from_pretrained(folders("sd") / "unet")
    kohya = stem.startswith("lora_te")
    names = made.kohya if kohya else made.diffusers
    down, up = ("lora_down", "lora_up") if kohya else ("lora_A", "lora_B")
    tensors = {
        **names(made.layers_of(unet, most=2, every_linear=True)),
        f"{stem}.{down}.weight": torch.ones(2, 16), f"{stem}.{up}.weight": torch.ones(16, 2),
    }  # fmt: skip
    save_file(tensors, tmp_path / "x.safetensors")
    backbone = registry.build_backbone("sd", {"model": str(folders("sd"))})
    (line,) = backbone.unfit(Published(str(tmp_path / "x.safetensors")))
    assert "2 keys are of a text encoder" in line
    assert stem in line
