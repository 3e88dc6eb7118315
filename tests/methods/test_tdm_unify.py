"""TDM-unify: what is told to whom, and that one K alone is TDM."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.method import Batch
from distillbench.core.loss import abs_mean_normalizer, squared_error
from distillbench.data.batches import DataSource
from distillbench.errors import ConfigError, NotSupported
from distillbench.methods.tdm_unify import TDMUnifyConfig
from distillbench.testing.method import train, train_spec
from distillbench.train.role import make_role as build_role

NODES = {1: (999,), 2: (999, 499), 4: (999, 749, 499, 249)}


def unify(**params: Any) -> Any:
    backbone = registry.build_backbone("gmm", {})
    return registry.build_method("tdm_unify", params, backbone)


def batches(method: Any, count: int) -> list[Batch]:
    method.backbone.load("cpu")
    data = DataSource(method.backbone, ["condition 0", "condition 5"], seed=0, batch_size=8)
    return [data.batch(step, 0) for step in range(count)]


def bound(**params: Any) -> tuple[Any, list[Batch]]:
    method = unify(**params)
    made = batches(method, 12)
    method.bind({
        name: build_role(method, name, spec, seed=0, lr_scale=1.0, device="cpu").net
        for name, spec in method.nets().items()
    })  # fmt: skip
    return method, made


@pytest.mark.parametrize("condition", [True, False])
def test_one_k_alone_is_tdm_bit_for_bit(tmp_path: Path, condition: bool) -> None:
    runs = {
        "tdm": {"steps": 4},
        "tdm_unify": {"steps_support": [4], "condition": condition},
    }
    for name, params in runs.items():
        train(train_spec(name, {"lr": 1e-3, **params}, updates=3), tmp_path / name)
    tdm, ours = ((tmp_path / name / "out" / "student.safetensors").read_bytes() for name in runs)
    assert ours == tdm


def test_the_embedding_of_k_starts_as_nothing() -> None:
    method, (batch, *_) = bound()
    x, t = batch.randn("probe"), torch.full((8,), 499)
    plain = method.backbone.make_net("plain", "copy")
    expected = method.backbone.predict(plain, x, t, batch.cond).raw
    for net in method.net.values():
        for k in (1, 2, 4):
            told = method.backbone.predict(net, x, t, batch.cond, steps_k=torch.full((8,), k))
            assert torch.equal(told.raw, expected)


def test_each_batch_has_one_k_out_of_the_support() -> None:
    method = unify()
    drawn = Counter()
    for batch in batches(method, 300):
        nodes = method.train_nodes(batch)
        k = len(nodes)
        assert nodes == NODES[k]
        assert method.conditions(batch)["steps_k"].tolist() == [k] * 8
        drawn[k] += 1
    assert set(drawn) == {1, 2, 4}
    assert min(drawn.values()) > 70


def test_student_and_fake_are_told_k_and_the_teacher_is_not() -> None:
    method, made = bound()
    assert all(spec.opts["conditions"] == ("steps_k",) for spec in method.nets().values())
    heard: list[tuple[str, Any]] = []
    plain = method.backbone.predict

    def predict(net: Any, *args: Any, **kwargs: Any) -> Any:
        heard.append((net.name if net else "teacher", kwargs.get("steps_k")))
        return plain(net, *args, **kwargs)

    method.backbone.predict = predict
    for batch in made[:4]:
        heard.clear()
        for turn in method.turns(0):
            method.loss(turn, batch, 0)
        k = len(method.train_nodes(batch))
        assert Counter(name for name, _ in heard) == {"student": k + 1, "teacher": 1, "fake": 2}
        for name, value in heard:
            assert (value is None) == (name == "teacher")
            assert value is None or value.tolist() == [k] * 8


def test_untold_nets_take_no_condition() -> None:
    method, (batch, *_) = bound(condition=False)
    assert method.conditions(batch) == {}
    assert not any("conditions" in spec.opts for spec in method.nets().values())
    assert method.sampler(2).steps_k is None


def test_samplers_of_the_support_tell_their_k() -> None:
    method = unify()
    for k, nodes in NODES.items():
        assert (method.sampler(k).timesteps, method.sampler(k).steps_k) == (nodes, k)
    with pytest.raises(NotSupported, match="steps_support=1, 2, 4"):
        method.sampler(8)
    assert unify(steps_support=[4]).sampler(4).steps_k is None
    for bad in ([], [4, 4], [0]):
        with pytest.raises(ConfigError):
            unify(steps_support=bad)


def test_without_the_surrogate_the_distance_is_the_normalised_square(toy: Any) -> None:
    x0, target = torch.randn(2, 8, 2, dtype=torch.float64)
    weight = 1 / abs_mean_normalizer(x0, target)
    plain = TDMUnifyConfig().distance(x0, target, weight)
    square = TDMUnifyConfig(loss="mse").distance(x0, target, weight)
    torch.testing.assert_close(square, squared_error(x0, target, weight), rtol=0, atol=0)
    assert plain != square


def test_trained_for_all_and_sampled_at_each(tmp_path: Path) -> None:
    from distillbench.sample.generate import generate_images, load_student

    train(train_spec("tdm_unify", {"lr": 1e-3}, updates=6), tmp_path)
    student = load_student(tmp_path / "out")
    prompts = ["condition 1"] * 4
    made = [generate_images(student, prompts, sampler=student.method.sampler(k)) for k in NODES]
    assert all(bool(points.isfinite().all()) for points in made)
    told = student.method.sampler(4)
    other = generate_images(student, prompts, sampler=told.model_copy(update={"steps_k": 1}))
    assert not torch.equal(other, made[2])  # the embedding has learnt something


def test_all_k_in_an_update_are_the_mean_over_every_k() -> None:
    method, made = bound(steps_drawn="all")
    single, _ = bound()
    single.bind(method.net)
    batch = made[0]
    for turn in method.turns(0):
        ours = method.loss(turn, batch, 0)
        each = [single.loss(turn, replace(batch, _memo={"steps": i}), 0) for i in range(3)]
        torch.testing.assert_close(ours.total, torch.stack([e.total for e in each]).mean())
        assert ours.scalars.keys() == each[0].scalars.keys()
        for name, value in ours.scalars.items():
            torch.testing.assert_close(value, torch.stack([e.scalars[name] for e in each]).mean())


def test_one_k_alone_is_the_same_however_it_is_drawn() -> None:
    (one, made), (every, _) = (bound(steps_support=[2], steps_drawn=how) for how in ("one", "all"))
    every.bind(one.net)
    for turn in one.turns(0):
        assert torch.equal(one.loss(turn, made[0], 0).total, every.loss(turn, made[0], 0).total)


def test_rollouts_of_all_k_are_run_once_for_both_turns() -> None:
    method, made = bound(steps_drawn="all")
    told: Counter[str] = Counter()
    plain = method.backbone.predict

    def predict(net: Any, *args: Any, **kwargs: Any) -> Any:
        told[net.name if net else "teacher"] += 1
        return plain(net, *args, **kwargs)

    method.backbone.predict = predict
    for turn in method.turns(0):
        method.loss(turn, made[0], 0)
    assert told == {"student": 1 + 2 + 4 + 3, "teacher": 3, "fake": 6}


@pytest.mark.parametrize("name", ["tdm", "tdm_unify"])
def test_the_fake_score_is_updated_as_often_as_asked(name: str) -> None:
    backbone = registry.build_backbone("gmm", {})
    method = registry.build_method(name, {"fake_updates": 3}, backbone)
    assert method.turns(0) == ("fake", "fake", "fake", "student")
    assert registry.build_method(name, {}, backbone).turns(0) == ("fake", "student")
    with pytest.raises(ConfigError, match="fake_updates"):
        registry.build_method(name, {"fake_updates": 0}, backbone)
