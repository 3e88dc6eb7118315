"""rCM: either of its terms alone is the method that it is of."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.core.process import NoiseProcess
from distillbench.errors import ConfigError
from distillbench.methods.dmd2 import DMD2, DMD2Config
from distillbench.methods.lcm import LCM, LCMConfig
from distillbench.methods.rcm import RCM, RCMConfig
from distillbench.methods.shared.scores import matching_point

PROCESSES = {"vp": NoiseProcess.scaled_linear(), "flow": NoiseProcess.flow()}


def on(base: Any, method: Any, kind: str = "vp") -> Any:
    base.backbone.prediction_type = "epsilon" if kind == "vp" else "flow"
    method.bind(base.net)
    return method


def batch(base: Any, size: int = 32) -> Any:
    latents = torch.randn(size, 2, generator=torch.Generator().manual_seed(1)).double()
    return base.backbone.batch(size, latents)


def moved(method: Any, base: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The student's loss, and its gradient in the student's one parameter."""
    total = method.loss("student", batch(base), 0).total
    return total, torch.autograd.grad(total, base.gain)[0]


def same(ours: Any, theirs: Any) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_without_matching_it_is_lcm(dmd2: Any, kind: str, scale: float) -> None:
    base = dmd2(process=PROCESSES[kind], shift=0.3)
    ours = on(base, RCM(RCMConfig(teacher_guidance=scale, w_dmd=0), base.backbone), kind)
    lcm = on(base, LCM(LCMConfig(teacher_guidance=scale), base.backbone), kind)
    same(moved(ours, base), moved(lcm, base))
    assert ours.turns(0) == lcm.turns(0) == ("student",)
    assert ours.nets() == lcm.nets()


@pytest.mark.parametrize("kind", PROCESSES)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_without_consistency_it_is_dmd2_in_one_step(dmd2: Any, kind: str, scale: float) -> None:
    base = dmd2(process=PROCESSES[kind], shift=0.3)
    config = RCMConfig(teacher_guidance=scale, w_consistency=0, w_dmd=1, noise_shift=1)
    ours = on(base, RCM(config, base.backbone), kind)
    theirs = on(base, DMD2(DMD2Config(steps=1, teacher_guidance=scale), base.backbone), kind)
    same(moved(ours, base), moved(theirs, base))
    fakes = [method.loss("fake", batch(base), 0).total for method in (ours, theirs)]
    torch.testing.assert_close(*fakes, rtol=1e-12, atol=0)
    assert ours.turns(0) == ("fake", "student")


def test_both_terms_are_weighed(dmd2: Any) -> None:
    base = dmd2(shift=0.3)
    totals = []
    for w_c, w_d in ((1, 0), (0, 1), (0.5, 0.25)):
        config = RCMConfig(teacher_guidance=3, w_consistency=w_c, w_dmd=w_d)
        totals.append(moved(on(base, RCM(config, base.backbone)), base)[1])
    torch.testing.assert_close(totals[2], 0.5 * totals[0] + 0.25 * totals[1], rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_long_tail_is_noisy(dmd2: Any, kind: str) -> None:
    base = dmd2(process=PROCESSES[kind])
    base.backbone.prediction_type = "epsilon" if kind == "vp" else "flow"
    made = batch(base, 4000)
    pred = base.backbone.predict(None, made.latents, torch.full((4000,), 500), made.cond)
    times = [matching_point(base, pred, made, "s", shift=s)[1] for s in (1.0, 5.0)]
    for t in times:
        assert 20 <= float(t.min()) <= float(t.max()) <= 981
        assert t.is_floating_point() == (kind == "flow")
    shares = [float((t > 500).double().mean()) for t in times]
    assert abs(shares[0] - 0.5) < 0.03
    assert abs(shares[1] - 5 / 6) < 0.03


def test_weights_that_train_nothing() -> None:
    with pytest.raises(ConfigError, match="train nothing"):
        registry.build_method(
            "rcm", {"w_consistency": 0, "w_dmd": 0}, registry.build_backbone("gmm", {})
        )


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_rollout_takes_its_own_steps_to_falling_times(
    dmd2: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None, one, two of them and none again, as updates go by; the last step alone has gradient."""
    base = dmd2(process=PROCESSES[kind], shift=0.3)
    ours = on(base, RCM(RCMConfig(w_consistency=0, rollout=3), base.backbone), kind)
    made, seen, predict = batch(base), list[Any](), ours.predict

    def watched(role: str, x: torch.Tensor, t: torch.Tensor, batch: Any) -> Any:
        seen.append((t, pred := predict(role, x, t, batch)))
        return pred

    monkeypatch.setattr(ours, "predict", watched)
    for step, more in ((0, 0), (1, 1), (2, 2), (3, 0)):
        seen.clear()
        pred = ours.sample(made, "student", step)
        assert len(seen) == more + 1
        assert pred is seen[-1][1]
        assert [p.x0.requires_grad for _, p in seen] == [False] * more + [True]
        for (t, _), (to, _) in pairwise(seen):
            assert bool((to <= t).all())
            assert to.is_floating_point() == (kind == "flow")
        if more:
            assert bool((seen[1][0] < seen[0][0]).all())
