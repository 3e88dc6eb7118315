"""Image complexity: ICNet step by step, the file that it takes, and files that it refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, interpolate, linear, max_pool2d
from torchvision import transforms

from distillbench.analysis.check import checked_plan
from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.errors import BadInput, ConfigError
from distillbench.experiment.load import load_experiment
from distillbench.score.complexity import ComplexityNet
from distillbench.score.complexity_file import mistaken, ours, published
from distillbench.score.evaluate import evaluate
from distillbench.score.features import read_state

SEEN = transforms.Compose([
    transforms.Resize((512, 512)), transforms.ToTensor(),
    transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
])  # fmt: skip
"""What the published scores see of a picture, by the library that they were made with."""


def scored(file: Path, samples: Samples) -> list[float]:
    return list(evaluate(build_metric("image_complexity", {"weights": str(file)}), samples)
                .per_sample[""])  # fmt: skip


def some(samples: Samples, count: int) -> Samples:
    return dataclasses.replace(samples, data=samples.data[:count], prompts=samples.prompts[:count],
                               categories=samples.categories[:count])  # fmt: skip


class Plain:
    """The network by the published names alone, one operation after another."""

    def __init__(self, file: Path) -> None:
        self.state: dict[str, Tensor] = torch.load(file, weights_only=True)

    def conv(self, x: Tensor, name: str, **more: int) -> Tensor:
        return conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), **more)

    def norm(self, x: Tensor, name: str) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        return batch_norm(x, *(self.state[f"{name}.{part}"] for part in parts))

    def perceptron(self, x: Tensor, name: str) -> Tensor:
        for number in (0, 2):
            layer = f"{name}.{number}"
            x = linear(x, self.state[f"{layer}.weight"], self.state[f"{layer}.bias"])
            x = x.relu() if number == 0 else x.sigmoid()
        return x

    def slam(self, x: Tensor, name: str, side: int) -> Tensor:
        grid = interpolate(x, (side, side), mode="bilinear", align_corners=True)
        factors = self.perceptron(grid.reshape(*x.shape[:2], side**2), f"{name}_slam.linear")
        return x * factors.reshape(*x.shape[:2], 1, 1)

    def stage(self, x: Tensor, name: str, stride: int) -> Tensor:
        for block, step in ((0, stride), (1, 1)):
            at = f"{name}.{block}"
            y = self.norm(self.conv(x, f"{at}.conv1", stride=step, padding=1), f"{at}.bn1").relu()
            y = self.norm(self.conv(y, f"{at}.conv2", padding=1), f"{at}.bn2")
            if f"{at}.downsample.0.weight" in self.state:
                x = self.norm(self.conv(x, f"{at}.downsample.0", stride=step), f"{at}.downsample.1")
            x = (x + y).relu()
        return x

    def branch(self, x: Tensor, name: str, grids: tuple[int, ...]) -> Tensor:
        x = self.norm(self.conv(x, f"{name}_1.0", stride=2, padding=3), f"{name}_1.1").relu()
        x = self.stage(max_pool2d(x, 3, 2, 1), f"{name}_1.4", 1)
        x = self.slam(x, f"{name}_1", grids[0])
        for number, grid in enumerate(grids[1:], 2):
            x = self.slam(self.stage(x, f"{name}_{number}", 2), f"{name}_{number}", grid)
        return x

    @torch.no_grad()
    def __call__(self, picture: Tensor) -> float:
        x = SEEN(Image.fromarray(picture.numpy()))[None]
        small = interpolate(x, (256, 256), mode="bilinear", align_corners=True)
        near = self.branch(x, "b1", (32, 32))
        far = self.branch(small, "b2", (32, 32, 16, 8))
        assert near.shape[1:] == (128, 64, 64)
        assert far.shape[1:] == (512, 8, 8)
        far = interpolate(far, (64, 64), mode="bilinear", align_corners=True)
        both = [self.norm(self.conv(y, f"{up}.conv"), f"{up}.bn").relu()
                for y, up in ((near, "up1"), (far, "up2"))]  # fmt: skip
        y = self.conv(torch.cat(both, dim=1), "to_score_f.conv", padding=1)
        y = self.slam(self.norm(y, "to_score_f.bn").relu(), "to_score_f", 32)
        return float(self.perceptron(y.mean(dim=(2, 3)), "head"))


def test_scores_are_those_of_the_operations_one_by_one(complexity: Path, pictures: Samples) -> None:
    plain, few = Plain(complexity), some(pictures, 3)
    expected = [plain(picture) for picture in few.data]
    assert max(expected) - min(expected) > 0.05
    assert scored(complexity, few) == pytest.approx(expected, abs=1e-6)
    assert scored(complexity, some(few, 1)) == pytest.approx(expected[:1], abs=1e-6)


def test_a_picture_has_its_score_in_any_batch(
    complexity: Path, pictures: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one batch of eight, and each alone; twice the same, to the bit."""
    monkeypatch.setattr(ComplexityNet, "side", 64)
    data = torch.cat([pictures.data, pictures.data.flip(1)])
    names = [f"p{i}" for i in range(12)]
    whole = Samples(data, names, [""] * 12, 0)
    values = scored(complexity, whole)
    assert all(0 <= value <= 1 for value in values)
    assert max(values) - min(values) > 0.2
    alone = [scored(complexity, dataclasses.replace(whole, data=data[i : i + 1], prompts=[name],
                                                    categories=[""]))[0]
             for i, name in enumerate(names)]  # fmt: skip
    assert values == pytest.approx(alone, abs=1e-5)
    assert scored(complexity, whole) == values


@pytest.mark.parametrize("shape", [(512, 512), (1024, 768), (33, 80), (1, 9)])
def test_pictures_become_squares_as_the_published_scores_had_them(
    complexity: Path, shape: tuple[int, int]
) -> None:
    rng = torch.Generator().manual_seed(1)
    data = torch.randint(0, 256, (2, *shape, 3), generator=rng).to(torch.uint8)
    theirs = torch.stack([SEEN(Image.fromarray(picture.numpy())) for picture in data])
    metric: Any = build_metric("image_complexity", {"weights": str(complexity)})
    metric.load()
    found = metric._net.pixels(data)
    assert found.shape == (2, 3, 512, 512)
    assert torch.equal(found, theirs)


# ---- the file ------------------------------------------------------------------------------


def test_names_and_shapes_are_the_published_ones() -> None:
    """Counted on a state dict of the authors' network; spelled out where a slip would hide."""
    shapes = published()
    assert len(shapes) == 246
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 20_342_700
    spelled = {
        "b1_1.0.weight": (64, 3, 7, 7), "b1_1.4.1.bn2.running_var": (64,),
        "b1_1_slam.linear.0.weight": (512, 1024), "b1_2.0.downsample.0.weight": (128, 64, 1, 1),
        "b2_3_slam.linear.0.weight": (512, 256), "b2_4.1.conv2.weight": (512, 512, 3, 3),
        "b2_4_slam.linear.0.weight": (512, 64), "up1.conv.weight": (256, 128, 1, 1),
        "up2.conv.bias": (256,), "to_map_f.conv.weight": (512, 512, 3, 3),
        "to_map.to_map.0.weight": (1, 512, 1, 1), "to_score_f_slam.linear.2.weight": (1, 512),
        "to_score_f.bn.num_batches_tracked": (), "head.2.bias": (1,),
    }  # fmt: skip
    assert {name: shapes[name] for name in spelled} == spelled
    unused = {name for name in shapes if not ours(name)}
    assert unused == {name for name in shapes if name.startswith("to_map")}


def test_a_wrapped_state_dict_and_safetensors_are_read_too(
    complexity: Path, tmp_path: Path, pictures: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    monkeypatch.setattr(ComplexityNet, "side", 64)
    state, expected = read_state(complexity), scored(complexity, pictures)
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "ck.pth")
    save_file(state, tmp_path / "ck.safetensors")
    for name in ("ck.pth", "ck.safetensors"):
        assert scored(tmp_path / name, pictures) == expected
    (tmp_path / "ck.pth").unlink()
    assert scored(tmp_path, pictures) == expected  # a folder of one


def _lacking(state: dict[str, Tensor]) -> Any:
    return {name: value for name, value in state.items() if name != "up2.conv.bias"}


def _odd(state: dict[str, Tensor]) -> Any:
    return {**state, "fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}


def _reshaped(state: dict[str, Tensor]) -> Any:
    return {**state, "to_score_f_slam.linear.0.weight": torch.zeros(512, 256)}


class Code:
    """Loading it would run something."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("it ran",)


WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "lacking": (_lacking, "it lacks up2.conv.bias"),
    "odd": (_odd, "it has fc.weight, and 1 more"),
    "reshaped": (
        _reshaped,
        "it has to_score_f_slam.linear.0.weight of shape 512x256, not 512x1024",
    ),
    "empty": (lambda _: {}, "it lacks up1.conv.weight, and 245 more"),
    "code": (lambda state: {**state, "head": Code()}, "is a pickle that runs code"),
    "tensor": (lambda _: torch.zeros(2), "holds no plain table of tensors"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_another_file_is_refused_in_one_line_when_planned(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Headers decide: the tensors of this file are one number each, seen at every place."""
    make, expected = WRONG[kind]
    state = {name: torch.zeros(()).expand(shape) for name, shape in published().items()}
    file = tmp_path / "ck.pth"
    torch.save(make(state), file)
    told = planned(tmp_path, file)
    (line,) = [line for line in told.splitlines() if "ICNet" in line]
    assert f"{file} is no checkpoint of ICNet: " in line
    assert expected in line
    with pytest.raises(BadInput, match="no checkpoint of ICNet"):
        build_metric("image_complexity", {"weights": str(file)}).load()
    assert "it ran" not in capsys.readouterr().out


def test_files_that_torch_did_not_write_are_refused(complexity: Path, tmp_path: Path) -> None:
    for name in ("ck.pth", "ck.safetensors"):
        (tmp_path / name).write_bytes(complexity.read_bytes()[:5000])
        what = mistaken(tmp_path / name)
        assert "is no checkpoint of ICNet: " in what
        assert len(what.splitlines()) == 1


def planned(folder: Path, file: Path) -> str:
    """What planning says of pictures of tiny-sd that this file shall score."""
    params = json.dumps({"weights": str(file)})
    (folder / "e.yaml").write_text(
        "name: t\nbase: {backbone: tiny-sd, nfe: 2, sample: {n: 2}}\nrows: [{method: teacher}]\n"
        f"metrics: [{{use: image_complexity, params: {params}}}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        checked_plan(load_experiment(folder / "e.yaml"))
    return str(caught.value)


def test_without_the_published_file_it_is_planned_and_says_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    metric = build_metric("image_complexity", {})
    assert metric.problems() == ()
    assert metric.revision()
    (need,) = metric.requirements(4)
    assert "tinglyfeng/IC9600" in need.line
    assert "81.5 MB, no licence stated" in need.line
    assert "no checkpoint of ICNet" not in need.line
    place = tmp_path / "weights" / "ic9600" / "ck.pth"
    place.parent.mkdir(parents=True)
    torch.save({"a": torch.zeros(1)}, place)
    (what,) = metric.problems()
    assert what.startswith(f"{place} is no checkpoint of ICNet: it lacks")
