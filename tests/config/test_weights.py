"""Rows of published weights are planned, or refused, from the files' headers alone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from distillbench.api.published import Published
from distillbench.errors import MissingWeights
from distillbench.plan.requirements import missing
from distillbench.store.layout import Store
from distillbench.world import weights

HEAD = """\
name: t
backbones: {b: {use: tiny-sd}}
base: {backbone: b, sample: {n: 2}, method: pretrained, nfe: 4}
"""
HUB = "owner/name:some.safetensors"
Errors = Callable[..., list[str]]


def adapter(wide: int = 0) -> dict[str, Any]:
    """A kohya LoRA of the tiny teacher's attention; `wide` is the text's width of another base."""
    file = next((weights.folder("tiny-sd") / "unet").glob("*.safetensors"))
    out: dict[str, Any] = {}
    with safe_open(file, "np") as opened:
        for name in opened.keys():  # noqa: SIM118
            if not name.endswith(("to_q.weight", "to_k.weight")):
                continue
            up, down = opened.get_slice(name).get_shape()
            down = wide if wide and "attn2.to_k" in name else down
            flat = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
            out |= {f"{flat}.lora_down.weight": np.ones((2, down), np.float32),
                    f"{flat}.lora_up.weight": np.ones((up, 2), np.float32),
                    f"{flat}.alpha": np.float32(1.0)}  # fmt: skip
    return out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({k: np.asarray(v) for k, v in adapter().items()}, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds nothing yet; returns where the named file would lie."""
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--owner--name" / "snapshots" / "main" / "some.safetensors"


def row(**params: Any) -> str:
    return f"rows: [{{label: A, params: {params!r}}}]\n".replace("'", '"')


def test_a_row_is_a_student_that_is_not_trained(plan_of: Any, file: Path) -> None:
    plan = plan_of(row(weights=str(file), nodes="lcm"), head=HEAD)
    (cell,) = plan.cells
    assert cell.ranked
    assert cell.updates == 0
    train, sample = plan.stages[cell.train], plan.stages[cell.sample]
    assert train.spec["method"]["weights"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "weights" not in train.spec["method"]["params"]
    assert sample.spec["sampler"]["timesteps"] == [999, 759, 499, 259]


def test_bytes_decide_the_key_and_their_place_does_not(
    plan_of: Any, file: Path, tmp_path: Path
) -> None:
    def key(path: Path, **more: Any) -> str:
        return str(plan_of(row(weights=str(path), **more), head=HEAD).cells[0].train)

    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(file.read_bytes())
    assert key(moved) == key(file) == key(file, note={"licence": "MIT"}, nodes=[999, 7, 6, 5])
    assert key(file, scale=0.5) != key(file)
    save_file({k: np.asarray(v * 2) for k, v in adapter().items()}, moved)
    assert key(moved) != key(file)


def test_a_sampler_of_another_kind_on_any_row(plan_of: Any, file: Path) -> None:
    """At the row's own times; also on rows that are trained here."""
    text = (
        f"rows: [{{label: A, params: {{weights: {file}}}, sampler: {{kind: gamma, gamma: 1.0}}}},\n"
        "  {method: lcm, label: B, sampler: {kind: ode, solver: dpmsolver++}}]\n"
    )
    plan = plan_of(text, head=HEAD)
    one, two = (plan.stages[c.sample].spec["sampler"] for c in plan.cells)
    assert (one["kind"], one["gamma"], one["timesteps"]) == ("gamma", 1.0, [999, 749, 499, 249])
    assert (two["kind"], two["solver"]) == ("ode", "dpmsolver++")
    assert two["timesteps"] == [999, 759, 499, 259]


def test_what_cannot_be_planned_is_one_line_each(
    errors_of: Errors, file: Path, tmp_path: Path
) -> None:
    def said(**params: Any) -> str:
        (line,) = errors_of(row(**params), head=HEAD)
        assert line.startswith("e.yaml:")
        return line

    assert "no such file or folder" in said(weights=str(tmp_path / "gone.safetensors"))
    assert "no weights are named" in said(scale=1.0)
    wrong = "0" * 64
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"sha256 is {found}, not {wrong}" in said(weights=str(file), sha256=wrong)
    assert "unknown checkpoint" in said(recipe="hyper-sd15-1stp")
    assert "Did you mean 'hyper-sd15-1step'?" in said(recipe="hyper-sd15-1stp")
    assert "never released" in said(recipe="tdm-sdxl")
    assert "not for 4" in said(weights=str(file), nodes={1: [999]})
    assert "cannot make nfe 4" in said(weights=str(file), nodes=[999])
    other = tmp_path / "sdxl.safetensors"
    save_file({k: np.asarray(v) for k, v in adapter(2048).items()}, other)
    assert "2048] in the file: of another base" in said(weights=str(other))
    uneven = adapter()
    uneven[next(k for k in uneven if k.endswith("up.weight"))] = np.ones((64, 7), np.float32)
    save_file({k: np.asarray(v) for k, v in uneven.items()}, other)
    assert "rank 2 on one side, 7 on the other" in said(weights=str(other))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"prediction": "velocity", "sampler": {"kind": "gamma"}}, "velocity is sampled by"),
        ({"prediction": "sample", "sampler": {"kind": "windows"}}, "windows read noise"),
        ({"gamma": 0.3}, "the ode sampler has none"),
        ({"scale": 0.5, "kind": "network"}, "multiplies a lora or a delta"),
        ({"nodes": "windows"}, "windows are of the windows sampler"),
    ],
)
def test_samplers_that_make_no_sense_are_refused(
    params: dict[str, Any], said: str, errors_of: Errors, file: Path
) -> None:
    assert said in errors_of(row(weights=str(file), **params), head=HEAD)[0]


def test_a_hub_file_that_is_not_here_names_its_command(
    plan_of: Any, hub: Path, tmp_path: Path
) -> None:
    plan = plan_of(row(weights=f"{HUB}@v1", note={"licence": "MIT, gated"}), head=HEAD)
    (lacking,) = missing(plan, Store(tmp_path / "store"))
    assert "run: hf download owner/name some.safetensors --revision v1" in lacking.line
    assert "accept its licence" in lacking.line
    assert "\n" not in lacking.line


def test_a_hub_file_is_trusted_once(plan_of: Any, errors_of: Errors, hub: Path, file: Path) -> None:
    hub.parent.mkdir(parents=True)
    hub.write_bytes(file.read_bytes())
    plan = plan_of(row(weights=HUB), head=HEAD)
    assert not plan.cells[0].train.startswith("missing")
    save_file({k: np.asarray(v * 2) for k, v in adapter().items()}, hub)
    (line,) = errors_of(row(weights=HUB), head=HEAD)
    assert "when first used" in line
    pinned = hashlib.sha256(hub.read_bytes()).hexdigest()
    plan_of(row(weights=HUB, sha256=pinned), head=HEAD)


def test_shipped_weights_are_named_and_their_card_is_no_part_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = Published("tiny-oracle", "network")
    assert shipped.path == weights.folder("tiny-oracle")
    assert not shipped.need().problem
    shutil.copytree(weights.folder("tiny-oracle"), tmp_path / "copy")
    (tmp_path / "copy" / "card.json").write_text("{}")
    assert Published("copy", "network").identity() == shipped.identity()
    (tmp_path / "copy").rename("tiny-oracle")
    assert Published("tiny-oracle", "network").path == Path("tiny-oracle")  # goes before
    for name in ("tiny-orakel", ""):
        with pytest.raises(MissingWeights):
            Published(name, "network").identity()
