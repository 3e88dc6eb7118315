"""What the matching losses do to a student: closed-form gradients, asked of the very losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from distillbench.api.method import Batch
from distillbench.core.process import NoiseProcess
from distillbench.core.solve import transition
from distillbench.core.trajectory import Trajectory
from distillbench.methods.dmd2 import DMD2
from distillbench.methods.settings.dmd2 import DMD2Config
from distillbench.methods.settings.tdm import TDMConfig
from distillbench.methods.tdm import TDM

SD = NoiseProcess.scaled_linear()
PLAIN: dict[str, Any] = {"teacher_guidance": 1.0, "loss": "mse", "normalizer": "none"}


def output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


@dataclass
class Pinned(Batch):
    """A batch whose uniform and integer draws are given; normal ones may be one for all streams."""

    u: torch.Tensor | float = 0.0
    k: int = 0
    one_noise: bool = False

    def randn(self, *stream: str | int) -> torch.Tensor:
        return super().randn(*(() if self.one_noise else stream)).double()

    def rand(self, *stream: str | int) -> torch.Tensor:
        return torch.as_tensor(self.u, dtype=torch.float64).expand(len(self))

    def randint(self, low: int, high: int, *stream: str | int) -> torch.Tensor:
        assert low <= self.k < high
        return torch.full((len(self),), self.k)


def pinned(backbone: Any, size: int, seed: int = 0, **draws: Any) -> Pinned:
    prompts = ["a" * (1 + i % 3) for i in range(size)]
    cond, null = backbone.encode(prompts), backbone.encode([""])
    return Pinned(prompts, cond, null, None, (2,), (seed, "test"), **draws)


def at(t: int, process: NoiseProcess = SD) -> tuple[float, float]:
    alpha, sigma = process.alpha_sigma(t, torch.zeros(1, dtype=torch.float64))
    return float(alpha), float(sigma)


def leaf(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


# ---- Gaussians ----------------------------------------------------------------------------


def test_gaussian_student_descends_the_divergence(toy: Any, make_role: Any) -> None:
    """With exact scores TDM's gradient is that of KL(student_tau | teacher_tau), as in DMD.

    Teacher N(mu, s2), student m + d z, at alpha .8 and sigma .6; the squared error without
    normaliser has 2 sigma^2 / alpha^2 times the divergence's gradient.
    """
    a, s, mu, s2, m, d = 0.8, 0.6, 0.3, 0.5, leaf(0.7), leaf(0.6)
    squared = SD.alphas**2
    squared[500] = a**2
    process = NoiseProcess.from_alphas_cumprod(squared)
    total, own = a**2 * s2 + s**2, a**2 * d**2 + s**2
    divergence = 0.5 * ((own + a**2 * (m - mu) ** 2) / total - 1 - (own / total).log())
    exact = torch.autograd.grad(divergence, (m, d))
    assert [float(g) for g in exact] == pytest.approx([0.37647, -0.08570], abs=1e-5)

    def student(x: torch.Tensor, t: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        alpha, sigma = process.alpha_sigma(t, x)
        return (x - alpha * (m + d * x)) / sigma

    def gaussian(mean: float, variance: float) -> Any:
        def eps(x: torch.Tensor, t: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            alpha, sigma = process.alpha_sigma(t, x)
            return sigma * (x - alpha * mean) / (alpha**2 * variance + sigma**2)

        return eps

    backbone = toy(gaussian(mu, s2), process)
    method = TDM(TDMConfig(steps=1, match="clean", **PLAIN), backbone)
    fake = make_role("fake", gaussian(0.7, 0.36))
    method.bind({"student": make_role("student", student), "fake": fake})
    batch = pinned(backbone, 200_000, u=(500 - 20 + 0.5) / 970)  # tau = 500
    found = torch.autograd.grad(method.loss("student", batch, 0).total, (m, d))
    scale = a**2 / (2 * s**2)
    for ours, wanted, error in zip(found, exact, (4e-3, 6e-3), strict=True):
        assert scale * float(ours) == pytest.approx(float(wanted), abs=error)
    mean_gap = scale * float(found[0]) / a  # E[s_fake - s_real] = alpha (m - mu) / T
    assert mean_gap == pytest.approx(0.47059, abs=5e-3)


@pytest.mark.parametrize("score", ["kernel", "regression", "importance"])
def test_only_the_kernels_own_score_leaves_a_perfect_student_alone(
    toy: Any, make_role: Any, score: str
) -> None:
    """A linear student whose x_500 has the teacher's marginal, matched at tau = 600.

    The true score of the re-noised states is the teacher's; E[x0 | x_tau] and its importance
    weighted form (TDM, arXiv 2503.06674, eq. 7) differ where eps depends on x0, as it does here.
    """
    data, u, m, tau = 0.6, 749, 500, 600
    (a_u, s_u), (a_m, s_m), (a, s) = at(u), at(m), at(tau)
    std, k = (a_u**2 * data + s_u**2) ** 0.5, (a_m**2 * data + s_m**2) ** 0.5
    levels = (torch.tensor(v, dtype=torch.float64) for v in (a_m, s_m, a, s))
    r, b = (v.item() for v in transition(*levels))
    gain = leaf((k / std - s_m / s_u) / (a_m - a_u * s_m / s_u))
    c, law = gain.item() * std, r**2 * k**2 + b**2
    slopes = {
        "kernel": (1 - s**2 / law) / a,
        "regression": c * r * k / law,
        "importance": a * c**2 / (a**2 * c**2 + s**2),
    }
    slope, teacher = slopes[score], a * data / (a**2 * data + s**2)

    def denoiser(of: float) -> Any:
        return lambda x, t, _: (x - a * of * x) / s

    backbone = toy(denoiser(teacher))
    method = TDM(TDMConfig(**PLAIN), backbone)
    student = make_role("student", lambda x, t, _: (x - a_u * gain * x) / s_u)
    method.bind({"student": student, "fake": make_role("fake", denoiser(slope))})

    def pull(seed: int) -> float:
        batch = pinned(backbone, 4000, seed, u=(tau - m + 0.5) / 239, k=1)
        x = std * batch.randn("state").expand(4, -1, -1)
        nodes = torch.tensor(backbone.nodes(4))
        batch.once("rollout", lambda: Trajectory(SD, "ddim", nodes, x, x, x))
        (grad,) = torch.autograd.grad(method.loss("student", batch, 0).total, gain)
        return float(grad)

    pulls = torch.tensor([pull(seed) for seed in range(100)])
    expected = -2 * (teacher - slope) * r * k * std
    error = 3 * float(pulls.std()) / 10
    assert float(pulls.mean()) == pytest.approx(expected, abs=error + 1e-12)
    assert (abs(expected) < 1e-10) == (score == "kernel")
    assert abs(expected) > 4 * error or score == "kernel"


# ---- TDM against DMD2 ---------------------------------------------------------------------


def test_squared_error_moves_a_one_step_student_twice_as_far_as_dmd2(
    toy: Any, make_role: Any
) -> None:
    """Same x_tau, guidance, networks and normaliser: -2 D / (W numel) against -D / (W numel)."""
    tdm = TDMConfig(steps=1, match="clean", loss="mse", teacher_guidance=2.5)
    dmd2 = DMD2Config(steps=1, teacher_guidance=2.5)
    grads = []
    for kind, config in ((TDM, tdm), (DMD2, dmd2)):
        backbone, gain = toy(output), leaf(0.1)
        method: Any = kind(config, backbone)
        student = make_role("student", lambda x, t, c, gain=gain: output(x, t, c) + gain * x)
        fake = make_role("fake", lambda x, t, c: output(x, t, c) + 0.3 * x)
        method.bind({"student": student, "fake": fake})
        # Both ranges of tau begin at 20; such u give the same integers in both.
        u = (torch.arange(64) + 0.5) / 965.5
        batch = pinned(backbone, 64, u=u, one_noise=True)
        (grad,) = torch.autograd.grad(method.loss("student", batch, 0).total, gain)
        grads.append(grad)
    assert float(grads[0]) != 0
    torch.testing.assert_close(grads[0], 2 * grads[1], rtol=1e-9, atol=0)


# ---- which update a switch concerns -------------------------------------------------------


def asked(toy: Any, make_role: Any, turn: str, **config: Any) -> tuple[Any, ...]:
    """What the fake score is asked in a turn, x_tau and tau; the loss; the student's x0."""
    backbone = toy(output)
    method = TDM(TDMConfig(**config), backbone)
    student = make_role("student", lambda x, t, c: output(x, t, c) + 0.1 * x)
    method.bind({"student": student, "fake": make_role("fake", output)})
    batch, seen, plain = backbone.batch(200), [], backbone.predict

    def predict(net: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if net is method.net["fake"]:
            seen.append((x.double(), t))
        return plain(net, x, t, *args, **kwargs)

    backbone.predict = predict
    loss = method.loss(turn, batch, 0).total
    k = batch.randint(0, 4, turn, "node")
    x0 = method.rollout(batch).x0[k, torch.arange(200)]
    clean = SD.add_noise(x0, batch.randn(turn, "noise").double(), seen[0][1])
    return (*seen[0], loss, clean)


def test_clean_sampling_of_the_fake_score_concerns_its_own_update_alone(
    toy: Any, make_role: Any
) -> None:
    near, clean = ({"fake_sampling": kind} for kind in ("near_trajectory", "clean"))
    x_near, tau_near, _, _ = asked(toy, make_role, "fake", **near)
    x, tau, _, expected = asked(toy, make_role, "fake", **clean)
    assert torch.equal(tau, tau_near)  # the same segment
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
    assert float((x_near - expected).abs().max()) > 0.1
    same = [asked(toy, make_role, "student", **kind) for kind in (near, clean)]
    for ours, theirs in zip(*same, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("turn", ["fake", "student"])
def test_clean_matching_concerns_both_updates_over_all_times(
    toy: Any, make_role: Any, turn: str
) -> None:
    """x_tau = alpha x0 + sigma n: the clean end is alpha 1, sigma 0, not the time 0."""
    x, tau, _, expected = asked(toy, make_role, turn, match="clean")
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
    assert 20 <= tau.min() < 60
    assert 950 < tau.max() < 990
    x, _, _, expected = asked(toy, make_role, turn)
    assert float((x - expected).abs().max()) > 0.1
