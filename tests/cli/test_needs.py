"""What a run would lack is listed by plan, run and doctor, and stops a run before it starts."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillbench.api.registry import build_backbone
from distillbench.files import places as datadir
from distillbench.plan import requirements

Cli = Callable[..., Any]
PICTURES = """\
name: t
backbones: {b: {use: tiny-sd}}
base: {backbone: b, train: {updates: 2}, sample: {n: 8}}
rows: [{method: lcm, nfe: 2, params: {nets: copy}}, {method: teacher, nfe: 2}]
"""
POINTS = """\
name: t
backbones: {b: {use: gmm}}
base: {backbone: b, train: {updates: 2, batch_size: 4}, sample: {n: 32}, nfe: 2}
rows: [{method: teacher, label: Here}, {method: tdm, label: Gone, data: {prompts: faraway}}]
metrics: [sw]
tables: [{name: main, columns: [label, sw]}]
"""


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "data"


def missing(cli: Cli, text: str, *more: str) -> dict[str, dict[str, Any]]:
    Path("e.yaml").write_text(text)
    found = cli("plan", "e.yaml", "--json", *more).json["missing"]
    return {f"{need['kind']} {need['name']}": need for need in found}


def test_nothing_is_missing_for_what_is_shipped(cli: Cli) -> None:
    text = PICTURES + "metrics: [clip, hps, aes]\n"
    assert missing(cli, text) == {}
    answer = cli("doctor", "e.yaml")
    assert answer.code == 0
    assert "missing" not in cli("plan", "e.yaml").out


def test_scorers_say_size_licence_and_place(cli: Cli, data: Path) -> None:
    text = PICTURES + (
        "metrics: [{use: hps, params: {weights: hpsv2.1}}, {use: aes, params: {weights: laion-v2}},"
        "{use: clip, params: {weights: openai-ViT-L-14}}]\n"
    )
    found = missing(cli, text)
    assert list(found) == ["weights hpsv2.1", "weights laion-v2", "weights openai-ViT-L-14"]
    hps = found["weights hpsv2.1"]
    assert (hps["size"], hps["license"], len(hps["stages"])) == (1_972_000_000, "Apache-2.0", 2)
    assert str(data / "weights" / "hpsv2.1" / "HPS_v2.1_compressed.pt") in hps["problem"]
    assert "xswu/HPSv2" in hps["fix"]
    assert len(found["weights openai-ViT-L-14"]["stages"]) == 4  # of clip, and below aes
    line = next(x for x in cli("plan", "e.yaml").out.splitlines() if "hpsv2.1" in x)
    assert "about 1.97 GB, Apache-2.0; get HPS_v2.1_compressed.pt of xswu/HPSv2" in line


def test_a_file_with_other_bytes_is_not_the_published_one(cli: Cli, data: Path) -> None:
    folder = data / "weights" / "openai-ViT-B-32"
    folder.mkdir(parents=True)
    (folder / "ViT-B-32.pt").write_bytes(b"0")
    text = PICTURES + "metrics: [{use: clip, params: {weights: openai-ViT-B-32}}]\n"
    assert "its sha256 is" in missing(cli, text)["weights openai-ViT-B-32"]["problem"]


def test_teachers_of_the_hub_are_looked_for_in_its_cache(cli: Cli) -> None:
    text = PICTURES.replace("use: tiny-sd", "use: sdxl").replace("method: lcm", "method: tdm")
    text = text.replace("{n: 8}", "{n: 8, prompts: world-eval}")
    text = text.replace("train: {", "data: {prompts: world-train}, train: {")
    (need,) = missing(cli, text).values()
    assert (need["problem"], need["size"]) == ("not on this disk", 13_900_000_000)
    assert need["fix"] == "run: hf download stabilityai/stable-diffusion-xl-base-1.0"
    assert len(need["stages"]) == 3  # not the teacher's own, which trains nothing


def test_a_snapshot_that_is_not_whole(tmp_path: Path) -> None:
    backbone = build_backbone("sdxl", {})
    root = tmp_path / "hub" / "models--stabilityai--stable-diffusion-xl-base-1.0"
    snapshot = root / "snapshots" / "abc"
    (snapshot / "unet").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "tokenizer": ["transformers", "T"],
             "safety_checker": [None, None], "_class_name": "X"}  # fmt: skip
    (snapshot / "model_index.json").write_text(json.dumps(parts))
    (snapshot / "unet" / "config.json").write_text("{}")
    (need,) = backbone.requirements()
    assert need.problem.endswith("is not whole: no weights in unet, no folder tokenizer")
    (snapshot / "tokenizer").mkdir()
    for name in ("unet/a.safetensors", "tokenizer/vocab.json"):
        (snapshot / name).touch()
    (need,) = backbone.requirements()
    assert need.problem == ""


def test_prompts_images_devices_and_samples(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PICTURES.replace("{updates: 2}", "{updates: 2, precision: float16}")
    text = text.replace("{n: 8}", "{n: 8, prompts: hpsv2}")
    text += "metrics: [fid]\nreference: {nfe: 3}\n"
    monkeypatch.setattr(requirements, "visible_gpus", lambda: ())
    found = missing(cli, text, "--set", "rows.0.data.images=laion")
    assert list(found) == ["images laion", "device GPU", "prompts hpsv2", "samples of fid"]
    assert found["prompts hpsv2"]["license"] == "Apache-2.0"
    assert "more than 96 samples, not 8" in found["samples of fid"]["problem"]
    assert len(found["device GPU"]["stages"]) == 1
    monkeypatch.setattr(requirements, "visible_gpus", lambda: ("0",))
    assert "device GPU" not in missing(cli, text)
    text = POINTS.replace("sw", "mmd").replace("n: 32", "n: 16").replace("faraway", "gmm-train")
    (need,) = missing(cli, text).values()
    assert need["problem"] == "8 conditions have fewer than 3 of the 16 samples"
    assert need["fix"] == "raise sample.n to 24"


def test_too_little_disk(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 10_000_000))
    (need,) = missing(cli, PICTURES).values()
    assert need["kind"] == "disk"
    # 8 samples of two rows at 32 x 32 x 3, and a student with its teacher's parameters.
    assert "0.01 GB are free, about 0.0" in need["problem"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 100_000_000))
    assert missing(cli, PICTURES) == {}


def test_moments_of_8_bits_take_less_disk(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight, its average and its moments are 16 bytes or 10, in two checkpoints; 4 are left."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))

    def told(text: str) -> float:
        (need,) = (one for one in missing(cli, text).values() if one["kind"] == "disk")
        return float(need["problem"].split("about ")[1].split(" GB")[0])

    plain = told(PICTURES)
    eight = told(PICTURES.replace("updates: 2", "updates: 2, optimizer: adamw8bit"))
    assert eight / plain == pytest.approx(24 / 36, abs=0.02)


def test_a_runner_that_is_not_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("e.yaml").write_text(POINTS.replace("faraway", "gmm-train"))
    monkeypatch.setattr(datadir.importlib.util, "find_spec", lambda name: None)
    answer = cli("run", "e.yaml", "--runner", "ray")
    assert answer.code == 2
    assert 'package ray: is not installed; pip install "distillbench[ray]"' in answer.err


def test_a_run_stops_before_it_starts_or_runs_what_can(cli: Cli) -> None:
    Path("e.yaml").write_text(POINTS)
    answer = cli("run", "e.yaml", "--workers", "1")
    assert answer.code == 2
    assert "missing: prompts faraway: no prompt files in " in answer.err
    assert "--allow-missing" in answer.err
    assert not Path("results").exists()
    listed = cli("doctor", "e.yaml", "--json")
    assert listed.code == 1
    assert [f["state"] for f in listed.json if f["kind"] == "prompts"] == ["fail"]

    answer = cli("run", "e.yaml", "--workers", "1", "--allow-missing", "--json")
    assert answer.code == 1
    assert len(answer.json["ran"]) == 3
    assert set(answer.json["failed"].values()) == {"needs prompts faraway, which is missing"}
    assert len(answer.json["failed"]) == 3
    table = Path("results/t/main.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| Gone"))
    assert "--" in row
    assert "needs prompts faraway, which is missing" in table
    # What is done needs nothing any more.
    assert cli("run", "e.yaml", "--only", "label=Here").code == 0


def test_doctor_alone_takes_no_profile(cli: Cli) -> None:
    assert cli("doctor", "--profile", "paper").code == 2
