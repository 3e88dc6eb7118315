"""Nets that differ in kind: the student an adapter, the fake score a full copy, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillbench.api import registry
from distillbench.errors import ConfigError
from distillbench.testing.method import train, train_spec

SEVERAL: dict[str, dict[str, Any]] = {
    "dmd2": {"fake_updates": 1}, "tdm": {}, "tdm_unify": {},
    "tscd": {"segments": (1,), "w_mse": (1.0,), "w_adv": (0.0,), "one_step": True},
}  # fmt: skip
MIXED: list[Any] = [{"student": "lora", "fake": "copy"}, {"student": "copy", "fake": "lora"}]


def build(name: str, **params: Any) -> Any:
    return registry.build_method(name, params, registry.build_backbone("tiny-sd", {}))


@pytest.mark.parametrize("nets", MIXED)
@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_each_role_is_of_its_kind(name: str, nets: Any) -> None:
    roles = build(name, **SEVERAL[name], nets=nets).nets()
    assert {role: roles[role].kind for role in ("student", "fake")} == nets
    assert {role for role in nets if "rank" in roles[role].opts} == {
        role for role, kind in nets.items() if kind == "lora"
    }


@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_one_kind_for_all_is_the_same_for_each(name: str) -> None:
    for kind in ("lora", "copy"):
        both = {"student": kind, "fake": kind}
        one, each = (build(name, **SEVERAL[name], nets=n).nets() for n in (kind, both))
        assert one == each


@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_an_adapter_trains_beside_a_copy(name: str, tmp_path: Path) -> None:
    spec = {"backbone": "tiny-sd", "prompts": "world-train", "updates": 1, "batch_size": 2}
    weights = {}
    for nets in (*MIXED, "copy"):
        params = {**SEVERAL[name], "nets": nets, "rank": 2, "lora_alpha": 2.0}
        folder = tmp_path / str(nets)
        train(train_spec(name, params, **spec), folder)
        weights[str(nets)] = (folder / "out" / "student.safetensors").stat().st_size
    adapter, copy, full = weights.values()
    assert adapter < copy / 3
    assert copy == full


@pytest.mark.parametrize("nets", [
    "full", 3, None, [], {"student": "lora"}, {"student": "lora", "fake": "full"},
    {"student": "lora", "fake": "copy", "head": "copy"}, {"student": ["lora"], "fake": "copy"},
])  # fmt: skip
@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_other_kinds_are_refused_in_one_line(name: str, nets: Any) -> None:
    with pytest.raises(ConfigError, match="a kind for each role") as error:
        build(name, nets=nets)
    assert len(str(error.value).strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["lcm", "tcd", "sft"])
def test_one_role_has_one_kind(name: str) -> None:
    with pytest.raises(ConfigError, match="nets"):
        build(name, nets={"student": "lora", "fake": "copy"})


# ---- warm-up --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_each_role_has_its_warm_up(name: str) -> None:
    given = {**SEVERAL[name], "warmup_steps": {"student": 50, "fake": 3}}
    if name in ("dmd2", "tdm_unify"):
        given["adversarial_weight"] = 0.1
    steps = {role: spec.optim.warmup_steps for role, spec in build(name, **given).nets().items()}
    assert steps.pop("student") == 50
    assert set(steps.values()) == {3}  # a head learns beside the fake score
    both = build(name, **SEVERAL[name], warmup_steps=7).nets()
    assert {spec.optim.warmup_steps for spec in both.values()} == {7}


@pytest.mark.parametrize("steps", [
    -1, True, 2.5, "50", None, [], {"student": 50}, {"student": -1, "fake": 0},
    {"student": 50, "fake": 0, "head": 0}, {"student": 50.0, "fake": 0},
])  # fmt: skip
@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_other_warm_ups_are_refused_in_one_line(name: str, steps: Any) -> None:
    with pytest.raises(ConfigError, match="a number of updates, or one for each role") as error:
        build(name, warmup_steps=steps)
    assert len(str(error.value).strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["lcm", "tcd", "sft"])
def test_one_role_has_one_warm_up(name: str) -> None:
    with pytest.raises(ConfigError, match="warmup_steps"):
        build(name, warmup_steps={"student": 50, "fake": 0})
