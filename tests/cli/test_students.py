"""`sample` and `export` of one trained student, by the folder or key of its training."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distillbench.core.noise import sample_noise
from distillbench.data.prompts import load_prompts
from distillbench.store.layout import Store
from distillbench.testing.method import train, train_spec

Cli = Callable[..., Any]
RUN = "aaa111"


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A TCD student of the picture world, and one of points in the plane, barely trained."""
    root = tmp_path_factory.mktemp("trainings")
    copy = {"nets": "copy", "lr": 1e-3}
    pictures = train_spec("tcd", copy, backbone="tiny-sd", prompts="world-train", updates=1,
                          batch_size=2)  # fmt: skip
    train(pictures, root / "pictures")
    train(train_spec("tdm", {}, updates=1, batch_size=2), root / "points")
    return {name: root / name / "out" for name in ("pictures", "points")}


def stored(training: Path, key: str = RUN, *, teacher: str | None = None) -> Path:
    """A training committed to ./results as a run would."""
    store = Store("results/store")
    tmp = store.begin("train", key)
    shutil.copytree(training, tmp, dirs_exist_ok=True)
    recipe = json.loads((tmp / "recipe.json").read_text())
    (tmp / "recipe.json").write_text(json.dumps({**recipe, "teacher": teacher}))
    return store.commit(tmp, "train", key)


def test_the_call_of_a_tcd_export_draws_what_sample_draws(
    cli: Cli, trainings: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its eta is in the call: without, the picture is 149 grey levels off."""
    stored(trainings["pictures"])
    assert cli("export", RUN, "-o", "out").code == 0
    recipe = json.loads(Path("out/recipe.json").read_text())
    assert (recipe["eta"], recipe["call"]["eta"], recipe["diffusers_ignores"]) == (0.3, 0.3, [])
    assert cli("sample", RUN, "--prompt", "a red car", "-o", "ours").code == 0
    calls = iter(["start", *(f"step {i}" for i in range(9))])

    def drawn(*_: Any, **__: Any) -> torch.Tensor:
        return sample_noise(0, [0], (12, 8, 8), next(calls))

    code = re.search(r"```python\n(.*?)```", Path("out/README.md").read_text(), re.S)
    assert code is not None
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion
    import diffusers.schedulers.scheduling_tcd  # noqa: F401

    for name, module in list(sys.modules.items()):
        if name.startswith("diffusers.") and hasattr(module, "randn_tensor"):
            monkeypatch.setattr(module, "randn_tensor", drawn)
    monkeypatch.chdir("out")
    exec(compile(code[1], "README.md", "exec"), {})
    theirs, ours = (np.asarray(Image.open(p)).astype(int)
                    for p in ("sample.png", "../ours/00000.png"))  # fmt: skip
    assert np.abs(theirs - ours).max() <= 1


def test_an_export_is_no_checkpoint(cli: Cli, trainings: dict[str, Path]) -> None:
    stored(trainings["pictures"])
    cli("export", RUN, "-o", "out")
    for command in (["sample", "out", "--prompt", "a cat"], ["export", "out"]):
        answer = cli(*command, "-o", "elsewhere")
        assert answer.code == 2
        assert answer.err == (
            "error: out: an export for diffusers, not the folder of a training; run the code of "
            f"its README.md, or name training {RUN}\n"
        )
    assert not Path("elsewhere").exists()


def test_an_export_is_no_teacher(cli: Cli, trainings: dict[str, Path]) -> None:
    stored(trainings["pictures"])
    cli("export", RUN, "-o", "out")
    Path("x.yaml").write_text(
        "name: x\nbackbones: {mine: {use: sd, params: {model: out}}}\n"
        "base: {backbone: mine, sample: {n: 2, prompts: world-eval}, nfe: 4, method: teacher}\n"
        "rows: [{label: A}]\nmetrics: [clip]\n"
    )
    answer = cli("run", "x.yaml", "--workers", "1")
    assert answer.code == 2
    assert "an export, a student without the rest of its pipeline" in answer.err + answer.out


def test_an_export_never_takes_a_place_in_use(cli: Cli, trainings: dict[str, Path]) -> None:
    stored(trainings["pictures"])
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/mine").write_text("mine")
    Path("dangling").symlink_to("nowhere")
    for place, why in (
        ("file", "file: not a folder"), ("file/below", "file: not a folder"),
        ("full", "full: is not empty"), ("dangling", "dangling: not a folder"),
    ):  # fmt: skip
        answer = cli("export", RUN, "-o", place)
        assert (answer.code, answer.out) == (2, ""), place
        assert f"{why}; name" in answer.err
        assert answer.err.count("\n") == 1
    assert Path("file").read_text() == Path("full/mine").read_text() == "mine"
    assert [p.name for p in Path("full").iterdir()] == ["mine"]


def test_steps_of_the_exported_recipe(cli: Cli, trainings: dict[str, Path]) -> None:
    stored(trainings["pictures"])
    answer = cli("export", RUN, "--nfe", "8", "-o", "eight", "--json")
    assert answer.json["limits"] == {}
    recipe = json.loads(Path("eight/recipe.json").read_text())
    assert recipe["call"]["num_inference_steps"] == len(recipe["timesteps"]) == 8
    assert cli("export", RUN, "--nfe", "2000", "-o", "more").code == 2
    assert not Path("more").exists()


def test_samples_are_numbered_on(cli: Cli, trainings: dict[str, Path]) -> None:
    folder = stored(trainings["pictures"])
    Path("s").mkdir()
    for name in ("00007.gif", "00002.png", "12.png", "x00009.png"):
        Path("s", name).write_text("mine")
    first = cli("sample", RUN, "--prompt", "a cat", "--prompt", "a car", "--nfe", "1", "-o", "s")
    assert first.out.split() == ["s/00008.png", "s/00009.png"]
    drawn = Path("s/00008.png").read_bytes()
    second = cli("sample", str(folder), "--prompt", "a cat", "--nfe", "1", "-o", "s", "--json").json
    assert second["files"] == ["s/00010.png"]
    assert Path("s/00008.png").read_bytes() == drawn == Path("s/00010.png").read_bytes()
    assert Path("s/00002.png").read_text() == "mine"


def test_a_trajectory_lies_beside_its_sample(cli: Cli, trainings: dict[str, Path]) -> None:
    """Four clean predictions side by side; TCD's sampler ends close to the last."""
    stored(trainings["pictures"])
    prompt = load_prompts("world-eval").prompts[0]
    answer = cli("sample", RUN, "--prompt", prompt, "--nfe", "4", "--trajectory", "-o", "s")
    assert answer.out.split() == ["s/00000.png", "s/00000-steps.png"]
    whole, steps = (np.asarray(Image.open(path)) for path in answer.out.split())
    height, width, _ = whole.shape
    assert steps.shape == (height, 4 * width, 3)
    assert np.abs(steps[:, 3 * width :].astype(int) - whole).mean() < 2
    cli("sample", RUN, "--prompt", prompt, "--nfe", "4", "-o", "s")
    assert (np.asarray(Image.open("s/00001.png")) == whole).all()
    assert not Path("s/00001-steps.png").exists()


def test_points_have_their_trajectory_in_their_file(cli: Cli, trainings: dict[str, Path]) -> None:
    stored(trainings["points"])
    cli("sample", RUN, "--prompt", "condition 1", "--nfe", "2", "--trajectory", "-o", "s")
    (point,) = json.loads(Path("s/points.json").read_text())
    assert np.shape(point["steps"]) == (2, 2)


def test_points_are_numbered_on(cli: Cli, trainings: dict[str, Path]) -> None:
    stored(trainings["points"])
    for name in ("points.json", "points-2.json", "points-3.json"):
        answer = cli("sample", RUN, "--prompt", "condition 1", "-o", "s")
        assert answer.out == f"s/{name}\n"
    Path("file").write_text("mine")
    answer = cli("sample", RUN, "--prompt", "a cat", "-o", "file")
    assert (answer.code, answer.err) == (
        2, "error: file: not a folder; name a folder to write into\n"
    )  # fmt: skip


def test_a_training_is_found_from_inside_its_folder(
    cli: Cli, trainings: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(trainings["points"], "bbb222")
    monkeypatch.chdir(stored(trainings["points"], teacher="bbb222"))
    assert cli("sample", ".", "--prompt", "condition 1", "-o", "../../../../s").code == 0


@pytest.mark.parametrize("command", ["sample", "export"])
@pytest.mark.parametrize("chain", [[RUN], ["bbb222", RUN], ["bbb222", "bbb222"]])
def test_teachers_in_a_circle_are_refused(
    cli: Cli, trainings: dict[str, Path], command: str, chain: list[str]
) -> None:
    """A recipe that names itself, at once or by way of another."""
    names = [RUN, *chain]
    for name, teacher in dict(zip(names, chain)).items():
        stored(trainings["points"], name, teacher=teacher)
    more = ["--prompt", "a cat"] if command == "sample" else []
    answer = cli(command, RUN, *more, "-o", "s")
    assert answer.code == 1
    assert "leads in a circle" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("where", ["own", "teacher"])
@pytest.mark.parametrize("command", ["sample", "export"])
def test_altered_bytes_are_neither_sampled_nor_exported(
    cli: Cli, trainings: dict[str, Path], command: str, where: str
) -> None:
    folders = {"teacher": stored(trainings["points"], "bbb222"),
               "own": stored(trainings["points"], teacher="bbb222")}  # fmt: skip
    weights = folders[where] / "student.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    more = ["--prompt", "a cat"] if command == "sample" else []
    for checkpoint in (RUN, str(folders["own"])):
        answer = cli(command, checkpoint, *more, "-o", "s")
        assert answer.code == 1
        assert f"{folders[where].name}/student.safetensors: altered" in answer.err
    assert not Path("s").exists()


@pytest.mark.parametrize("text", ["{}", "[]", '"x"', '{"teacher": 3}', '{"teacher": "a/b"}', "{"])
def test_a_recipe_that_is_none_is_one_line(cli: Cli, text: str) -> None:
    Path("mine").mkdir()
    Path("mine/recipe.json").write_text(text)
    for command in (["sample", "mine", "--prompt", "a cat"], ["export", "mine"]):
        answer = cli(*command, "-o", "s")
        assert answer.code == 1
        assert answer.err.startswith("error: mine/recipe.json: ")
        assert answer.err.count("\n") == 1


# ---- rows that share a training ------------------------------------------------------------------


def sampled(label: str, key: str, nfe: int = 4, **changes: Any) -> dict[str, Any]:
    """A sample stage of the stored training, of a row that changes its recipe."""
    from distillbench.student.files import load_student

    store = Store("results/store")
    student = load_student(store.path("train", RUN))
    sampler = student.method.sampler(nfe).model_dump(mode="json") | changes
    tmp = store.begin("sample", key)
    spec = {"train": RUN, "sampler": sampler}
    (tmp / "spec.json").write_text(json.dumps({"label": f"{label} b nfe {nfe} seed 0",
                                               "spec": spec}))  # fmt: skip
    store.commit(tmp, "sample", key)
    return sampler


def test_samples_of_a_training_shared_by_rows_say_whose_recipe_they_are_of(
    cli: Cli, trainings: dict[str, Path]
) -> None:
    stored(trainings["pictures"])
    sampled("TCD", "b1")
    assert cli("sample", RUN, "--prompt", "a cat", "-o", "a").err == ""
    hot = sampled("TCD, hot", "b2", gamma=0.8)
    answer = cli("sample", RUN, "--prompt", "a cat", "-o", "a")
    assert "by the recipe of the training (gamma 0.3)" in answer.err
    assert "TCD, hot has gamma 0.8; --row 'TCD, hot' takes that" in answer.err
    answer = cli("sample", RUN, "--prompt", "a cat", "-o", "b", "--row", "TCD, hot", "--json")
    assert answer.err == ""
    assert answer.json["sampler"] == hot
    before, after = (np.asarray(Image.open(f"{d}/00000.png"), dtype=int) for d in "ab")
    assert np.abs(before - after).max() > 1


def test_an_export_takes_the_recipe_of_the_row_that_is_named(
    cli: Cli, trainings: dict[str, Path]
) -> None:
    stored(trainings["pictures"])
    hot = sampled("hot", "b2", nfe=2, gamma=0.8)
    assert cli("export", RUN, "--row", "hot", "-o", "out").code == 0
    recipe = json.loads(Path("out/recipe.json").read_text())
    assert (recipe["sampler"], recipe["eta"]) == (hot, 0.8)
    assert "gamma" not in recipe["method"]["params"]  # which the first row's would contradict
    sampled("hot four", "b4", gamma=0.9)
    answer = cli("export", RUN, "-o", "other")
    assert "hot four has gamma 0.9" in answer.err
    assert json.loads(Path("other/recipe.json").read_text())["eta"] == 0.3


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--row", "cold"], "no such row of aaa111 is stored; there are: TCD, hot, twice"),
        (["--row", "hot", "--nfe", "8"], "was not sampled with nfe 8, but with 2, 4"),
        (["--row", "twice"], "means several recipes; name a sample stage: b5"),
    ],
)
def test_rows_that_are_not_there_or_not_one_are_refused(
    cli: Cli, trainings: dict[str, Path], args: list[str], told: str
) -> None:
    stored(trainings["pictures"])
    sampled("TCD", "b1")
    sampled("hot", "b2", gamma=0.8)
    sampled("hot", "b3", nfe=2, gamma=0.8)
    sampled("twice", "b500000", gamma=0.5)
    sampled("twice", "b600000", gamma=0.6)
    answer = cli("sample", RUN, "--prompt", "a cat", "-o", "out", *args)
    assert answer.code == 2
    assert told in answer.err
    found = cli("sample", RUN, "--prompt", "a cat", "-o", "out", "--row", "b500000", "--json").json
    assert found["sampler"]["gamma"] == 0.5
