"""LoRAs and networks of others: every format gives the weights that its own tools give."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import diffusers as stock
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from distillbench.api import registry
from distillbench.api.published import Published
from distillbench.errors import BadInput, NotSupported

HELPERS = str(Path(__file__).with_name("published.py"))
made: Any = SourceFileLoader("published", HELPERS).load_module()
Folders = Callable[[str], Path]


def unet(folder: Path) -> Any:
    return stock.UNet2DConditionModel.from_pretrained(folder / "unet")


def output(backbone: Any, net: Any) -> Tensor:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    cond = backbone.encode(["a red car", "a blue boat"])
    with torch.no_grad():
        raw: Tensor = backbone.predict(net, x, torch.tensor([499, 499]), cond).raw
    return raw


def by_hand(folder: Path, weights: dict[str, Tensor], backbone: Any) -> Tensor:
    """The output of a stock network with these weights."""
    module = unet(folder)
    module.load_state_dict(weights)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    tokens = backbone.encode(["a red car", "a blue boat"]).tensors["tokens"]
    with torch.no_grad():
        found: Tensor = module(x, 499, encoder_hidden_states=tokens).sample
    return found


def adopt(build: Any, path: Path, **more: Any) -> tuple[Any, Any]:
    backbone = build("sd")
    net, _, _ = backbone.adopt("student", Published(str(path), **more))
    return backbone, net


FORMATS = ("kohya", "comfy", "diffusers", "peft", "pickle", "half")


@pytest.mark.parametrize("form", FORMATS)
def test_formats_of_lora(form: str, folders: Folders, build: Any, tmp_path: Path) -> None:
    """Every linear layer and convolution, each with its own rank and alpha."""
    layers = made.layers_of(unet(folders("sd")))
    path = tmp_path / ("x.pt" if form == "pickle" else "x.safetensors")
    if form == "peft":
        path = made.peft(layers, tmp_path / "peft")
    elif form == "pickle":
        torch.save(made.diffusers(layers), path)
    elif form == "half":
        save_file({k: v.half() for k, v in made.kohya(layers).items()}, path)
    else:
        save_file(getattr(made, form)(layers), path)
    backbone, net = adopt(build, path, scale=0.5)
    assert not backbone.unfit(Published(str(path), scale=0.5))
    theirs = by_hand(folders("sd"), made.merged(unet(folders("sd")), layers, 0.5), backbone)
    tolerance = 2e-2 if form == "half" else 1e-5
    torch.testing.assert_close(output(backbone, net), theirs, rtol=0, atol=tolerance)


def test_79_layers_of_kohya_as_diffusers_loads_them(
    folders: Folders, build: Any, tmp_path: Path
) -> None:
    """Convolutions, a rank per layer, one alpha: within 1e-5 of diffusers' own load.

    (Of alphas that differ among the layers of attention, diffusers 0.42 drops all: see the test of
    formats, which holds ours against the file.)
    """
    layers = {n: (d, u, 3.0) for n, (d, u, _) in made.layers_of(unet(folders("sd"))).items()}
    assert len(layers) == 79
    assert sum(down.shape[2:] == (3, 3) for down, _, _ in layers.values()) > 9
    path = tmp_path / "kohya.safetensors"
    save_file(made.kohya(layers), path)
    backbone, net = adopt(build, path)
    pipe = stock.StableDiffusionPipeline.from_pretrained(folders("sd"), safety_checker=None)
    pipe.load_lora_weights(str(path))
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    tokens = backbone.encode(["a red car", "a blue boat"]).tensors["tokens"]
    with torch.no_grad():
        theirs = pipe.unet(x, 499, encoder_hidden_states=tokens).sample
    torch.testing.assert_close(output(backbone, net), theirs, rtol=0, atol=1e-5)


def test_a_layer_without_alpha_is_not_scaled(folders: Folders, build: Any, tmp_path: Path) -> None:
    layers = made.layers_of(unet(folders("sd")), most=3)
    state = made.kohya(layers)
    gone = [k for k in state if k.endswith(".alpha")][1]
    del state[gone]
    save_file(state, tmp_path / "x.safetensors")
    plain = {n: (d, u, float(len(d)) if gone.startswith(f"lora_unet_{n.replace('.', '_')}.") else a)
             for n, (d, u, a) in layers.items()}  # fmt: skip
    backbone, net = adopt(build, tmp_path / "x.safetensors")
    theirs = by_hand(folders("sd"), made.merged(unet(folders("sd")), plain), backbone)
    torch.testing.assert_close(output(backbone, net), theirs, rtol=0, atol=1e-5)


def test_metadata_states_the_alpha(folders: Folders, build: Any, tmp_path: Path) -> None:
    """What diffusers itself saves, read back as it reads it."""
    from peft import LoraConfig

    pipe = stock.StableDiffusionPipeline.from_pretrained(folders("sd"), safety_checker=None)
    pipe.unet.add_adapter(LoraConfig(r=4, lora_alpha=1, target_modules=["to_q", "conv1"]))
    with torch.no_grad():
        for name, value in pipe.unet.named_parameters():
            if "lora_" in name:
                value.copy_(torch.randn_like(value))
    from peft.utils import get_peft_model_state_dict

    stock.StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=get_peft_model_state_dict(pipe.unet),
        unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict(),
    )  # fmt: skip
    backbone, net = adopt(build, tmp_path)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    tokens = backbone.encode(["a red car", "a blue boat"]).tensors["tokens"]
    with torch.no_grad():
        theirs = pipe.unet(x, 499, encoder_hidden_states=tokens).sample
    torch.testing.assert_close(output(backbone, net), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["safetensors", "bin", "folder", "fp16 folder", "ldm", "delta"])
def test_whole_networks(form: str, folders: Folders, build: Any, tmp_path: Path) -> None:
    base = unet(folders("sd"))
    rng = torch.Generator().manual_seed(5)
    change = {k: 0.05 * torch.randn(v.shape, generator=rng) for k, v in base.state_dict().items()}
    weights = {k: v + change[k] for k, v in base.state_dict().items()}
    path, kind, expected = tmp_path / "net.safetensors", "network", weights
    if form == "bin":
        path = tmp_path / "net.bin"
        torch.save(weights, path)
    elif "folder" in form:
        other = unet(folders("sd"))
        other.load_state_dict(weights)
        path = tmp_path / "net"
        half = "fp16" in form
        (other.half() if half else other).save_pretrained(path, variant="fp16" if half else None)
        expected = {k: v.half().float() if half else v for k, v in weights.items()}
    elif form == "delta":
        save_file({k: v / 2 for k, v in change.items()}, path)
        kind = "delta"
    else:
        save_file(ldm(weights) if form == "ldm" else weights, path)
    scale = 2.0 if kind == "delta" else 1.0
    published: dict[str, Any] = {"kind": kind, "scale": scale}
    backbone, net = adopt(build, path, **published)
    assert not backbone.unfit(Published(str(path), **published))
    theirs = by_hand(folders("sd"), expected, backbone)
    torch.testing.assert_close(output(backbone, net), theirs, rtol=0, atol=1e-5)


def ldm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of a single-file checkpoint, for the blocks of the small network."""
    tops = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
            "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
            "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
            "mid_block.resnets.1": "middle_block.2",
            "down_blocks.0.resnets.0": "input_blocks.1.0",
            "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
            "down_blocks.1.resnets.0": "input_blocks.3.0",
            "down_blocks.1.attentions.0": "input_blocks.3.1",
            "up_blocks.0.resnets.0": "output_blocks.0.0",
            "up_blocks.0.attentions.0": "output_blocks.0.1",
            "up_blocks.0.resnets.1": "output_blocks.1.0",
            "up_blocks.0.attentions.1": "output_blocks.1.1",
            "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
            "up_blocks.1.resnets.0": "output_blocks.2.0",
            "up_blocks.1.resnets.1": "output_blocks.3.0"}  # fmt: skip
    inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
             "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
             "conv_shortcut": "skip_connection"}  # fmt: skip
    out = {}
    for key, value in weights.items():
        top = next(t for t in tops if key.startswith(f"{t}."))
        rest = key.removeprefix(f"{top}.")
        first = rest.split(".")[0]
        if "resnets" in top:
            rest = rest.replace(first, inner[first], 1)
        out[f"model.diffusion_model.{tops[top]}.{rest}"] = value
    return out


# ---- what is refused ----------------------------------------------------------------------


def refusals(build: Any, path: Path, **more: Any) -> str:
    backbone = build("sd")
    return "; ".join(backbone.unfit(Published(str(path), **more)))


def test_other_architectures_are_refused_by_their_headers(
    folders: Folders, build: Any, tmp_path: Path
) -> None:
    other = stock.UNet2DConditionModel.from_pretrained(folders("sdxl") / "unet")
    layers = made.layers_of(other, every_linear=True)
    for form in ("kohya", "comfy", "diffusers"):
        save_file(getattr(made, form)(layers), tmp_path / f"{form}.safetensors")
        found = refusals(build, tmp_path / f"{form}.safetensors")
        assert "of another base" in found, found
    unknown = {f"blocks.{i}.to_q": (torch.ones(2, 8), torch.ones(8, 2), 1.0) for i in range(5)}
    save_file(made.diffusers(unknown), tmp_path / "unknown.safetensors")
    found = refusals(build, tmp_path / "unknown.safetensors")
    assert "5 of 5 layers are none of the network's: blocks.0.to_q" in found
    assert "it has" in found
    save_file(dict(other.state_dict()), tmp_path / "whole.safetensors")
    found = refusals(build, tmp_path / "whole.safetensors", kind="network")
    assert "not known" in found
    assert "holds an adapter" in refusals(build, tmp_path / "kohya.safetensors", kind="network")


@pytest.mark.parametrize(
    ("key", "shape", "said"),
    [
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", (2, 4), "text encoder"),
        ("lora_unet_mid_block_resnets_0_conv1.dora_scale", (1,), "DoRA"),
        ("lora_unet_mid_block_resnets_0_conv1.lora_mid.weight", (1,), "are of no LoRA"),
        ("lora_unet_mid_block_resnets_0_conv1.diff_b", (1,), "are of no LoRA"),
        ("lora_unet_mid_block_resnets_0_conv1.lora_up.weight", (16, 9, 1, 1), "rank"),
    ],
)
def test_parts_that_would_not_be_used_are_named(
    key: str, shape: tuple[int, ...], said: str, folders: Folders, build: Any, tmp_path: Path
) -> None:
    state = made.kohya(made.layers_of(unet(folders("sd"))))
    state[key] = torch.ones(shape)
    save_file(state, tmp_path / "x.safetensors")
    found = refusals(build, tmp_path / "x.safetensors")
    assert said in found
    assert "\n" not in found


class _Runs:
    def __reduce__(self) -> Any:
        return (eval, ("print('a pickle ran code')",))


def test_a_pickle_with_code_is_refused_and_never_run(
    build: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": torch.ones(2), "b": _Runs()}, tmp_path / "x.pt")
    found = refusals(build, tmp_path / "x.pt")
    assert "runs code (__builtin__.eval)" in found
    with pytest.raises(BadInput, match="no pickle of plain tensors"):
        adopt(build, tmp_path / "x.pt")
    assert "a pickle ran code" not in capsys.readouterr().out


def test_a_family_that_is_not_its_own_is_refused_by_the_catalogue(build: Any) -> None:
    """Before anything is fetched; what is of no known family is left to the headers."""
    for family, name, said in (
        ("sdxl", "hyper-sd15-4step", "is for sd, the backbone is of sdxl"),
        ("tiny-sd", "sdxl-turbo", "is for sdxl, the backbone is of sd"),
    ):
        backbone = registry.build_backbone(family, {})
        with pytest.raises(NotSupported, match=said):
            registry.build_method("pretrained", {"recipe": name}, backbone)
    for family in ("tiny-sd", "gmm"):
        params = {"recipe": "hyper-sd15-4step"}
        registry.build_method("pretrained", params, registry.build_backbone(family, {}))


def test_damaged_files_are_refused(folders: Folders, build: Any, tmp_path: Path) -> None:
    state = made.kohya(made.layers_of(unet(folders("sd")), most=2))
    save_file(state, tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[:-7])
    assert "truncated" in refusals(build, tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"nonsense")
    assert "no whole safetensors file" in refusals(build, tmp_path / "y.safetensors")
    nameless = {"decay": 0.99, "ema_parameters": list(state.values())}  # TDM's of SD3.5
    torch.save(nameless, tmp_path / "list.ckpt")
    assert "holds no plain table of tensors" in refusals(build, tmp_path / "list.ckpt")
    (tmp_path / "z.pt").write_bytes(b"nonsense")
    assert "no whole file of torch.save" in refusals(build, tmp_path / "z.pt")
