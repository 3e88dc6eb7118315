"""The methods on every pipeline family, with adapters on one shared base."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.backbone import Backbone
from distillbench.api.method import Method
from distillbench.data.batches import DataSource
from distillbench.train.role import Role, make_role, only

PROMPTS = ["a red car", "blue boat"]
FAMILIES = ["sd", "sdxl", "sd3", "pixart", "cogvideox"]
GAN = {"adversarial_weight": 0.1}
TRAINED = [name for name in registry.METHODS.names() if name not in ("teacher", "pretrained")]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in TRAINED},
    "sft": ("sft", {"drop_prompt": 0.5}),
    "dmd2 gan": ("dmd2", GAN),
    "dmd2 gan teacher": ("dmd2", {**GAN, "adversarial_features": "teacher"}),
    "dmd2 one step": ("dmd2", {"steps": 1, "input_time": 399, "regression": "joint",
                               "regression_solver_steps": 3}),
    "tdm_unify gan": ("tdm_unify", GAN),
    "lightning adversary": ("lightning", {"w_adv": 1, "stages": [4, 2], "teacher_steps": 8}),
    "tcd ctm": ("tcd", {"soft_steps": 3, "w_score": 0.1}),
}  # fmt: skip
Build = Callable[..., Backbone]


def bound(name: str, backbone: Backbone, **params: Any) -> tuple[Method, dict[str, Role]]:
    method = registry.build_method(name, {"rank": 2, "lora_alpha": 2.0, **params}, backbone)
    roles = {
        role: make_role(method, role, spec, seed=0, lr_scale=1.0, device="cpu")
        for role, spec in method.nets().items()
    }
    method.bind({role: made.net for role, made in roles.items()})
    return method, roles


def batch_of(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(
        type(backbone),
        "training_latents",
        lambda self, prompts, rng: torch.randn(len(prompts), *self.latent_shape, generator=rng),
    )
    return DataSource(backbone, PROMPTS, seed=0, batch_size=2, latents=True).batch(0, 0)


def turn(method: Method, roles: dict[str, Role], name: str, batch: Any, step: int = 0) -> float:
    only(method.trains(name), roles.items())
    with roles[name].net.active():
        loss = method.loss(name, batch, step).total
        loss.backward()
    return float(loss.detach())


@pytest.mark.parametrize("case", CASES)
def test_a_step_trains_adapters_and_leaves_the_base(
    loaded: Backbone, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(loaded, monkeypatch)
    name, params = CASES[case]
    method, roles = bound(name, loaded, **params)
    t = torch.tensor([999, 399])
    x = batch.randn("probe")
    before = loaded.predict(None, x, t, batch.cond).raw.detach().clone()
    own = {id(p) for made in roles.values() for p in made.parameters}
    network = getattr(loaded.pipe, loaded.network)  # type: ignore[attr-defined]
    base = [p for p in network.parameters() if id(p) not in own]
    for role in method.turns(0):
        assert math.isfinite(turn(method, roles, role, batch))
        assert all(p.grad is None for p in base)
        for other, made in roles.items():
            trained = other in method.trains(role)
            assert any(p.grad is not None for p in made.parameters) == trained
        for made in (roles[name] for name in method.trains(role)):
            start = made.net.tensors()
            assert made.gather(_Alone())
            made.step(_Alone())
            assert any(not torch.equal(v, start[n]) for n, v in made.net.tensors().items())
    assert torch.equal(loaded.predict(None, x, t, batch.cond).raw, before)


class _Alone:
    """A team of one process."""

    scaler: Any = None

    def average(self, parameters: Any) -> None:
        pass


def test_at_the_start_only_the_zero_factor_gets_gradient(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = build("sd")
    method, roles = bound("lcm", backbone, teacher_guidance=(1.0, 1.0))
    loss = turn(method, roles, "student", batch_of(backbone, monkeypatch))
    assert loss > 0
    tensors = list(roles["student"].net.tensors())
    grads = dict(zip(tensors, roles["student"].parameters, strict=True))
    first = [p.grad for n, p in grads.items() if "lora_A" in n]
    second = [p.grad for n, p in grads.items() if "lora_B" in n]
    assert first
    assert second
    assert all(g is not None and not g.any() for g in first)
    assert any(g is not None and bool(g.any()) for g in second)


def test_embedded_guidance_starts_as_the_teacher(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = build("sd")
    method, roles = bound("lcm", backbone, nets="copy", target="stopgrad")
    batch = batch_of(backbone, monkeypatch)
    t, x = torch.tensor([999, 399]), batch.randn("probe")
    student = roles["student"].net
    plain = backbone.predict(None, x, t, batch.cond).raw
    for scale in (3.0, 12.0):
        told = backbone.predict(student, x, t, batch.cond, embed_scale=torch.full((2,), scale)).raw
        assert torch.equal(told, plain)
    turn(method, roles, "student", batch)
    names = student.tensors()
    grads = dict(zip(names, roles["student"].parameters, strict=True))
    embedding = [p.grad for n, p in grads.items() if "guidance" in n]
    assert embedding
    assert all(g is not None and bool(g.any()) for g in embedding)


def test_equal_adapters_give_the_pure_guidance_direction(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = build("sd")
    method, roles = bound("tdm", backbone, teacher_guidance=1.0, huber_form="vector")
    # student, fake and teacher are one network: nothing moves
    assert turn(method, roles, "student", batch_of(backbone, monkeypatch)) == 0
    for parameter in roles["student"].parameters:
        assert parameter.grad is None or not parameter.grad.any()
    guided, roles = bound("tdm", build("sd"), teacher_guidance=3.5)
    assert turn(guided, roles, "student", batch_of(guided.backbone, monkeypatch)) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adversary_reads_middle_features_and_trains_the_adapter(
    family: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = build(family)
    batch = batch_of(loaded, monkeypatch)
    method, roles = bound("tscd", loaded, w_adv=(0.1, 0.1, 0.5, 1.0), teacher_guidance=(1.0, 1.0))
    assert method.turns(0) == ("student", "disc")
    for role in method.turns(0):
        assert math.isfinite(turn(method, roles, role, batch))
        for other, made in roles.items():
            touched = any(p.grad is not None for p in made.parameters)
            assert touched == (other == role)
            made.optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_one_step_stage_trains_student_and_fake_score(
    family: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = build(family)
    batch = batch_of(loaded, monkeypatch)
    method, roles = bound(
        "tscd", loaded, one_step=True, one_step_solver_steps=2, teacher_guidance=(2.0, 2.0)
    )
    method.total_steps = 5
    assert method.turns(4) == ("student", "fake")
    for role in method.turns(4):
        assert math.isfinite(turn(method, roles, role, batch, 4))
        for other, made in roles.items():
            grads = [p.grad for p in made.parameters if p.grad is not None]
            assert any(bool(g.any()) for g in grads) == (other == role)
            made.optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("tcf", ["1", "2", "S+"])
def test_tcd_starts_from_the_teachers_own_inconsistency(
    build: Build, monkeypatch: pytest.MonkeyPatch, tcf: str
) -> None:
    backbone = build("sd")
    method, roles = bound("tcd", backbone, teacher_guidance=(1.0, 1.0), tcf=tcf)
    assert 0 < turn(method, roles, "student", batch_of(backbone, monkeypatch)) < math.inf
    own = zip(roles["student"].net.tensors(), roles["student"].parameters, strict=True)
    grads = {name: p.grad for name, p in own}
    assert all(g is not None and not g.any() for n, g in grads.items() if "lora_A" in n)
    assert any(g is not None and bool(g.any()) for n, g in grads.items() if "lora_B" in n)
    told = [g for n, g in grads.items() if "end_t" in n]
    assert any(g is not None and bool(g.any()) for g in told) == (tcf == "S+")
