"""TSCD's segments, stages and adversary against TCD and closed forms, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError

from distillbench.api import registry
from distillbench.api.samplers import GammaSampler, OdeSampler
from distillbench.core.process import CLEAN, NoiseProcess
from distillbench.core.solve import ddim
from distillbench.errors import NotSupported
from distillbench.methods.settings.tscd import Phase
from distillbench.methods.shared.consistency import offset_noise
from distillbench.methods.shared.pair_discriminator import gradient_balanced
from distillbench.methods.tcd import TCD, TCDConfig
from distillbench.methods.tscd import TSCD, TSCDConfig
from distillbench.testing.method import MethodContract, train_spec

SD = NoiseProcess.scaled_linear()
CLEAN_END = NoiseProcess.scaled_linear(final=CLEAN)
SHARED: dict[str, Any] = {"teacher_guidance": (1.0, 1.0), "solver_steps": 40, "target": "stopgrad"}
ONE: dict[str, Any] = {**SHARED, "segments": (1,), "w_mse": (1.0,), "w_adv": (0.0,)}
ADVERSARIAL: dict[str, Any] = {"w_mse": (1.0, 1.0, 0.5, 0.1), "w_adv": (0.0, 0.1, 0.5, 1.0)}


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


def bound(kind: Any, config: Any, toy: Any, make_role: Any, process: NoiseProcess = SD) -> Any:
    method = kind(config, toy(output, process))
    method.bind({"student": make_role("student", output)})
    return method


@pytest.mark.parametrize("process", [SD, CLEAN_END])
@pytest.mark.parametrize(
    ("steps", "segments"), [(40, 8), (40, 4), (40, 2), (40, 1), (8, 8), (50, 2)]
)
def test_end_times_stay_in_the_segment(
    toy: Any, make_role: Any, process: NoiseProcess, steps: int, segments: int
) -> None:
    config = TSCDConfig(**{**ONE, "segments": (segments,), "stop_at_segments": segments,
                           "solver_steps": steps})  # fmt: skip
    method, final = bound(TSCD, config, toy, make_role, process), process.final
    batch = method.backbone.drawn(40_000)
    pair, end = method.times(batch, phase(method, 0))
    length = 1000 // segments
    edge = (length * (pair.t // length) - 1).clamp(min=final)  # any t of a grid of 1000 / length
    assert len(pair.t.unique()) == steps
    assert bool(((edge <= end) & (end <= pair.u) & (pair.u < pair.t)).all())
    for t in pair.t.unique():
        ends, here = end[pair.t == t], pair.t == t
        assert bool((ends == pair.u[here]).any())
        assert bool((ends == edge[here]).any())
    stride = 1000 // steps
    assert bool((((end + 1) % stride == 0) | (end == final)).all())


@pytest.mark.parametrize("steps", [40, 50])
def test_one_segment_is_tcd_bit_for_bit(toy: Any, make_role: Any, steps: int) -> None:
    shared = {**SHARED, "solver_steps": steps}
    tcd = bound(TCD, TCDConfig(**shared), toy, make_role)
    config = TSCDConfig(**{**ONE, "solver_steps": steps}, offset_noise=0)
    tscd = bound(TSCD, config, toy, make_role)
    pair, end = tscd.times(tscd.backbone.drawn(), phase(tscd, 0))
    assert torch.equal(tcd.end_time(tcd.backbone.drawn(), pair), end)
    losses = [m.loss("student", m.backbone.drawn(), 0).total for m in (tcd, tscd)]
    assert torch.equal(*losses)


def phase(method: TSCD, step: int) -> Phase:
    """The phase of a step of the training under way."""
    return method.config.phase(step, method.total_steps)  # type: ignore[no-any-return]


def test_ends_at_the_edge_are_phased_consistency(toy: Any, make_role: Any) -> None:
    settings = {**ONE, "segments": (4,), "stop_at_segments": 4, "ends": "edge", "offset_noise": 0}
    method = bound(TSCD, TSCDConfig(**settings), toy, make_role, CLEAN_END)
    batch = method.backbone.drawn()
    pair, end = method.times(batch, phase(method, 0))
    assert torch.equal(end, 250 * (pair.t // 250) - 1)
    # PCM (arXiv 2405.18407): both are solved to the edge, and x_u is the target where u is it
    backbone = method.backbone
    states = []
    for x, t in ((pair.x_t, pair.t), (pair.x_u, pair.u.clamp(min=0))):
        pred = backbone.predict(None, x, t, batch.cond)
        states.append(ddim(pred.x0, pred.eps, *CLEAN_END.alpha_sigma(end, x)))
    target = torch.where((pair.u == end)[:, None], pair.x_u, states[1])
    assert bool((pair.u == end).any())
    expected = ((states[0] - target) ** 2).mean()
    loss = method.loss("student", batch, 0).total
    assert (loss - expected).abs() <= 1e-15


@pytest.mark.parametrize(("segments", "share"), [(8, 0.457), (4, 0.293), (2, 0.180), (1, 0.107)])
def test_share_of_targets_without_a_network_call(
    toy: Any, make_role: Any, segments: int, share: float
) -> None:
    config = TSCDConfig(**{**ONE, "segments": (segments,), "stop_at_segments": segments})
    method = bound(TSCD, config, toy, make_role)
    batch, sizes = method.backbone.drawn(20_000), []
    predict = method.backbone.predict
    method.backbone.predict = lambda net, x, t, cond, **kw: (
        sizes.append(len(x)), predict(net, x, t, cond, **kw)
    )[1]  # fmt: skip
    method.loss("student", batch, 0)
    teacher, target, student = sizes
    assert teacher == student == 20_000
    # H_n / n for the n = 40 / segments grid points of a segment
    assert 1 - target / 20_000 == pytest.approx(share, abs=0.012)


def test_stages_share_the_training(toy: Any, make_role: Any) -> None:
    method = bound(TSCD, TSCDConfig(), toy, make_role)
    assert {phase(method, step).segments for step in (0, 7, 10_000)} == {8}  # outside a training
    method.total_steps = 400
    found = [phase(method, step).segments for step in (0, 99, 100, 199, 200, 299, 300, 399)]
    assert found == [8, 8, 4, 4, 2, 2, 1, 1]
    shares = TSCDConfig(phase_updates=(300, 100), stop_at_segments=4)
    method = bound(TSCD, shares, toy, make_role)
    for total in (400, 40):
        method.total_steps = total
        assert [phase(method, s).segments for s in (0, total * 3 // 4 - 1, total * 3 // 4)] == [
            8,
            8,
            4,
        ]
        assert phase(method, total - 1).segments == 4
    method.total_steps = 3  # fewer steps than some stages need still end in the last one
    assert phase(method, 2).segments == 4


def test_the_loop_tells_how_long_the_training_is(tmp_path: Any) -> None:
    from distillbench.specs.context import StageContext
    from distillbench.specs.stages import TrainSpec
    from distillbench.train.loop import Trainer
    from distillbench.train.ranks import Team
    from distillbench.train.work import TrainWork

    spec = train_spec("tscd", {"nets": "copy"}, updates=8)
    work = TrainWork(TrainSpec.read(spec, of="it"), StageContext(), tmp_path, tmp_path)
    trainer = Trainer(work, Team(1, "cpu", "float32"))
    method: Any = trainer.method
    assert [phase(method, step).segments for step in range(8)] == [8, 8, 4, 4, 2, 2, 1, 1]


@pytest.mark.parametrize(("modality", "shape"), [("image", (3, 4, 4)), ("video", (2, 3, 4, 4))])
def test_offset_noise_is_constant_over_a_channel(
    toy: Any, make_role: Any, modality: str, shape: tuple[int, ...]
) -> None:
    def noise(strength: float) -> torch.Tensor:
        method = bound(TSCD, TSCDConfig(offset_noise=strength), toy, make_role)
        method.backbone.modality = modality
        batch = method.backbone.drawn(500)
        batch.latent_shape = shape
        return offset_noise(batch, method.config.offset_noise, method.backbone.modality)

    offset = (noise(0.1) - noise(0.0)).movedim(-3, 1).flatten(2)  # (samples, channels, the rest)
    assert offset.std(2).max() < 1e-6
    assert float(offset[:, :, 0].std()) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"solver_steps": 50}, "8 segments do not divide 50"),
        ({"segments": (8, 3), "stop_at_segments": 3}, "3 segments do not divide 40"),
        ({"segments": (4, 8)}, "falling list"),
        ({"stop_at_segments": 3}, "3 is not one of 8, 4, 2, 1"),
        ({"phase_updates": (10, 10)}, "one entry for each of 4 phases"),
        ({"w_adv": (0.0, 0.1)}, "one entry for each entry of segments"),
        ({"w_mse": (0.0, 1.0, 1.0, 1.0)}, "trains nothing"),
        ({"gamma": 0.3, "stop_at_segments": 4}, "cross the edges"),
    ],
)
def test_settings_that_cannot_be_trained(config: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TSCDConfig(**config)


def test_sampling_recipes() -> None:
    backbone = registry.build_backbone("gmm", {})

    def recipe(nfe: int, **config: Any) -> Any:
        return registry.build_method("tscd", config, backbone).sampler(nfe)

    four = recipe(4, stop_at_segments=4)
    assert isinstance(four, OdeSampler)
    assert (four.solver, four.end, four.timesteps) == ("ddim", "schedule", (999, 749, 499, 249))
    assert recipe(8, stop_at_segments=4).timesteps == (999, 874, 749, 624, 499, 374, 249, 124)
    # Twelve are no even spacing of 40, but still stop at all four edges.
    assert {749, 499, 249} <= set(recipe(12, stop_at_segments=4).timesteps)
    assert recipe(1).timesteps == (999,)
    unified = recipe(3, gamma=0.5)
    assert isinstance(unified, GammaSampler)
    assert unified.gamma == 0.5
    for nfe in (1, 2, 6, 44):
        with pytest.raises(NotSupported, match="multiples of 4"):
            recipe(nfe, stop_at_segments=4)
    with pytest.raises(NotSupported, match="do not divide 1000"):
        recipe(1, solver_steps=48)


def test_a_discriminator_is_there_only_where_a_stage_needs_it() -> None:
    backbone = registry.build_backbone("gmm", {})
    early: Any = registry.build_method("tscd", {**ADVERSARIAL, "stop_at_segments": 8}, backbone)
    assert set(early.nets()) == {"student"}
    method: Any = registry.build_method("tscd", ADVERSARIAL, backbone)
    assert method.nets()["disc"].kind == "head"
    method.total_steps = 4
    assert [method.turns(step) for step in range(2)] == [("student",), ("student", "disc")]


def test_balanced_gradients_have_the_same_length() -> None:
    x = torch.randn(5, 3, dtype=torch.float64).requires_grad_(True)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    main, other = gradient_balanced(
        x, lambda x: (x**2).mean(), lambda x: (weight * 3 * x.sin()).mean()
    )  # fmt: skip
    first, second = (torch.autograd.grad(v, x, retain_graph=True)[0] for v in (main, other))
    assert first.norm().item() == pytest.approx(second.norm().item())
    direction = x.detach().cos()
    torch.testing.assert_close(second / second.norm(), direction / direction.norm())
    assert weight.grad is None
    tiny = gradient_balanced(x, lambda x: 1e6 * (x**2).mean(), lambda x: x.sin().mean())[1]
    gradient = torch.autograd.grad(tiny, x)[0]
    torch.testing.assert_close(gradient, 10 * direction / 15)


def test_the_adversary_learns_to_tell_jumps_apart_and_then_pushes_the_student() -> None:
    from distillbench.data.batches import DataSource
    from distillbench.train.role import make_role as real_role
    from distillbench.train.role import only

    settings = {"segments": (4,), "stop_at_segments": 4, "w_mse": (0.5,), "w_adv": (1.0,),
                "nets": "copy", "disc_lr": 1e-2, "teacher_guidance": (1.0, 1.0)}  # fmt: skip
    backbone = registry.build_backbone("gmm", {})
    backbone.load("cpu")
    method: Any = registry.build_method("tscd", settings, backbone)
    roles = {
        name: real_role(method, name, spec, seed=0, lr_scale=1.0, device="cpu")
        for name, spec in method.nets().items()
    }
    method.bind({name: made.net for name, made in roles.items()})
    # Shifted jumps are easy to tell from the targets.
    forward, losses = method.jump, []
    method.jump = lambda net, *args: (
        forward(net, *args) + (0.5 if net is roles["student"].net else 0)
    )
    data = DataSource(backbone, ["condition 0"], seed=0, batch_size=64, latents=True)
    for step in range(40):
        batch = data.batch(step, 0)
        only(("disc",), roles.items())
        found = method.loss("disc", batch, step)
        found.total.backward()
        assert all(p.grad is None for p in roles["student"].parameters)
        roles["disc"].optimizer.step()
        roles["disc"].optimizer.zero_grad()
        losses.append(float(found.total.detach()))
    assert losses[-1] < 0.5 * losses[0]
    only(("student",), roles.items())
    loss = method.loss("student", data.batch(99, 0), 99)
    loss.total.backward()
    assert all(p.grad is None for p in roles["disc"].parameters)
    assert float(loss.scalars["adversary"].detach()) > 0


class TestAdversarial(MethodContract):
    """The contract with a discriminator from the first stage on; four steps, a stage each."""

    method = "tscd"
    params: ClassVar[Mapping[str, Any]] = {
        "nets": "copy", "lr": 1e-3, "w_mse": (1.0, 1.0, 0.5, 0.1), "w_adv": (0.1, 0.1, 0.5, 1.0)
    }  # fmt: skip
