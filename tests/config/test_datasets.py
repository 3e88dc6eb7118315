"""Prompt files and folders of images are looked at while planning, and told with their places."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from distillbench.errors import ConfigError
from distillbench.plan.stage import Plan

PlanOf = Callable[..., Plan]
HEAD = "name: t\nbase: {backbone: fake-images, sample: {prompts: gmm-eval}}\n"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def folder(path: Path, captions: Sequence[object] = ("a",)) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path / "a.png")
    rows = [json.dumps({"file": "a.png", "text": text}) for text in captions]
    (path / "captions.jsonl").write_text("\n".join(rows))
    return path


def row(data: str, method: str = "fake-real") -> str:
    return f"rows: [{{method: {method}, data: {{{data}}}}}]\n"


def problems(plan_of: PlanOf, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan_of(text, head=HEAD)
    return caught.value.problems


def test_all_that_is_wrong_with_a_folder_is_told(plan_of: PlanOf) -> None:
    folder(Path("imgs"), [None, "a", 3])
    found = problems(plan_of, row("images: ./imgs"))
    assert len(found) == 2
    assert found[0].startswith("e.yaml:3:35: rows[0].data.images: ")
    assert found[0].endswith("captions.jsonl:1: the caption is null, not a string")
    folder(Path("imgs"))
    Path("imgs/a.png").write_bytes(Path("imgs/a.png").read_bytes()[:60])
    (found,) = problems(plan_of, row("images: ./imgs"))
    assert "imgs/a.png: cannot be decoded" in found


def test_pictures_are_not_read_for_a_method_that_takes_captions_alone(plan_of: PlanOf) -> None:
    folder(Path("imgs"))
    Path("imgs/a.png").write_text("no picture")
    text = row("images: ./imgs", method="fake-student")
    assert "fit" not in plan_of(text, head=HEAD).stages[_train(plan_of, text)].spec["data"]


def _train(plan_of: PlanOf, text: str) -> str:
    return plan_of(text, head=HEAD).cells[0].train


def test_how_images_are_fitted_is_in_the_key(plan_of: PlanOf) -> None:
    folder(Path("imgs"))
    options = ("", ", resize: pad", ", background: black", ", background: '#102030'")
    keys = {_train(plan_of, row(f"images: ./imgs{more}")) for more in options}
    assert len(keys) == len(options)
    plain = _train(plan_of, row("images: ./imgs"))
    assert plain == _train(plan_of, row("images: ./imgs, resize: center-crop, background: white"))


def test_settings_that_nothing_would_use_are_refused(plan_of: PlanOf) -> None:
    folder(Path("imgs"))
    (found,) = problems(plan_of, row("images: ./imgs, prompts: gmm-train"))
    assert found.startswith("e.yaml:3:51: rows[0].data.prompts: images bring their captions")
    (found,) = problems(plan_of, row("prompts: gmm-train, resize: pad", method="fake-student"))
    assert found.endswith("data.resize: no row trains on images; set data.images")
    for unread in ("flip: true", "latents: sample"):
        (found,) = problems(plan_of, row(f"prompts: gmm-train, {unread}", method="fake-student"))
        assert found.endswith("no row trains on images; set data.images")
    (found,) = problems(plan_of, row("images: ./imgs, resize: crop"))
    assert "center-crop" in found
    (found,) = problems(plan_of, row("images: ./imgs, background: sky"))
    assert "background" in found


def test_a_name_and_a_folder_here_are_told_apart(plan_of: PlanOf, data: Path) -> None:
    text = row("images: imgs")
    plan = plan_of(text, head=HEAD)  # on neither: named, with the places looked at
    (note,) = plan.notes
    assert f"no folder {data}/images/imgs, nor {Path('imgs').absolute()}" in note
    assert plan.stages[plan.cells[0].train].spec["data"]["images_sha256"] == "missing:imgs"
    folder(Path("imgs"))
    (found,) = problems(plan_of, text)
    assert f"no folder {data}/images/imgs; for the folder {Path('imgs').absolute()}" in found
    assert found.endswith("write ./imgs")
    folder(data / "images" / "imgs")
    (note,) = plan_of(text, head=HEAD).notes
    assert str(data / "images" / "imgs") in note
    assert str(Path("imgs").absolute()) in note
    assert plan_of(row("images: ./imgs"), head=HEAD).notes == ()
    (found,) = problems(plan_of, row("images: ./other/imgs"))
    assert found.endswith(f"there is {data}/images/imgs, whose name is imgs")


def test_what_is_not_read_is_noted(plan_of: PlanOf) -> None:
    folder(Path("imgs"), ["", "a"])
    line = '{"file": "a.png", "text": "a", "width": 8}\n'
    Path("imgs/captions.jsonl").write_text(line + '{"file": "a.png", "text": " "}')
    notes = plan_of(row("images: ./imgs"), head=HEAD).notes
    assert any("captions.jsonl: these fields are not read: 'width'" in note for note in notes)
    assert "images: 1 of the captions are empty" in notes
    Path("p.csv").write_text("prompt,id\na,1\n")
    notes = plan_of(row("prompts: p.csv", method="fake-student"), head=HEAD).notes
    assert notes == ("prompts: p.csv: these fields are not read: 'id'",)


def test_every_bad_prompt_is_told_at_its_setting(plan_of: PlanOf) -> None:
    Path("p.jsonl").write_text('null\n"a"\n3\n')
    found = problems(plan_of, row("prompts: p.jsonl", method="fake-student"))
    assert [line.split("p.jsonl:")[1][:2] for line in found] == ["1:", "3:"]
    assert all(line.startswith("e.yaml:3:38: rows[0].data.prompts: p.jsonl:") for line in found)


def test_prompts_that_a_world_does_not_know_are_told(plan_of: PlanOf) -> None:
    Path("p.txt").write_text("a cat\n")
    head = "name: t\nbase: {backbone: gmm, train: {updates: 2}}\n"
    with pytest.raises(ConfigError) as caught:
        plan_of(row("prompts: p.txt", method="tdm"), head=head)
    (found,) = caught.value.problems
    assert found.startswith("e.yaml:3:29: rows[0].data.prompts: p.txt: prompt 'a cat': the gmm")
    head = head.replace("gmm", "tiny-sd")
    Path("p.txt").write_text("a cat\n" + "cat " * 40)
    notes = plan_of(row("prompts: p.txt", method="tdm"), head=head).notes
    assert any("p.txt: 1 of 2 prompts are longer than the text encoder of" in n for n in notes)
