"""Rows that ControlNets and IP-Adapters steer, as they are planned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from distillbench.data import rendered
from distillbench.data.prompts import load_prompts
from distillbench.data.steering import pictures_place, steering_pictures
from distillbench.plan.requirements import requirements
from distillbench.plan.stage import Plan
from distillbench.run import calibrate
from distillbench.store.layout import Store
from distillbench.world.data import renders_of

PlanOf = Callable[..., Plan]
ErrorsOf = Callable[..., list[str]]
HEAD = """\
name: t
backbones: {base: {use: sd, params: {model: a/base}}}
base: {backbone: base, train: {updates: 10}, data: {prompts: world-train},
       sample: {n: 4, prompts: world-eval}, nfe: 4}
metrics: [fid]
reference: {method: teacher}
"""
CONTROL = "{weights: net, images: shown}"
PIXELS = "81926c674b04910206a65ff5e7a4ec58bf87519274798848975576fc4904c832"


def tensors(path: Path, shapes: dict[str, list[int]]) -> None:
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)


def files() -> None:
    Path("net").mkdir()
    Path("net/config.json").write_text('{"_class_name": "ControlNetModel"}')
    tensors(
        Path("net/diffusion_pytorch_model.safetensors"), {"controlnet_down_blocks.0.weight": [8]}
    )
    Path("shown").mkdir()
    for i in range(4):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(f"shown/{i}.png")


def rows(*controls: str) -> str:
    listed = [f"  - {{label: R{i}, method: tdm, control: [{its}]}}" if its else
              f"  - {{label: R{i}, method: tdm}}" for i, its in enumerate(controls)]  # fmt: skip
    return "\n".join(["rows:", *listed, ""])


def test_they_are_of_samples_and_of_the_reference(plan_of: PlanOf) -> None:
    files()
    edges = "{weights: net, images: shown, make: canny, low: 50}"
    text = rows("", CONTROL, CONTROL.replace("}", ", scale: 0.5}"), edges)
    plan = plan_of(text, head=HEAD)
    assert len({cell.train for cell in plan.cells}) == 1
    assert len({cell.sample for cell in plan.cells}) == 4
    plain, one, _, edged = plan.cells
    assert "control" not in plan.stages[plain.sample].spec
    (spec,) = plan.stages[one.sample].spec["control"]
    assert sorted(spec) == ["images", "scale", "weights"]
    assert plan.stages[edged.sample].spec["control"][0]["low"] == 50
    assert plan.stages[one.sample].options.places == {
        "control": [{"weights": "net", "images": "shown"}]
    }
    reference = plan.stages[plan.stages[one.scores["fid"]].spec["reference"]]
    assert reference.spec["control"] == [spec]
    needs = [n.need for n in requirements(plan, Store("store")) if n.need.name == "cv2"]
    assert len(needs) == 1
    Path("shown").rename("moved")
    again = plan_of(text.replace("shown", "moved"), head=HEAD)
    assert [c.sample for c in again.cells] == [c.sample for c in plan.cells]  # places are in no key
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save("moved/2.png")
    other = plan_of(text.replace("shown", "moved"), head=HEAD)
    assert other.cells[1].sample != plan.cells[1].sample


def test_what_is_missing_or_does_not_fit(plan_of: PlanOf, errors_of: ErrorsOf) -> None:
    files()

    def said(control: str) -> str:
        lines = errors_of(rows(control), head=HEAD)
        assert len(lines) == 1, lines
        return lines[0]

    gone = said("{weights: gone/, images: shown}")
    assert gone.startswith("e.yaml:8:41: rows[0].control[0].weights: no weights in gone/")
    assert "images: no folder nowhere" in said("{weights: net, images: ./nowhere}")
    assert "low and high are of edges" in said("{weights: net, images: shown, low: 3}")
    assert "make" in said("{weights: net, images: shown, make: depth}")
    Path("shown/3.png").unlink()
    assert "3 files for 4 samples" in said(CONTROL)
    Path("shown/3.png").write_text("x")
    assert "shown/3.png" in said(CONTROL)
    Path("net/config.json").write_text('{"_class_name": "SD3ControlNetModel"}')
    assert "is no ControlNetModel" in said("{weights: net, images: shown/1.png}")
    plan = plan_of(rows("{weights: a/net, images: shown/1.png}"), head=HEAD)
    lines = [n.need.line for n in requirements(plan, Store("store")) if n.need.problem]
    assert any("hf download a/net" in line for line in lines)


def test_pictures_of_the_world_are_drawn_for_its_prompts(
    plan_of: PlanOf, errors_of: ErrorsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan knows them without drawing them; a folder of that name goes before."""
    files()
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    control = "{weights: net, images: world-renders, make: canny}"
    plan = plan_of(rows(control), head=HEAD)
    (spec,) = plan.stages[plan.cells[0].sample].spec["control"]
    assert not (tmp_path / "cache" / "renders").exists()
    needs = [n.need for n in requirements(plan, Store("store")) if n.need.kind == "images"]
    assert not [need for need in needs if need.problem]
    prompts = load_prompts("world-eval")
    found = steering_pictures(pictures_place("world-renders"), prompts, 4)
    assert found.sha256 == spec["images"]
    assert len({path.read_bytes() for path in found.files}) == 4
    other = plan_of(rows(control), head=HEAD.replace("n: 4", "n: 5")).cells[0]
    assert plan.cells[0].sample != other.sample
    Path("words.txt").write_text("a quadratic unicorn\n")
    head = HEAD.replace("world-eval", "words.txt")
    assert "images: " in errors_of(rows(control), head=head)[0]
    Path("shown").rename("world-renders")
    moved = plan_of(rows(control), head=HEAD).stages[
        plan_of(rows(control), head=HEAD).cells[0].sample
    ]
    assert moved.spec["control"][0]["images"] != spec["images"]


def test_the_drawings_are_those_of_their_number() -> None:
    """Where this fails, raise `rendered.DRAWINGS` too: keys of steered rows must change."""
    prompts = load_prompts("world-eval").prompts[:8]
    pixels = renders_of(prompts, seed=rendered.SEED).tobytes()
    assert rendered.DRAWINGS == 1
    assert hashlib.sha256(pixels).hexdigest() == PIXELS


def test_a_steered_row_has_a_pace_of_its_own(plan_of: PlanOf) -> None:
    """Its pictures and scales change none."""
    files()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("one.png")
    plan = plan_of(
        rows("", CONTROL, "{weights: net, images: one.png, scale: 0.5}", f"{CONTROL}, {CONTROL}"),
        head=HEAD,
    )
    paces = [calibrate._digest(plan, plan.stages[cell.sample]) for cell in plan.cells]
    assert paces[1] == paces[2]
    assert len(set(paces)) == 3


def test_adapters_of_pictures(plan_of: PlanOf, errors_of: ErrorsOf) -> None:
    files()
    tensors(Path("ip.safetensors"), {"ip_adapter.1.to_k_ip.weight": [8, 8],
                                     "image_proj.proj.weight": [32, 12]})  # fmt: skip
    Path("eyes").mkdir()
    Path("eyes/config.json").write_text('{"projection_dim": 12}')
    Path("eyes/model.safetensors").write_bytes(b"x")
    row = "rows: [{label: A, method: tdm, image_prompts: [{weights: ip.safetensors, "
    row += "encoder: eyes, images: shown, scale: 0.6}]}]\n"
    plan = plan_of(row, head=HEAD)
    (spec,) = plan.stages[plan.cells[0].sample].spec["image_prompts"]
    assert (sorted(spec), spec["scale"]) == (["encoder", "images", "scale", "weights"], 0.6)
    Path("eyes/config.json").write_text('{"projection_dim": 20}')
    assert "reads 12 numbers of a picture" in errors_of(row, head=HEAD)[0]
    gmm = HEAD.replace("{use: sd, params: {model: a/base}}", "gmm").replace("fid", "mmd")
    gmm = gmm.replace("world-train", "gmm-train").replace("world-eval", "gmm-eval")
    assert "takes no ControlNets and IP-Adapters" in errors_of(row, head=gmm)[0]
