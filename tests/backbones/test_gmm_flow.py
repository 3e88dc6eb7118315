"""The exact world under flow matching: one mixture, seen through another process."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from distillbench.api import registry
from distillbench.api.samplers import OdeSampler
from distillbench.backbones.gmm_flow import WEIGHTS, GmmFlow
from distillbench.core.noise import sample_noise
from distillbench.errors import NotSupported
from distillbench.tiny_training import gmm as warm_start
from distillbench.world import weights
from distillbench.world.mixture import labels_of, mixture

PROMPTS = [f"condition {k}" for k in range(8)]


@pytest.fixture(scope="module")
def backbone() -> GmmFlow:
    made = registry.build_backbone("gmm-flow", {})
    assert isinstance(made, GmmFlow)
    made.load()
    return made


def points(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("t", [0.0, 57.6923, 500.0, 999.5, 1000.0])
def test_the_velocity_is_that_of_the_score(backbone: GmmFlow, t: float) -> None:
    """v = eps - x0 with eps = -sigma grad log p_t(x)."""
    x, labels = points(8).requires_grad_(), torch.arange(8)
    time = torch.full((8,), t, dtype=torch.float64)
    alpha, sigma = backbone.process.alpha_sigma(time, x)
    log_terms, _ = backbone.exact._log_terms(x, labels, alpha, sigma)
    log_terms.logsumexp(1).sum().backward()  # log p_t but for a constant
    got = backbone.predict(None, x.detach(), time, backbone.encode(PROMPTS))
    assert x.grad is not None
    torch.testing.assert_close(got.eps, -sigma * x.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(alpha * got.x0 + sigma * got.eps, x.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(got.raw, got.eps - got.x0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("t", [0, 20, 500, 999])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_it_is_the_diffusion_world_under_equal_signal_to_noise(
    backbone: GmmFlow, t: int, scale: float
) -> None:
    """x0 and eps at x / (alpha + sigma) and time 1000 sigma / (alpha + sigma) are those of gmm."""
    gmm = registry.build_backbone("gmm", {})
    gmm.load()
    x, cond = points(8), backbone.encode(PROMPTS)
    alpha, sigma = gmm.process.alpha_sigma(t, x)
    same = (1000 * sigma / (alpha + sigma)).reshape(-1).expand(8)
    guided = {"guidance_scale": scale, "uncond": backbone.encode_null()}
    ours = backbone.predict(None, x / (alpha + sigma), same, cond, **guided)
    theirs = gmm.predict(None, x, torch.full((8,), t), cond, **guided)
    torch.testing.assert_close(ours.x0, theirs.x0, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.eps, theirs.eps, rtol=0, atol=1e-9)


def test_many_euler_steps_of_the_teacher_reach_the_mixture(backbone: GmmFlow) -> None:
    """Few steps do not, so that there is something to distil."""
    prompts = PROMPTS * 125
    cond, noise = backbone.encode(prompts), sample_noise(0, range(1000), (2,), "start")

    def near(steps: int) -> float:
        sampler = OdeSampler(timesteps=backbone.solver_times(steps))
        x = sampler.sample(
            lambda x, t, **_: backbone.predict(None, x, t, cond), noise, backbone.process,
            lambda _: noise,
        )  # fmt: skip
        centres = torch.tensor(mixture().centres)[torch.tensor(labels_of(prompts))]
        distance = (x[:, None] - centres).norm(dim=2).min(1).values
        return float((distance < 3 * mixture().std).double().mean())

    assert near(100) > 0.97
    assert near(4) < 0.8


def test_times_are_real_and_even(backbone: GmmFlow) -> None:
    assert backbone.nodes(4) == backbone.solver_times(4) == (1000, 750, 500, 250)
    assert backbone.solver_grid(8)[0] == 125.0
    for times in ((999, 749, 499, 249), (1000.5,), (500, 0)):
        with pytest.raises(NotSupported, match="gmm-flow"):
            backbone.check_times(times)
    backbone.check_times((1000, 57.6923))
    backbone.check_times((399,))


def test_the_warm_start_is_near_the_exact_velocity(backbone: GmmFlow) -> None:
    net = backbone.make_net("student")
    cond, x0 = backbone.encode(PROMPTS * 50), backbone.exact.sample(
        torch.arange(8).repeat(50), torch.Generator().manual_seed(0)
    )  # fmt: skip
    t = 1000 * torch.rand(400, generator=torch.Generator().manual_seed(1))
    x_t = backbone.process.add_noise(x0, points(400).float(), t)
    made, exact = (backbone.predict(n, x_t, t, cond).raw.detach() for n in (net, None))
    assert float(((made - exact) ** 2).mean()) < 0.01


def test_the_card_describes_the_shipped_file() -> None:
    folder = weights.folder(WEIGHTS)
    card = json.loads((folder / weights.CARD).read_text())
    assert card["files"] == weights.hash_files(folder)
    assert card["command"].endswith("distillbench.tiny_training.gmm --flow")
    (one, error), (two, _) = (warm_start.train(60, kind="flow") for _ in range(2))
    again = two.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in one.state_dict().items())
    assert load_file(folder / "model.safetensors").keys() == again.keys()
    assert error < 3.0
