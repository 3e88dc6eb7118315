"""Every registered method keeps the contract, on the exact world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from distillbench.api import registry
from distillbench.data.prompts import prompt_identity
from distillbench.errors import NotSupported
from distillbench.testing.method import MethodContract
from distillbench.train.role import make_role

PARAMS: dict[str, dict[str, Any]] = {
    "teacher": {"guidance_scale": 2.0},
    "lcm": {"nets": "copy", "lr": 1e-3},
    "tdm": {"nets": "copy", "lr": 1e-3, "ema": 0.9},
    "sft": {"lr": 1e-3, "ema": 0.9},
}
# A training has four steps, so pre-training of two is left within it.
ONE_STEP = {"steps": 1, "input_time": 399, "regression_updates": 2, "regression_solver_steps": 2}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dmd2 gan": ("dmd2", {"adversarial_weight": 0.1}),
    "dmd2 gan teacher": (
        "dmd2", {"adversarial_weight": 0.1, "adversarial_features": "teacher"}
    ),
    "dmd2 joint": ("dmd2", {**ONE_STEP, "regression": "joint", "fake_updates": 1}),
    "dmd2 pretrain": ("dmd2", {**ONE_STEP, "regression": "pretrain", "adversarial_weight": 0.1}),
    "tdm_unify gan": ("tdm_unify", {"adversarial_weight": 0.1}),
    "tdm_unify gan teacher": (
        "tdm_unify", {"adversarial_weight": 0.1, "adversarial_features": "teacher"}
    ),
    "perflow noise": (
        "perflow", {"reads": "diff_eps", "solver_steps": 2, "start_share": 0.5, "ema": 0.9}
    ),
    "perflow one step": ("perflow", {"windows": 1, "one_step_share": 0.5, "solver_steps": 2}),
    "lightning adversary": (
        "lightning", {"stages": [8, 4], "teacher_steps": 16, "w_adv": 0.5, "ema": 0.9}
    ),
    "flow_map jvp": ("flow_map", {"derivative": "jvp", "nets": "copy", "lr": 1e-3}),
    "rcm rollout": ("rcm", {"rollout": 3, "nets": "copy", "lr": 1e-3}),
    "ladd each": ("ladd", {"heads": "each", "student_input": "simulation", "disc_updates": 2}),
    "ladd real": ("ladd", {"data": "latents", "r1": 0.1, "w_distillation": 1.0, "ema": 0.9}),
    "tcd ctm": ("tcd", {"soft_steps": 3, "w_score": 0.1, "tcf": "S+", "nets": "copy"}),
    "tscd pcm": (
        "tscd", {"segments": [4], "stop_at_segments": 4, "ends": "edge", "distance": "huber",
                 "w_mse": [1], "w_adv": [0.1], "offset_noise": 0},
    ),
}  # fmt: skip
CASES = (
    # What is made of a file of others has tests of its own, on files.
    {name: (name, {}) for name in registry.METHODS.names() if name != "pretrained"}
    | {f"{name} changed": (name, params) for name, params in PARAMS.items()}
    | VARIANTS
)
NFE = {"dmd2 joint": 1, "dmd2 pretrain": 1, "perflow one step": 1}


@pytest.mark.parametrize("case", CASES)
class TestRegistered(MethodContract):
    """Each method as it is by default; new files need no entry here."""

    method: ClassVar[str] = ""
    params: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _choose(self, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
        method, params = CASES[case]
        monkeypatch.setattr(type(self), "method", method)
        monkeypatch.setattr(type(self), "params", params)
        monkeypatch.setattr(type(self), "nfe", NFE.get(case, 4))


SAMPLED = {
    "teacher": {"guidance_scale", "solver"}, "sft": {"guidance_scale", "solver"},
    "lcm": {"sample_guidance"}, "tcd": {"sample_guidance", "gamma"}, "tdm": {"test_solver"},
    "tdm_unify": {"test_solver"}, "tscd": {"gamma", "sample_guidance"},
}  # fmt: skip


@pytest.mark.parametrize("method", SAMPLED)
def test_the_contract_tries_every_setting_of_sampling(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MethodContract, "method", method, raising=False)
    assert MethodContract().other_sampling().keys() == SAMPLED[method]


def test_a_mark_that_lies_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A field marked SAMPLING that its training reads fails the contract."""
    lcm = registry.METHODS.get("lcm")
    monkeypatch.setattr(MethodContract, "method", "lcm", raising=False)
    true = lcm.loss

    def loss(self: Any, turn: str, batch: Any, step: int) -> Any:
        found = true(self, turn, batch, step)
        return replace(found, total=found.total * self.config.sample_guidance)

    monkeypatch.setattr(lcm, "loss", loss)
    with pytest.raises(AssertionError, match="sample_guidance"):
        MethodContract().test_settings_of_sampling_leave_training_alone(tmp_path)


def test_prompts_are_the_backbones_own_where_none_are_named() -> None:
    class OnPictures(MethodContract):
        method, backbone = "lcm", "tiny-sd"

    assert OnPictures().spec()["data"]["prompts_sha256"] == prompt_identity("world-train")


def test_a_head_without_sizes_is_refused_in_one_line() -> None:
    import torch

    method = registry.build_method(
        "dmd2", {"adversarial_weight": 0.1}, registry.build_backbone("gmm", {})
    )
    name = next(name for name, spec in method.nets().items() if spec.kind == "head")
    vars(method)["make_head"] = lambda name: torch.nn.LazyLinear(1)
    with pytest.raises(NotSupported, match="has layers without sizes") as refused:
        make_role(method, name, method.nets()[name], seed=0, lr_scale=1.0, device="cpu")
    assert "latent_shape" in refused.value.line
