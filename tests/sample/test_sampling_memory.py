"""Memory of sampling: it moves with the batch and the guidance, as the pixels of the decoder do."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file

from distillbench.api import registry
from distillbench.api.published import Published
from distillbench.api.steering import Steer
from distillbench.outlines import Memory
from distillbench.sample.estimate import sampling_memory
from distillbench.student.placed import AS_TRAINED, Placed
from distillbench.world import weights

BESIDE = Path(__file__).parents[1] / "backbones"
small: Any = SourceFileLoader("steering", str(BESIDE / "steering.py")).load_module()
made: Any = SourceFileLoader("published", str(BESIDE / "published.py")).load_module()


def memory(
    name: str, batch: int = 8, *, backbone: str = "tiny-sd", placed: Placed = AS_TRAINED,
    **params: Any,
) -> Memory:  # fmt: skip
    method = registry.build_method(name, params, registry.build_backbone(backbone, {}))
    recipe = method.sampler(2)
    return sampling_memory(method, recipe, precision="float32", batch_size=batch, placed=placed)


def test_sizes_move_as_they_must() -> None:
    one, two = memory("lcm", 8), memory("lcm", 16)
    assert one.unknown == two.unknown == ""
    assert one.weights == two.weights
    assert one.passes < two.passes <= 2.1 * one.passes
    assert (one.trained, one.optimizer) == (0, 0)
    assert memory("teacher").weights < one.weights < memory("lcm", nets="copy").weights


def test_the_decoder_takes_its_own_chunks() -> None:
    """Above 16 pictures the network alone goes on to grow with the batch."""
    few, many = memory("lcm", 16), memory("lcm", 256)
    assert many.passes < 16 * few.passes
    assert many.turn == "the network"


@pytest.mark.parametrize("name", ["tdm", "dmd2", "tscd", "teacher"])
def test_samplers_run_without_a_number(name: str) -> None:
    found = memory(name)
    assert found.unknown == ""
    assert found.turn in ("the network", "decoding")
    assert found.passes > 0


def test_a_student_on_another_backbone_is_reckoned_there() -> None:
    bases = [registry.build_backbone("tiny-sd", {}) for _ in range(2)]
    method = registry.build_method("lcm", {"nets": "copy"}, bases[0])
    both = sampling_memory(
        method, method.sampler(2), precision="float32", batch_size=4, on=bases[1]
    )
    assert both.weights > memory("lcm", 4, nets="copy").weights


@pytest.mark.parametrize("backbone", ["tiny-sd", "tiny-sdxl"])
def test_what_steers_is_counted_by_its_bytes(backbone: str, tmp_path: Path) -> None:
    """ControlNets, an IP-Adapter and its image encoder; nothing of them is read but headers."""
    unet = UNet2DConditionModel.from_pretrained(weights.folder(backbone) / "unet")
    net = small.control_net(unet, tmp_path / "net", times=4)
    file = small.image_prompt(unet, tmp_path / "ip.safetensors")
    encoder = small.encoder(tmp_path / "encoder")
    control = Steer("control", Published(str(net), "network"), "x")
    prompt = Steer("image_prompts", Published(str(file), "network"), "x",
                   encoder=Published(str(encoder), "pipeline"))  # fmt: skip
    sizes = [
        sum(4 * tensor(opened, name) for name in opened.keys())  # noqa: SIM118
        for path in (next(net.glob("*.safetensors")), file, encoder / "model.safetensors")
        for opened in (safe_open(path, "pt"),)
    ]
    plain = memory("lcm", backbone=backbone, nets="copy")
    for steers, more in (((control,), sizes[0]), ((control,) * 2, 2 * sizes[0]),
                         ((control, prompt), sum(sizes))):  # fmt: skip
        found = memory("lcm", backbone=backbone, nets="copy", placed=Placed(steers=steers))
        assert found.unknown == ""
        assert abs(found.weights - plain.weights - more) <= 1024  # position ids of the encoder
        assert found.passes >= plain.passes


def tensor(opened: Any, name: str) -> int:
    size = 1
    for side in opened.get_slice(name).get_shape():
        size *= side
    return size


def test_an_adapter_on_top_leaves_nothing_and_is_counted_while_it_is_added(tmp_path: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(weights.folder("tiny-sd") / "unet")
    layers = {
        name: (down.new_zeros(512, *down.shape[1:]), up.new_zeros(len(up), 512, *up.shape[2:]), 1.0)
        for name, (down, up, _) in made.layers_of(unet).items()
    }
    save_file(made.kohya(layers), tmp_path / "wide.safetensors")
    placed = Placed(adapters=(Published(str(tmp_path / "wide.safetensors")),))
    plain, found = memory("teacher", 1), memory("teacher", 1, placed=placed)
    assert found.weights == plain.weights
    assert (found.turn, found.unknown) == ("adapters", "")
    assert found.passes > sum(d.nbytes + u.nbytes for d, u, _ in layers.values())
