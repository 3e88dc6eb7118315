"""SiD and decoupled DMD in float64: what they equal, and where they have no gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distillbench.core.matching import fisher_surrogate
from distillbench.core.process import NoiseProcess
from distillbench.methods.decoupled_dmd import DecoupledDMD, DecoupledDMDConfig
from distillbench.methods.shared.scores import matching_point
from distillbench.methods.sid import SiD, SiDConfig

PROCESSES = {"vp": NoiseProcess.scaled_linear(), "flow": NoiseProcess.flow()}


def of(dmd2: Any, kind: str, **config: Any) -> Any:
    """DMD2 on a process; networks of flow models put out a velocity: they start without signal."""
    base = dmd2(process=PROCESSES[kind], **config)
    base.backbone.prediction_type = "epsilon" if kind == "vp" else "flow"
    return base


def on(base: Any, method: Any) -> Any:
    method.bind(base.net)
    return method


def moved(method: Any, base: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The student's loss, and its gradient in the student's one parameter."""
    total = method.loss("student", batch, 0).total
    return total, torch.autograd.grad(total, base.gain)[0]


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.2])
def test_sid_is_its_papers_loss(dmd2: Any, kind: str, alpha: float) -> None:
    base = of(dmd2, kind, shift=0.3)
    ours = on(base, SiD(SiDConfig(alpha=alpha, teacher_guidance=3), base.backbone))
    batch = base.backbone.batch()
    x_u, u = ours.student_input(batch, "student")
    pred = ours.predict("student", x_u, u, batch)
    x_t, t = matching_point(ours, pred, batch, "student")
    real, fake = ours.teacher(x_t, t, batch, 3.0).x0, ours.predict("fake", x_t, t, batch).x0
    top = ((real - fake) * ((real - pred.x0) - alpha * (real - fake))).mean(1)
    expected = (top / (pred.x0 - real).detach().abs().mean(1)).mean()
    total, grad = moved(ours, base, batch)
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, base.gain)[0], rtol=1e-9, atol=0)
    assert float(grad.abs()) > 1e-6


def test_sid_at_alpha_one_is_tdms_fisher_form_bit_for_bit() -> None:
    rng = torch.Generator().manual_seed(0)
    x, real, fake = torch.randn(3, 64, 2, generator=rng, dtype=torch.float64)
    product = ((real - fake) * (fake - x)).mean()
    assert torch.equal(fisher_surrogate(x, real, fake, None), fisher_surrogate(
        x, real, fake, None, 1.0))  # fmt: skip
    torch.testing.assert_close(fisher_surrogate(x, real, fake, None), product)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.2])
def test_sid_has_no_gradient_where_both_scores_agree(dmd2: Any, alpha: float) -> None:
    base = dmd2(shift=0.0)
    ours = on(base, SiD(SiDConfig(alpha=alpha, teacher_guidance=1), base.backbone))
    total, grad = moved(ours, base, base.backbone.batch())
    assert float(total.detach().abs()) < 1e-12
    assert float(grad.abs()) < 1e-12


def test_sid_guides_the_fake_score_in_both_turns(dmd2: Any) -> None:
    base = dmd2(shift=0.3)
    losses = []
    for scale in (1.0, 2.0):
        ours = on(base, SiD(SiDConfig(fake_guidance=scale), base.backbone))
        batch = base.backbone.batch()
        losses.append([ours.loss(turn, batch, 0).total for turn in ("fake", "student")])
    assert all(bool(a != b) for a, b in zip(*losses, strict=True))


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_sids_fake_score_may_know_no_prompt_or_less(dmd2: Any, scale: float) -> None:
    """Zero-CFG and Anti-CFG (arXiv 2505.12674): the unconditional score, and beyond it."""
    base = dmd2(shift=0.3)
    ours = on(base, SiD(SiDConfig(fake_guidance=scale), base.backbone))
    batch = base.backbone.batch()
    x, t = batch.randn("x").double(), batch.randint(0, 1000, "t")
    cond, free = batch.cond, batch.uncond.expand(len(batch))
    told, untold = (base.backbone.predict(base.net["fake"], x, t, c).eps for c in (cond, free))
    found = ours.predict("fake", x, t, batch).eps
    torch.testing.assert_close(found, untold + scale * (told - untold), rtol=1e-12, atol=1e-12)
    assert not torch.equal(found, told)


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("scale", [1.0, 1.75, 8.0])
def test_decoupled_with_one_law_and_one_draw_is_dmd2(dmd2: Any, kind: str, scale: float) -> None:
    base = of(dmd2, kind, shift=0.3, teacher_guidance=scale)
    config = DecoupledDMDConfig(teacher_guidance=scale, guidance_times="all", same_draw=True)
    ours = on(base, DecoupledDMD(config, base.backbone))
    (total, grad), (theirs, expected) = (
        moved(m, base, base.backbone.batch()) for m in (ours, base)
    )
    torch.testing.assert_close(total, theirs, rtol=1e-10, atol=0)
    torch.testing.assert_close(grad, expected, rtol=1e-10, atol=0)


def test_decoupled_laws_are_drawn_apart(dmd2: Any) -> None:
    base = dmd2(shift=0.3, teacher_guidance=3.0)
    seen = []
    for law in ("all", "below"):
        for same in (True, False):
            config = DecoupledDMDConfig(teacher_guidance=3, guidance_times=law, same_draw=same)
            ours = on(base, DecoupledDMD(config, base.backbone))
            seen.append(float(ours.loss("student", base.backbone.batch(), 0).total.detach()))
    assert len(set(seen)) == 4


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("node", [999, 499, 249, 5])
def test_times_below_a_node(dmd2: Any, kind: str, node: int) -> None:
    base = of(dmd2, kind)
    batch = base.backbone.batch(256)
    x = batch.randn("x").double()
    pred = base.backbone.predict(None, x, torch.full((256,), node), batch.cond)
    _, t = matching_point(base, pred, batch, "s", torch.full((256,), node))
    assert t.is_floating_point() == (kind == "flow")
    assert float(t.min()) >= 20
    assert float(t.max()) <= min(max(node, 21), 981)
    if node > 100:
        assert float(t.double().std()) > 0.2 * (min(node, 981) - 20)


@pytest.mark.parametrize("kind", PROCESSES)
def test_decoupled_guidance_is_less_noisy_than_the_students_input(dmd2: Any, kind: str) -> None:
    """What noisier times decide, the input has settled; the matching looks at all of them."""
    base = of(dmd2, kind, shift=0.3, teacher_guidance=3.0)
    ours = on(base, DecoupledDMD(DecoupledDMDConfig(teacher_guidance=3), base.backbone))
    seen: list[torch.Tensor] = []
    predict = base.backbone.predict

    def watched(net: Any, x: Any, t: torch.Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(t)
        return predict(net, x, t, *rest, **more)

    batch = base.backbone.batch(256)
    pred = ours.predict("student", *ours.student_input(batch, "student"), batch)
    u = torch.full((256,), 499)
    base.backbone.predict = watched
    ours.matching(pred, u, batch)
    guidance = [t for t in seen if float(t.max()) <= 499]
    assert len(guidance) == 2
    assert torch.equal(*guidance)
    assert len(seen) == 4
    assert all(float(t.max()) > 900 for t in seen if not any(t is g for g in guidance))
