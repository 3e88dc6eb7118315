"""ControlNets and IP-Adapters on students: pictures are those of stock diffusers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import diffusers as stock
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from distillbench.analysis.check import checked_plan
from distillbench.api.published import Published
from distillbench.api.samplers import OdeSampler
from distillbench.api.steering import Made, Steer
from distillbench.backbones._steered import Steering
from distillbench.data.steering import control_picture
from distillbench.errors import BadInput, NotSupported
from distillbench.experiment.load import load_experiment
from distillbench.sample.generate import generate_images
from distillbench.sample.pace import pace
from distillbench.specs.stages import SampleSpec
from distillbench.student.files import load_student
from distillbench.student.placed import Placed
from distillbench.world import weights

HERE = Path(__file__).parent
made: Any = SourceFileLoader("published", str(HERE / "published.py")).load_module()
small: Any = SourceFileLoader("steering", str(HERE / "steering.py")).load_module()
Folders = Callable[[str], Path]
PROMPTS = ["a red car", "a blue square"]
RECIPE = OdeSampler(timesteps=(999, 749, 499, 249), guidance_scale=3.0)
PIPELINES = {"sd": stock.StableDiffusionControlNetPipeline,
             "sdxl": stock.StableDiffusionXLControlNetPipeline}  # fmt: skip


def student_of(family: str, base: Path, folder: Path, kind: str = "lora") -> Any:
    """The network that stock diffusers should have; the run lies in `folder`."""
    network = stock.UNet2DConditionModel.from_pretrained(base / "unet")
    layers = {n: (d / 5, u / 5, a) for n, (d, u, a) in made.layers_of(network).items()}
    whole = made.merged(network, layers)
    save_file(made.kohya(layers) if kind == "lora" else whole, folder / "x.safetensors")
    params = {"weights": str(folder / "x.safetensors"), "kind": kind}
    made.adopted(folder / "run", family, {"model": str(base)}, params)
    network.load_state_dict(whole)
    return network


def alone(items: list[Any]) -> Any:
    """The way pipelines take one ControlNet."""
    return items if len(items) > 1 else items[0]


def drawn(student: Any) -> np.ndarray:
    return generate_images(student, PROMPTS, sampler=RECIPE).numpy().astype(float)


@pytest.mark.parametrize("kind", ["lora", "network"])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_pictures_are_those_of_stock_pipelines(
    family: str, kind: str, folders: Folders, same_noise: Any, tmp_path: Path
) -> None:
    """ControlNets (stock SDXL takes one) and an IP-Adapter, guided; at most one grey level."""
    base = folders(family)
    network = student_of(family, base, tmp_path, kind)
    nets = [small.control_net(network, tmp_path / f"net{i}", times=2, seed=i)
            for i in range(2 if family == "sd" else 1)]  # fmt: skip
    seen = small.pictures(tmp_path / "seen", 3)
    small.pictures(tmp_path / "shown", 2)
    adapter = small.image_prompt(network, tmp_path / "ip.safetensors")
    encoder = small.encoder(tmp_path / "encoder")
    controls = [Steer("control", Published(str(net), "network"), str(tmp_path / "shown"), scale)
                for net, scale in zip(nets, (0.8, 0.4))]  # fmt: skip
    prompt = Steer("image_prompts", Published(str(adapter), "network"), str(seen[2]), 0.6,
                   encoder=Published(str(encoder), "pipeline"))  # fmt: skip
    pipe = PIPELINES[family].from_pretrained(
        base, unet=network,
        controlnet=alone([stock.ControlNetModel.from_pretrained(n) for n in nets]),
        **({"safety_checker": None} if family == "sd" else {"add_watermarker": False}),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    plain = drawn(load_student(tmp_path / "run"))
    before = plain
    shown = [control_picture(p, Made(), (16, 16)) for p in sorted((tmp_path / "shown").iterdir())]
    for steers in ((*controls,), (*controls, prompt)):
        student = load_student(tmp_path / "run", placed=Placed(steers=steers))
        backbone = student.method.backbone
        ours = drawn(student)
        more: dict[str, Any] = {}
        if prompt in steers:
            pipe.register_modules(image_encoder=backbone.pipe.image_encoder)
            pipe.load_ip_adapter(str(tmp_path), subfolder="", weight_name="ip.safetensors",
                                 image_encoder_folder=None)  # fmt: skip
            pipe.set_ip_adapter_scale(0.6)
            more = {"ip_adapter_image": Image.open(seen[2])}
        same_noise(backbone, len(PROMPTS))
        theirs = pipe(
            PROMPTS, image=alone([shown for _ in nets]),
            controlnet_conditioning_scale=alone([steer.scale for steer in controls]),
            guidance_scale=3.0, num_inference_steps=4, output_type="np", **more,
            **backbone.call_arguments(),
        ).images  # fmt: skip
        away = np.abs(np.round(theirs * 255) - ours)
        assert away.max() <= 1, f"{away.max()} grey levels, {(away > 0).mean():.3f} of the values"
        assert np.abs(ours - before).max() > 8, np.abs(ours - before).max()
        before = ours


def test_a_teacher_is_steered_too(folders: Folders, tmp_path: Path) -> None:
    base = folders("sd")
    network = student_of("sd", base, tmp_path)
    net = small.control_net(network, tmp_path / "net", times=2)
    (tmp_path / "run/net.json").unlink()
    (tmp_path / "run/student.safetensors").unlink()
    picture = small.pictures(tmp_path / "shown", 1)[0]
    steer = Steer("control", Published(str(net), "network"), str(picture))
    plain, one = (drawn(load_student(tmp_path / "run", placed=Placed(steers=steers)))
                  for steers in ((), (steer,)))  # fmt: skip
    assert np.abs(plain - one).max() > 8


def test_a_steered_row_is_timed_as_it_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = stock.UNet2DConditionModel.from_pretrained(weights.folder("tiny-sd") / "unet")
    small.control_net(unet, tmp_path / "net", times=4)
    small.pictures(tmp_path / "shown", 2)
    (tmp_path / "e.yaml").write_text(
        "name: t\nbase: {backbone: tiny-sd, sample: {n: 2}}\n"
        "rows: [{method: teacher, nfe: 2, "
        f"control: [{{weights: {tmp_path}/net, images: {tmp_path}/shown}}]}}]\n"
    )
    plan = checked_plan(load_experiment(tmp_path / "e.yaml"))
    stage, calls = plan.stages[plan.cells[0].sample], []
    arguments = Steering.arguments

    def counted(self: Any, *given: Any) -> Any:
        calls.append(given)
        return arguments(self, *given)

    monkeypatch.setattr(Steering, "arguments", counted)
    found = pace(
        stage.read(SampleSpec), stage.options, device="cpu", updates=1, precision="float32"
    )
    assert found["updates"] == 2
    assert len(calls) == 2 * 2  # one batch to begin with, one that is timed


def test_edges_are_made_of_pictures(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: no edges were made")
    picture = small.pictures(tmp_path / "shown", 1, side=64)[0]
    edges = np.asarray(control_picture(picture, Made("canny"), (64, 64)))
    assert set(np.unique(edges)) == {0, 255}
    assert 30 < (edges[..., 0] > 0).sum() < 120  # the outline of a box, 16 by 16
    assert (edges[10:22, 7:17] == 0).all()


def test_edges_without_opencv_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    picture = small.pictures(tmp_path / "shown", 1)[0]
    with pytest.raises(NotSupported, match="OpenCV, which is not installed"):
        control_picture(picture, Made("canny"), (64, 64))


# ---- what does not fit --------------------------------------------------------------------


def unfit(backbone: Any, steer: Steer) -> str:
    return "; ".join(backbone.unfit_steer(steer))


def test_headers_tell_what_is_of_another_base(folders: Folders, tmp_path: Path) -> None:
    from distillbench.api import registry

    backbones = {f: registry.build_backbone(f, {"model": str(folders(f))})
                 for f in ("sd", "sdxl", "pixart")}  # fmt: skip
    unets = {f: stock.UNet2DConditionModel.from_pretrained(folders(f) / "unet")
             for f in ("sd", "sdxl")}  # fmt: skip
    encoder = Published(str(small.encoder(tmp_path / "encoder")), "pipeline")
    other = Published(str(small.encoder(tmp_path / "other", 20)), "pipeline")
    for family, unet in unets.items():
        net = small.control_net(unet, tmp_path / f"net-{family}", times=2)
        file = small.image_prompt(unet, tmp_path / f"{family}.safetensors")
        control = Steer("control", Published(str(net), "network"), "")
        prompt = Steer("image_prompts", Published(str(file), "network"), "", encoder=encoder)
        wrong = {"sd": "sdxl", "sdxl": "sd"}[family]
        assert not unfit(backbones[family], control)
        assert not unfit(backbones[family], prompt)
        assert "of another base" in unfit(backbones[wrong], control)
        assert "of another base" in unfit(backbones[wrong], prompt)
        assert "takes no ControlNets" in unfit(backbones["pixart"], control)
    unread = Steer("image_prompts", prompt.weights, "", encoder=other)
    assert "reads 12 numbers of a picture, the encoder in" in unfit(backbones["sdxl"], unread)
    wide = stock.UNet2DConditionModel.from_config(
        {**unets["sd"].config, "block_out_channels": (8, 24)}
    )
    net = small.control_net(wide, tmp_path / "wide", times=2)
    line = unfit(backbones["sd"], Steer("control", Published(str(net), "network"), ""))
    assert "adds to layers of widths 8, 8, 8, 24, the network has 8, 8, 8, 16" in line
    swapped = Steer("control", prompt.weights, "")
    assert "config.json" in unfit(backbones["sd"], swapped)
    swapped = Steer("image_prompts", Published(str(net), "network"), "", encoder=encoder)
    assert "no IP-Adapter in .safetensors" in unfit(backbones["sd"], swapped)


def test_other_bytes_than_planned_are_refused(folders: Folders, tmp_path: Path) -> None:
    network = student_of("sd", folders("sd"), tmp_path)
    net = small.control_net(network, tmp_path / "net", times=2)
    steer = Steer("control", Published(str(net), "network", sha256="0" * 64), "x")
    with pytest.raises(BadInput, match="sha256 is"):
        load_student(tmp_path / "run", placed=Placed(steers=(steer,)))
