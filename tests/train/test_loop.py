"""The training loop: exact resume, stops, records, and what a step costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from distillbench.backbones.gmm import Gmm
from distillbench.data.imageset import images_identity
from distillbench.errors import ArtifactError, BadInput, Interrupted, NonFiniteLoss, NotSupported
from distillbench.methods.tdm import TDM as TDM_
from distillbench.sample.generate import generate_images, load_student
from distillbench.specs.context import Runtime
from distillbench.specs.stages import TrainSpec
from distillbench.testing.method import train, train_spec
from distillbench.train import state
from distillbench.train.build import build

TDM = {"nets": "copy", "lr": 1e-3, "fake_lr": 1e-3, "teacher_guidance": 1.0}
LCM = {"nets": "copy", "lr": 1e-3, "teacher_guidance": [1.0, 1.0]}


def student(folder: Path) -> bytes:
    return (folder / "out" / "student.safetensors").read_bytes()


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["tdm", "lcm"])
def test_stopped_twice_equals_straight(tmp_path: Path, name: str) -> None:
    params = TDM if name == "tdm" else LCM
    spec = train_spec(name, params, updates=9, batch_size=8, accumulate=2)
    train(spec, tmp_path / "straight")
    for stop in (2, 3):
        with pytest.raises(Interrupted):
            train(spec, tmp_path / "stopped", stop_after=stop)
    train(spec, tmp_path / "stopped")
    assert student(tmp_path / "straight") == student(tmp_path / "stopped")
    for record in ("train.jsonl", "net.json", "recipe.json"):
        a, b = (tmp_path / f / "out" / record for f in ("straight", "stopped"))
        assert a.read_bytes() == b.read_bytes()
    a, b = (read(tmp_path / f / "out" / "cost.json") for f in ("straight", "stopped"))
    assert a["evaluations"] == b["evaluations"]
    assert a["student_updates"] == b["student_updates"] == 9


def test_a_killed_run_continues_from_its_last_checkpoint(tmp_path: Path) -> None:
    spec = train_spec("lcm", LCM, updates=6)
    train(spec, tmp_path / "straight")
    with pytest.raises(Interrupted):  # leaves checkpoints of steps 2, 4 and 5
        train(spec, tmp_path / "killed", stop_after=5, save_every=2)
    folders = sorted((tmp_path / "killed" / "checkpoints").iterdir())
    assert [f.name for f in folders] == ["step-00000004", "step-00000005"]
    (folders[1] / "state.json").unlink()  # never finished
    (folders[1].parent / "step-00000006.tmp-1").mkdir()
    train(spec, tmp_path / "killed", save_every=2)
    assert student(tmp_path / "straight") == student(tmp_path / "killed")


def test_save_interval_changes_nothing(tmp_path: Path) -> None:
    spec = train_spec("lcm", LCM, updates=5)
    train(spec, tmp_path / "a", save_every=1)
    train(spec, tmp_path / "b", save_every=100)
    assert student(tmp_path / "a") == student(tmp_path / "b")


def test_seeds_differ(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(train_spec("lcm", LCM, seed=seed), tmp_path / str(seed))
    assert student(tmp_path / "0") != student(tmp_path / "1")


def test_a_nan_stops_the_run_and_names_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distillbench.methods.lcm import LCM as Method

    honest = Method.loss

    def broken(self: Any, turn: str, batch: Any, step: int) -> Any:
        losses = honest(self, turn, batch, step)
        factor = float("nan") if step == 3 else 1.0
        return type(losses)(losses.total * factor)

    spec = train_spec("lcm", LCM, updates=6)
    with monkeypatch.context() as patch:
        patch.setattr(Method, "loss", broken)
        with pytest.raises(NonFiniteLoss, match=r"loss of turn 'student'.* step 4;.*00000002"):
            train(spec, tmp_path / "broken", save_every=2)
    train(spec, tmp_path / "broken")  # the checkpoint is from before
    train(spec, tmp_path / "straight")
    assert student(tmp_path / "straight") == student(tmp_path / "broken")


def test_network_evaluations_per_step(tmp_path: Path) -> None:
    batch, steps = 8, 3
    train(train_spec("tdm", TDM, updates=steps, batch_size=batch), tmp_path / "tdm")
    counts = read(tmp_path / "tdm" / "out" / "cost.json")["evaluations"]
    n = batch * steps
    # K rollout steps and one with gradient; teacher unguided; fake in both turns
    assert counts == {"student": 5 * n, "teacher": n, "fake": 2 * n}
    guided = {**TDM, "teacher_guidance": 2.0}
    train(train_spec("tdm", guided, updates=steps, batch_size=batch), tmp_path / "guided")
    assert read(tmp_path / "guided" / "out" / "cost.json")["evaluations"]["teacher"] == 2 * n
    train(train_spec("lcm", LCM, updates=steps, batch_size=batch), tmp_path / "lcm")
    counts = read(tmp_path / "lcm" / "out" / "cost.json")["evaluations"]
    assert counts == {"student": n, "student_ema": n, "teacher": n}


def test_accumulation_averages_micro_batches(tmp_path: Path) -> None:
    spec = train_spec("lcm", {**LCM, "target": "stopgrad"}, updates=1, batch_size=4, accumulate=3)
    events = train(spec, tmp_path)
    method = build(TrainSpec.read(spec, of="it"), Runtime())
    method.backbone.load("cpu")
    from distillbench.data.batches import DataSource
    from distillbench.train.role import make_role

    role = make_role(
        method, "student", method.nets()["student"], seed=0, lr_scale=1.0, device="cpu"
    )
    method.bind({"student": role.net})
    data = DataSource(method.backbone, [f"condition {i}" for i in range(8)], seed=0, batch_size=4,
                      latents=True)  # fmt: skip
    losses = [float(method.loss("student", data.batch(0, i), 0).total.detach()) for i in range(3)]
    assert len(set(losses)) == 3
    assert events[-1]["losses"]["student/loss"] == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_progress_and_log(tmp_path: Path) -> None:
    events = train(train_spec("tdm", TDM, updates=3), tmp_path)
    assert [e["step"] for e in events] == [1, 2, 3]
    assert all(e["kind"] == "train" and e["steps"] == 3 for e in events)
    rows = [json.loads(x) for x in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert [row.pop("step") for row in rows] == [1, 2, 3]
    assert rows[0] == events[0]["losses"]
    assert set(rows[0]) == {"fake/loss", "fake/weight", "student/loss", "student/gap"}


def test_warnings_of_a_method_are_told_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half way and at the end; a resumed run keeps the same log."""

    def warnings(self: Any, log: Any) -> list[str]:
        return [f"{len(log)} rows, {sorted(log[-1])[0]}"]

    monkeypatch.setattr(TDM_, "warnings", warnings)
    spec = train_spec("tdm", TDM, updates=6)
    events = train(spec, tmp_path / "straight")
    notes = [e["note"] for e in events if "note" in e]
    assert notes == [f"tdm: at step {n} {n} rows, fake/loss" for n in (3, 6)]
    with pytest.raises(Interrupted):
        train(spec, tmp_path / "stopped", stop_after=4)
    train(spec, tmp_path / "stopped")
    logs = [(tmp_path / f / "out" / "train.jsonl").read_text() for f in ("straight", "stopped")]
    rows = [json.loads(line) for line in logs[0].splitlines()]
    assert [row["step"] for row in rows if "warning" in row] == [3, 6]
    assert logs[0] == logs[1]


def test_learning_rate_warms_up_and_scales(tmp_path: Path) -> None:
    spec = train_spec("lcm", {**LCM, "warmup_steps": 4}, updates=2, lr_scale=0.5)
    with pytest.raises(Interrupted):
        train(spec, tmp_path, stop_after=1)
    saved = state.latest(tmp_path / "checkpoints", at_most=1)
    assert saved is not None
    start = load_file_of_warm_start(spec)
    # Adam's first step moves every weight by the rate: 1e-3 / 2 scaled, a quarter warmed up.
    moved = max(float((saved.part("student/net")[n] - v).abs().max()) for n, v in start.items())
    assert moved == pytest.approx(1e-3 * 0.5 * 0.25, rel=0.05)


def load_file_of_warm_start(spec: Any) -> dict[str, torch.Tensor]:
    method = build(TrainSpec.read(spec, of="it"), Runtime())
    method.backbone.load("cpu")
    return method.backbone.make_net("x", "copy").tensors()


def test_the_teacher_trains_nothing_and_is_sampled(tmp_path: Path) -> None:
    spec = train_spec("teacher", {"guidance_scale": 2.0})
    spec |= {"train": {}, "data": {}, "seed": 0}
    train(spec, tmp_path)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cost.json", "recipe.json"]
    assert read(tmp_path / "out" / "cost.json")["student_updates"] == 0
    loaded = load_student(tmp_path / "out")
    assert loaded.net is None
    sampler = loaded.method.sampler(2)
    assert generate_images(loaded, ["condition 0"], sampler=sampler).shape == (1, 2)


def test_a_teacher_is_sampled_in_its_precision(tmp_path: Path) -> None:
    spec = train_spec("teacher", {"guidance_scale": 2.0})
    spec |= {"train": {"precision": "bfloat16"}, "data": {}, "seed": 0}
    train(spec, tmp_path)
    assert load_student(tmp_path / "out").method.backbone.dtype == "bfloat16"  # type: ignore[attr-defined]


def test_a_student_is_restored_from_its_folder(tmp_path: Path) -> None:
    spec = train_spec("tdm", {**TDM, "ema": 0.5}, updates=3)
    train(spec, tmp_path)
    restored = load_student(tmp_path / "out")
    assert restored.net is not None
    stored = load_file(tmp_path / "out" / "student.safetensors")
    for name, value in restored.net.tensors().items():
        assert torch.equal(value, stored[name])
    recipe = read(tmp_path / "out" / "recipe.json")
    assert recipe["default"] == restored.method.sampler(4).model_dump(mode="json")


def test_a_student_of_other_weights_is_refused(tmp_path: Path) -> None:
    spec = train_spec("lcm", LCM, updates=1)
    train(spec, tmp_path)
    recipe = read(tmp_path / "out" / "recipe.json")
    recipe["backbone"]["revision"] = "another"
    (tmp_path / "out" / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(ArtifactError, match="another"):
        load_student(tmp_path / "out")
    (tmp_path / "out" / "recipe.json").unlink()
    with pytest.raises(ArtifactError, match=r"recipe\.json"):
        load_student(tmp_path / "out")


def test_other_weights_than_planned_are_not_trained(tmp_path: Path) -> None:
    """Else a key would stand for weights that it does not speak of."""
    spec = train_spec("lcm", LCM, updates=1)
    spec["backbone"]["revision"] = "another"
    with pytest.raises(BadInput, match="not those that this run was planned with"):
        train(spec, tmp_path)


def test_changed_prompts_are_refused(tmp_path: Path) -> None:
    spec = train_spec("lcm", LCM, updates=1)
    spec["data"]["prompts_sha256"] = "0" * 64
    with pytest.raises(BadInput, match="changed since"):
        train(spec, tmp_path)


def test_other_training_images_than_planned_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a key would stand for images that it does not speak of."""
    monkeypatch.setattr(
        Gmm, "encode_images", lambda self, images: images[:, 0, 0, :2].float(), raising=False
    )
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    rows = folder / "captions.jsonl"
    rows.write_text('{"file": "a.png", "text": "condition 1"}\n')
    spec = train_spec("lcm", LCM, updates=1)
    spec["data"] = {"prompts_sha256": "", "images_sha256": images_identity(folder)}
    train(spec, tmp_path / "sound", images=str(folder))
    rows.write_text('{"file": "a.png", "text": "condition 2"}\n')
    for planned in (spec["data"]["images_sha256"], "missing:somewhere"):
        spec["data"]["images_sha256"] = planned
        with pytest.raises(BadInput, match="not the training images"):
            train(spec, tmp_path / planned[:4], images=str(folder))


def test_what_no_sampler_takes_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: TDM_, nfe: int) -> Any:
        raise NotSupported(f"not {nfe}")

    monkeypatch.setattr(TDM_, "sampler", refuse)
    with pytest.raises(NotSupported, match="no number of evaluations up to 1000"):
        train(train_spec("tdm", TDM, updates=2), tmp_path)
    assert not (tmp_path / "checkpoints").exists() or not any((tmp_path / "checkpoints").iterdir())


def test_an_unusual_number_of_steps_is_trained_and_sampled(tmp_path: Path) -> None:
    train(train_spec("tdm_unify", {**TDM, "steps_support": [3, 6]}, updates=1), tmp_path)
    recipe = read(tmp_path / "out" / "recipe.json")
    assert len(recipe["default"]["timesteps"]) == 3


def test_half_precision_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="needs a GPU"):
        train(train_spec("lcm", LCM, precision="float16"), tmp_path)


def test_bfloat16_trains_in_float32_weights(tmp_path: Path) -> None:
    train(train_spec("lcm", LCM, updates=2, precision="bfloat16"), tmp_path / "low")
    train(train_spec("lcm", LCM, updates=2), tmp_path / "full")
    tensors = load_file(tmp_path / "low" / "out" / "student.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert student(tmp_path / "low") != student(tmp_path / "full")


def test_settings_of_the_process_are_put_back(tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train(train_spec("lcm", LCM, updates=1), tmp_path)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


# ---- snapshots, and runs that start from others -------------------------------------------------


def test_stops_on_the_way_are_the_straight_run(tmp_path: Path) -> None:
    spec = train_spec("tdm", TDM, updates=6)
    train(spec, tmp_path / "straight")
    cuts = [{**spec, "train": {**spec["train"], "stop": stop}} for stop in (2, 5)]
    for cut in (*cuts, spec):  # each goes on where the one before stopped
        shutil.rmtree(tmp_path / "way" / "out", ignore_errors=True)
        train(cut, tmp_path / "way")
        if cut is cuts[0]:
            early = student(tmp_path / "way")
    assert student(tmp_path / "way") == student(tmp_path / "straight") != early
    train(cuts[0], tmp_path / "alone")
    assert student(tmp_path / "alone") == early
    cost = read(tmp_path / "alone" / "out" / "cost.json")
    assert cost["student_updates"] == 2


def test_a_stop_before_the_newest_checkpoint_starts_from_an_earlier_one(tmp_path: Path) -> None:
    spec = train_spec("lcm", LCM, updates=6)
    cut = {**spec, "train": {**spec["train"], "stop": 3}}
    train(cut, tmp_path / "alone")
    with pytest.raises(Interrupted):
        train(spec, tmp_path / "both", stop_after=5)
    train(cut, tmp_path / "both")
    assert student(tmp_path / "both") == student(tmp_path / "alone")


def test_a_stop_before_them_keeps_its_own_checkpoints_and_the_later_ones(tmp_path: Path) -> None:
    tensors = {"student/own/w": torch.zeros(2)}
    for step in (4, 5, 6, 1, 2, 3):
        assert state.save(tmp_path, step, tensors, {}, []).is_dir()
    assert [p.name[-1] for p in sorted(tmp_path.iterdir())] == ["2", "3", "5", "6"]


def run_in(store: Path, key: str, spec: dict[str, Any]) -> Path:
    """Train, and put the result beside earlier ones as `store`/<key>."""
    train(spec, store)
    shutil.rmtree(store / "checkpoints", ignore_errors=True)
    return (store / "out").rename(store / key)


def test_a_student_starts_from_another(tmp_path: Path) -> None:
    spec = train_spec("lcm", LCM, updates=2)
    first = run_in(tmp_path, "a", spec)
    slow = {**spec, "seed": 5, "train": {**spec["train"], "updates": 1, "lr_scale": 1e-12}}
    second = run_in(tmp_path, "b", {**slow, "init": "a"})
    a, b = (load_file(folder / "student.safetensors") for folder in (first, second))
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-6)


def test_a_trained_net_takes_the_teachers_place(tmp_path: Path) -> None:
    tune = {"nets": "copy", "lr": 1e-2, "guidance_scale": 1.0}
    first = run_in(tmp_path, "a", train_spec("sft", tune, updates=3))
    second = run_in(tmp_path, "b", {**train_spec("sft", tune, updates=3), "teacher": "a"})
    spec = {**train_spec("teacher", {"guidance_scale": 1.0}), "teacher": "b"}
    third = run_in(tmp_path, "c", spec)
    twice, teacher = load_student(second), load_student(third)
    assert teacher.net is None
    assert twice.net is not None
    x, t = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.full((4,), 500)
    cond = teacher.method.backbone.encode(["condition 1"] * 4)
    with torch.no_grad():
        of_teacher = teacher.method.backbone.predict(None, x, t, cond).x0
        of_tuned = twice.method.backbone.predict(twice.net, x, t, cond).x0
        of_base = load_student(first).method.backbone.predict(None, x, t, cond).x0
        before = twice.method.backbone.predict(None, x, t, cond).x0  # the run it started from
    assert torch.equal(of_teacher, of_tuned)
    assert not torch.allclose(of_teacher, before, atol=1e-4)
    assert not torch.allclose(before, of_base, atol=1e-4)
