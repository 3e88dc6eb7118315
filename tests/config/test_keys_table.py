"""What does and what does not change the keys of a training, of its samples and of their scores.

Each case is one change of an experiment or of the files around it. The keys that it should change
are named; all others have to stay.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from distillbench.analysis.check import checked_plan
from distillbench.experiment.load import load_experiment
from distillbench.world import weights

Change = Callable[[], "dict[str, Any] | None"]
NONE: frozenset[str] = frozenset()
ALL = frozenset({"train", "sample", "score"})
SAMPLED = frozenset({"sample", "score"})
SCORED = frozenset({"score"})


@pytest.fixture(autouse=True)
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that experiments here speak of: a teacher, images, prompts, a scorer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(weights.folder("tiny-sd"), "T")
    shutil.copytree(weights.folder("tiny-clip"), "C")
    Path("imgs").mkdir()
    for i in range(3):
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(f"imgs/{i}.bmp")
    captions(["one", "two", "three"])
    Path("p.txt").write_text("a red car\na blue boat\n")


def captions(texts: list[str], names: str = "{}.bmp", **more: Any) -> None:
    rows = [{"file": names.format(i), "text": text, **more} for i, text in enumerate(texts)]
    Path("imgs/captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def keys(experiment: dict[str, Any]) -> dict[str, str]:
    Path("e.json").write_text(json.dumps(experiment))
    Path("e.yaml").write_text(Path("e.json").read_text())
    cell = checked_plan(load_experiment(Path("e.yaml"))).cells[0]
    return {"train": cell.train, "sample": cell.sample, "score": cell.scores["clip"]}


def experiment(method: str = "sft", **params: Any) -> dict[str, Any]:
    return {
        "name": "keys",
        "backbones": {"b": {"use": "sd", "params": {"model": "./T"}}},
        "base": {"backbone": "b", "train": {"updates": 4}, "sample": {"n": 4, "prompts": "p.txt"},
                 "data": {"images": "./imgs"}},
        "rows": [{"method": method, "nfe": 4, "params": params}],
        "metrics": [{"use": "clip", "params": {"weights": "./C"}}],
    }  # fmt: skip


def put(what: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The experiment with the entry at a dotted path set."""
    *above, last = path.split(".")
    inside: Any = what
    for part in above:
        inside = inside[int(part)] if isinstance(inside, list) else inside.setdefault(part, {})
    inside[last] = value
    return what


def setting(path: str, value: Any, method: str = "sft") -> tuple[str, Change]:
    return f"{method} {path}={value}", lambda: put(experiment(method), path, value)


def file(name: str, change: Callable[[], object]) -> tuple[str, Change]:
    def changing() -> None:
        change()

    return name, changing


def same_size_and_time(path: str) -> None:
    """Other bytes, with the size and the modification time of those before."""
    there, before = Path(path), Path(path).stat()
    data = bytearray(there.read_bytes())
    data[-1] ^= 1
    there.write_bytes(bytes(data))
    os.utime(there, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_text(path: str, old: str, new: str) -> None:
    there = Path(path)
    text = there.read_text()
    assert old in text
    there.write_text(text.replace(old, new, 1))


def relink(part: str) -> None:
    """A folder of the teacher becomes a link to a changed copy of it."""
    shutil.copytree(f"T/{part}", "elsewhere")
    shutil.rmtree(f"T/{part}")
    Path(f"T/{part}").symlink_to(Path("elsewhere").absolute())


def linked(part: str, change: bool = False) -> None:
    relink(part)
    if change:
        same_size_and_time(f"T/{part}/{weights_of(part)}")


def weights_of(part: str) -> str:
    return "model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors"


def moved(place: str) -> dict[str, Any]:
    """The same teacher somewhere else."""
    there = Path(place).expanduser()
    there.parent.mkdir(parents=True, exist_ok=True)
    Path("T").rename(there)
    return put(experiment(), "backbones.b.params.model", place)


def as_link() -> dict[str, Any]:
    Path("L").symlink_to("T")
    return put(experiment(), "backbones.b.params.model", "./L")


def links_to_files() -> None:
    """As the hub's cache has them: every file a link to a blob."""
    Path("blobs").mkdir()
    for i, path in enumerate(sorted(p for p in Path("T").rglob("*") if p.is_file())):
        path.rename(f"blobs/{i}")
        path.symlink_to(Path(f"blobs/{i}").absolute())


def loop() -> None:
    Path("T/tokenizer/again").symlink_to(Path("T/tokenizer").absolute())
    shutil.copy("T/tokenizer/tokenizer_config.json", "kept")


def new(path: str, text: str = "not read") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def renamed_images() -> None:
    for i in range(3):
        Path(f"imgs/{i}.bmp").rename(f"imgs/picture-{i}.bmp")
    captions(["one", "two", "three"], "picture-{}.bmp")


def moved_images() -> dict[str, Any]:
    Path("deep/down").mkdir(parents=True)
    shutil.move("imgs", "deep/down/pictures")
    return put(experiment(), "base.data.images", str(Path("deep/down/pictures").absolute()))


def moved_scorer() -> dict[str, Any]:
    Path("C").rename("scorer")
    return put(experiment(), "metrics.0.params.weights", str(Path("scorer").absolute()))


def moved_prompts() -> dict[str, Any]:
    Path("p.txt").rename("q.txt")
    return put(experiment(), "base.sample.prompts", "./q.txt")


UNET = "T/unet/diffusion_pytorch_model.safetensors"

FILES = [
    # Missed before: what is read decides, through links and whatever the size and the times say.
    (ALL, file("unet of the same size and mtime", lambda: same_size_and_time(UNET))),
    (ALL, file("vae", lambda: same_size_and_time(f"T/vae/{weights_of('vae')}"))),
    (ALL, file("text encoder", lambda: same_size_and_time("T/text_encoder/model.safetensors"))),
    (ALL, file("unet through a linked folder", lambda: linked("unet", change=True))),
    (ALL, file("vae through a linked folder", lambda: linked("vae", change=True))),
    (ALL, file("configuration of the unet",
               lambda: other_text("T/unet/config.json", "{", '{"_x": 1, '))),
    (ALL, file("scheduler",
               lambda: other_text("T/scheduler/scheduler_config.json", "0.012", "0.0125"))),
    (ALL, file("tokenizer", lambda: other_text("T/tokenizer/tokenizer.json", "{", "{ "))),
    (ALL, file("a part is of another class",
               lambda: other_text("T/model_index.json", "DDIMScheduler", "PNDMScheduler"))),
    (ALL, file("image of the same size and mtime", lambda: same_size_and_time("imgs/1.bmp"))),
    (ALL, file("caption", lambda: captions(["one", "two", "3"]))),
    (ALL, file("order of captions", lambda: captions(["two", "one", "three"]))),
    (SAMPLED, file("prompt", lambda: other_text("p.txt", "red", "tan"))),
    (SAMPLED, file("another prompt", lambda: new("p.txt", "a red car\na blue boat\nx\n"))),
    (SCORED, file("scorer of the same size and mtime",
                  lambda: same_size_and_time("C/open_clip_model.safetensors"))),
    (SCORED, file("configuration of the scorer",
                  lambda: other_text("C/open_clip_config.json", "{", '{"x": 1, '))),
    # Too much before: what is not read, and how the way to a file is written.
    (NONE, file("a part becomes a link", lambda: linked("unet"))),
    (NONE, file("all files become links", links_to_files)),
    (NONE, ("teacher moved", lambda: moved("./there/teacher"))),
    (NONE, ("teacher in the home folder", lambda: moved("~/teacher"))),
    (NONE, ("teacher through a link", as_link)),
    (NONE, file("teacher's read-me", lambda: new("T/README.md"))),
    (NONE, file("pictures in the teacher's folder", lambda: new("T/samples/grid.png"))),
    (NONE, file("picture beside the unet", lambda: new("T/unet/loss.png"))),
    (NONE, file("notes beside the unet", lambda: new("T/unet/notes.txt"))),
    (NONE, file("unread weights in the teacher's folder", lambda: new("T/v1-5.ckpt"))),
    (NONE, file("unread format of the weights",
                lambda: new("T/unet/diffusion_pytorch_model.bin"))),
    (NONE, file("unread variant of the weights",
                lambda: new("T/unet/diffusion_pytorch_model.fp16.safetensors"))),
    (NONE, file("unread part", lambda: new("T/safety_checker/model.safetensors"))),
    (NONE, file("hidden files", lambda: new("T/.git/config"))),
    (NONE, file("hidden file in a part", lambda: new("T/tokenizer/.DS_Store"))),
    (NONE, file("a link that leads back", loop)),
    (NONE, file("touched weights", lambda: os.utime(UNET))),
    (NONE, file("files of images have other names", renamed_images)),
    (NONE, file("unread key of captions", lambda: captions(["one", "two", "three"], by="me"))),
    (NONE, file("image without a caption", lambda: new("imgs/9.png"))),
    (NONE, ("images moved", moved_images)),
    (NONE, ("prompts moved", moved_prompts)),
    (NONE, ("scorer moved", moved_scorer)),
    (NONE, file("quality card of the scorer", lambda: new("C/card.json", "{}"))),
    (NONE, file("scorer's files have other names",
                lambda: os.rename("C/open_clip_model.safetensors", "C/model.safetensors"))),
]  # fmt: skip

SETTINGS = [
    (ALL, setting("base.train.updates", 5)),
    (ALL, setting("base.train.batch_size", 8)),
    (ALL, setting("base.train.accumulate", 2)),
    (ALL, setting("base.train.lr_scale", 2.0)),
    (ALL, setting("base.train.precision", "bfloat16")),
    (ALL, setting("base.train.compile", True)),
    (ALL, setting("base.train.merge_adapters", True)),
    (ALL, setting("seeds", [1])),
    (ALL, setting("rows.0.params.lr", 2e-4)),
    (ALL, setting("rows.0.params.drop_prompt", 0.2)),
    (ALL, setting("base.data.resize", "pad")),
    (ALL, setting("base.data.background", "black")),
    (ALL, setting("base.data.latents", "sample")),
    (ALL, setting("base.data.flip", True)),
    (ALL, setting("backbones.b.params.resolution", 64)),
    (SAMPLED, setting("rows.0.nfe", 8)),
    (SAMPLED, setting("rows.0.params.guidance_scale", 3.0)),
    (SAMPLED, setting("rows.0.params.solver", "dpmsolver++")),
    (SAMPLED, setting("rows.0.guidance_scale", 3.0)),
    (SAMPLED, setting("rows.0.sampler", {"solver": "euler"})),
    (SAMPLED, setting("base.sample.n", 8)),
    (SAMPLED, setting("base.sample.batch_size", 2)),
    (SAMPLED, setting("base.sample.trajectory", 2)),
    (NONE, setting("base.sample.trajectory", 0)),
    (NONE, setting("base.train.save_every", 50)),
    (NONE, setting("backbones.b.params.gradient_checkpointing", True)),
    (NONE, setting("backbones.b.params.model", "T/")),
    (NONE, setting("backbones.b.params.model", "./T/../T")),
    (NONE, setting("rows.0.params.guidance_scale", 7.5)),
    (NONE, setting("rows.0.label", "another name")),
    (NONE, setting("rows.0.tags", {"a": 1})),
    (NONE, setting("base.data.images", "imgs/")),
    (NONE, setting("base.sample.prompts", "./p.txt")),
    (NONE, setting("base.sample.keep", "png")),
    (NONE, setting("threads", 2)),
    (NONE, setting("title", "Another")),
    (SAMPLED, setting("rows.0.params.gamma", 0.5, "tcd")),
    (NONE, setting("rows.0.params.sample_guidance", 4.0, "tcd")),  # the net embeds none
    (SAMPLED, setting("rows.0.params.gamma", 0.5, "tscd")),
    (ALL, setting("rows.0.params.offset_noise", 0.0, "tscd")),
    (SAMPLED, setting("rows.0.params.test_solver", "ddim", "tdm")),
    (ALL, setting("rows.0.params.train_solver", "dpmsolver++", "tdm")),
    (ALL, setting("rows.0.params.teacher_guidance", 3.0, "tdm")),
    (ALL, setting("rows.0.params.teacher_guidance", 3.0, "dmd2")),
    (SAMPLED, setting("rows.0.params.test_solver", "ddim", "tdm_unify")),
    (NONE, setting("base.data.resize", "pad", "tdm")),
    (NONE, setting("base.data.background", "black", "dmd2")),
    (NONE, setting("base.data.latents", "sample", "tdm")),
    (NONE, setting("base.train.compile", True, "teacher")),
    (NONE, setting("base.train.shard", "fsdp2", "teacher")),
    (NONE, setting("base.train.merge_adapters", True, "teacher")),
    (SAMPLED, setting("rows.0.params.guidance_scale", 3.0, "teacher")),
    (SAMPLED, setting("rows.0.params.solver", "euler", "teacher")),
    (NONE, setting("base.train.updates", 5, "teacher")),
    (ALL, setting("base.train.precision", "bfloat16", "teacher")),
]


def changed(before: dict[str, Any], change: Change) -> frozenset[str]:
    old = keys(before)
    new = keys(change() or before)
    return frozenset(kind for kind in old if old[kind] != new[kind])


def table(cases: list[tuple[frozenset[str], tuple[str, Change]]]) -> list[Any]:
    return [pytest.param(expected, change, id=name) for expected, (name, change) in cases]


@pytest.mark.parametrize(("expected", "change"), table(FILES))
def test_files(expected: frozenset[str], change: Change) -> None:
    assert changed(experiment(), change) == expected


@pytest.mark.parametrize(("expected", "change"), table(SETTINGS))
def test_settings(expected: frozenset[str], change: Change) -> None:
    method = put(change() or {}, "name", "keys")["rows"][0]["method"]
    assert changed(experiment(method), change) == expected


@pytest.mark.parametrize("method", ["tdm", "dmd2", "tdm_unify"])
def test_a_method_that_reads_no_image_is_known_by_the_captions_alone(method: str) -> None:
    before = keys(experiment(method))
    same_size_and_time("imgs/0.bmp")
    Path("imgs/1.bmp").write_bytes(Path("imgs/2.bmp").read_bytes())
    assert keys(experiment(method)) == before
    captions(["one", "two", "4"])
    assert keys(experiment(method))["train"] != before["train"]
    Path("texts.txt").write_text("one\ntwo\n4\n")  # the same words from a file of prompts
    as_prompts = put(experiment(method), "base.data", {"prompts": "texts.txt"})
    assert keys(as_prompts) == keys(experiment(method))


def test_no_key_holds_where_a_file_lies() -> None:
    Path("e.yaml").write_text(json.dumps(experiment()))
    plan = checked_plan(load_experiment(Path("e.yaml")))
    said = json.dumps([dict(stage.spec) for stage in plan.stages.values()])
    for place in ("./T", "./C", "imgs", "p.txt", str(Path.cwd())):
        assert place not in said
