"""The exact world: its score against autograd, its teacher, its students."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distillbench.api.backbone import Cond, Prediction
from distillbench.api.samplers import OdeSampler
from distillbench.backbones import _gmm
from distillbench.backbones.gmm import WEIGHTS, Gmm, GmmConfig
from distillbench.core.noise import sample_noise
from distillbench.core.process import CLEAN
from distillbench.core.schedules import trailing
from distillbench.errors import BadInput, NotSupported
from distillbench.tiny_training import gmm as warm_start
from distillbench.world import weights
from distillbench.world.mixture import labels_of, mixture

PROMPTS = [f"condition {k}" for k in range(8)]


@pytest.fixture(scope="module")
def backbone() -> Gmm:
    made = Gmm(GmmConfig())
    made.load()
    return made


@pytest.fixture(scope="module")
def exact() -> _gmm.ExactMixture:
    return _gmm.ExactMixture()


def points(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nearest(x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest mode of each point's own condition, and the distance to it in its stds."""
    centres = torch.tensor(mixture().centres, dtype=torch.float64)[labels]
    distance, mode = (x.double()[:, None] - centres).norm(dim=2).min(1)
    return mode, distance / mixture().std


def log_prob(
    exact: _gmm.ExactMixture,
    x: torch.Tensor,
    labels: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
) -> torch.Tensor:
    """log p_t(x | label), (B,); alpha, sigma (B or 1, 1), 1 and 0 for the data itself."""
    log_terms, variance = exact._log_terms(x, labels, alpha, sigma)
    return log_terms.logsumexp(1) - (2 * torch.pi * variance).log().reshape(-1)


def test_the_world_is_as_described() -> None:
    world = mixture()
    assert len(world.centres) == len(world.weights) == 8
    for centres, shares in zip(world.centres, world.weights, strict=True):
        cells = {(round((x + 1.2) / 0.8), round((y + 1.2) / 0.8)) for x, y in centres}
        assert len(cells) == 4
        for x, y in centres:
            assert all(0 <= round((v + 1.2) / 0.8) <= 3 for v in (x, y))
            assert all(abs((v + 1.2) / 0.8 - round((v + 1.2) / 0.8)) <= 0.125 for v in (x, y))
        assert sum(shares) == pytest.approx(1)
        assert max(shares) / min(shares) <= 1 / 0.3


def test_the_world_never_changes() -> None:
    digest = hashlib.sha256(repr(mixture()).encode()).hexdigest()
    assert digest.startswith("e19e029038bf40be")


@pytest.mark.parametrize("t", [CLEAN, 0, 20, 250, 500, 999])
def test_eps_is_the_gradient_of_the_log_density(exact: _gmm.ExactMixture, t: int) -> None:
    labels = torch.arange(9).repeat_interleave(20)
    alpha, sigma = _gmm.process().alpha_sigma(t, points(1))
    x = points(180).requires_grad_()
    (score,) = torch.autograd.grad(log_prob(exact, x, labels, alpha, sigma).sum(), x)
    x0, eps = exact.x0_eps(x, labels, alpha, sigma)
    assert torch.allclose(eps, -sigma * score, rtol=1e-9, atol=1e-10)
    assert torch.allclose(alpha * x0 + sigma * eps, x, rtol=1e-9, atol=1e-10)


def test_the_density_integrates_to_one_and_null_is_the_uniform_mixture(
    exact: _gmm.ExactMixture,
) -> None:
    alpha, sigma = _gmm.process().alpha_sigma(300, points(1))
    axis = torch.linspace(-6, 6, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    densities = torch.stack([
        log_prob(exact, grid, torch.full((len(grid),), label), alpha, sigma).exp()
        for label in range(9)
    ])  # fmt: skip
    assert (densities.sum(1) * (12 / 120) ** 2).tolist() == pytest.approx([1.0] * 9, abs=1e-6)
    assert torch.allclose(densities[8], densities[:8].mean(0), rtol=1e-10)


def test_exact_draws_have_the_modes_weights_and_spread(exact: _gmm.ExactMixture) -> None:
    labels = torch.arange(8).repeat_interleave(4000)
    x = exact.sample(labels, torch.Generator().manual_seed(0))
    mode, distance = nearest(x, labels)
    assert (distance <= 3).double().mean().item() == pytest.approx(0.98889, abs=0.003)
    for label, shares in enumerate(mixture().weights):
        counted = torch.bincount(mode[labels == label], minlength=4) / 4000
        assert counted.tolist() == pytest.approx(list(shares), abs=0.035)


def test_exact_samples_depend_on_seed_and_index_alone() -> None:
    whole = _gmm.exact_samples(PROMPTS, 3)
    assert torch.equal(_gmm.exact_samples(PROMPTS[:5], 3), whole[:5])
    assert not torch.equal(_gmm.exact_samples(PROMPTS, 4), whole)


def test_the_teacher_is_exact_and_its_guidance_linear(backbone: Gmm) -> None:
    cond, null = backbone.encode(PROMPTS), backbone.encode_null()
    x, t = points(8).float(), torch.tensor([999, 800, 600, 400, 200, 100, 20, 0])
    plain = backbone.predict(None, x, t, cond)
    empty = backbone.predict(None, x, t, null.expand(8))
    scale = torch.tensor([1.0, 2.0, 3.5, 8.0, 1.0, 0.0, 2.0, 15.0])
    guided = backbone.predict(None, x, t, cond, guidance_scale=scale, uncond=null)
    for name in ("x0", "eps", "raw"):
        a, b, g = (getattr(p, name) for p in (plain, empty, guided))
        assert g.dtype == torch.float32
        assert torch.allclose(g, b + scale[:, None] * (a - b), atol=2e-4)
    alpha, sigma = backbone.process.alpha_sigma(t, x)
    assert torch.allclose(alpha * guided.x0 + sigma * guided.eps, x, atol=1e-4)
    assert torch.allclose(alpha * plain.eps - sigma * plain.x0, plain.raw, atol=1e-5)


def test_guidance_without_its_branch(backbone: Gmm) -> None:
    with pytest.raises(NotSupported, match="unconditional branch"):
        backbone.predict(
            None, points(1).float(), torch.tensor([5]), backbone.encode([""]), guidance_scale=2.0
        )


def test_prompts() -> None:
    assert labels_of(["condition 3", "", "condition 0"]) == [3, 8, 0]
    with pytest.raises(BadInput, match="'condition 8'"):
        labels_of(["condition 8"])


def sliced_wasserstein(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean distance of sorted projections, averaged over the conditions (2000 points each)."""
    turns = torch.arange(64, dtype=torch.float64) * torch.pi / 64
    lines = torch.stack([turns.cos(), turns.sin()])
    a, b = ((v.double() @ lines).reshape(8, -1, 64).sort(1).values for v in (a, b))
    return (a - b).abs().mean().item()


@pytest.mark.parametrize(
    ("steps", "low", "high"),
    [(1, 0.60, 0.72), (2, 0.37, 0.43), (4, 0.17, 0.21), (8, 0.075, 0.10), (25, 0.0, 0.065)],
)
def test_few_step_ddim_is_as_bad_as_it_should_be(
    backbone: Gmm, steps: int, low: float, high: float
) -> None:
    labels = torch.arange(8).repeat_interleave(2000)
    cond = Cond({"label": labels})

    def denoise(
        x_t: torch.Tensor, t: torch.Tensor, *, end_t: torch.Tensor | None = None
    ) -> Prediction:
        return backbone.predict(None, x_t, t, cond)

    def no_noise(step: int) -> torch.Tensor:
        raise AssertionError(step)

    x = sample_noise(0, [0], (16000, 2), "init")[0]
    sampler = OdeSampler(timesteps=trailing(steps))
    made = sampler.sample(denoise, x, backbone.process, no_noise)
    truth = backbone.exact.sample(labels, torch.Generator().manual_seed(1))
    assert low <= sliced_wasserstein(made, truth) <= high


# ---- students ---------------------------------------------------------------------------


def test_the_warm_start_is_close_to_the_exact_score(backbone: Gmm) -> None:
    labels = torch.arange(9).repeat_interleave(200)
    rng = torch.Generator().manual_seed(0)
    t = torch.randint(1000, (1800,), generator=rng)
    x_t = backbone.process.add_noise(
        backbone.exact.sample(labels, rng), torch.randn(1800, 2, generator=rng), t
    )
    net = backbone.make_net("student")
    cond = Cond({"label": labels})
    teacher, student = (backbone.predict(n, x_t, t, cond) for n in (None, net))
    assert (teacher.raw - student.raw).pow(2).mean().item() < 0.005
    assert teacher.raw.pow(2).mean().item() > 0.25


def test_a_net_starts_as_the_warm_start_whatever_its_conditions(backbone: Gmm) -> None:
    cond, t = backbone.encode(PROMPTS), torch.full((8,), 700)
    x = points(8).float()
    plain = backbone.make_net("a", "copy")
    rich = backbone.make_net("b", "lora", rank=4, conditions=("guidance", "end_t", "steps_k"))
    given: dict[str, Any] = {
        "embed_scale": torch.full((8,), 7.5),
        "end_t": t - 1,
        "steps_k": torch.full((8,), 4),
    }
    assert torch.equal(
        backbone.predict(plain, x, t, cond).raw, backbone.predict(rich, x, t, cond, **given).raw
    )
    with pytest.raises(NotSupported, match="needs the conditions"):
        backbone.predict(rich, x, t, cond)
    with pytest.raises(NotSupported, match="no conditions"):
        backbone.make_net("c", conditions=("speed",))


def test_every_condition_can_be_learned(backbone: Gmm) -> None:
    net = backbone.make_net("a", conditions=("guidance", "end_t", "steps_k"))
    cond, t, x = backbone.encode(PROMPTS), torch.full((8,), 700), points(8).float()
    given: dict[str, Any] = {
        "embed_scale": torch.full((8,), 7.5),
        "end_t": t - 1,
        "steps_k": torch.full((8,), 4),
    }
    out = backbone.predict(net, x, t, cond, **given).raw
    out.sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in net.module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_roles_share_no_weights(backbone: Gmm) -> None:
    one, two = backbone.make_net("one"), backbone.make_net("two")
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(1.0)
    assert all((a != b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))
    third = backbone.make_net("three")
    assert all(torch.equal(a, b) for a, b in zip(two.parameters(), third.parameters(), strict=True))


def test_a_guided_net_evaluates_both_branches_in_one_forward(backbone: Gmm) -> None:
    net = backbone.make_net("a")
    cond, null, t = backbone.encode(PROMPTS), backbone.encode_null(), torch.full((8,), 700)
    x, calls = points(8).float(), list[int]()
    net.module.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    guided = backbone.predict(net, x, t, cond, guidance_scale=3.0, uncond=null).raw
    assert calls == [16]
    c = backbone.predict(net, x, t, cond).raw
    u = backbone.predict(net, x, t, null.expand(8)).raw
    assert torch.allclose(guided, u + 3 * (c - u), atol=1e-5)


def test_training_latents_are_the_prompts_own(backbone: Gmm) -> None:
    prompts = PROMPTS * 50
    latents = backbone.training_latents(prompts, torch.Generator().manual_seed(0))
    _, distance = nearest(latents, torch.tensor(labels_of(prompts)))
    assert latents.shape == (400, 2)
    assert distance.max() < 6
    assert backbone.decode(latents).dtype == torch.float32


def test_the_card_describes_the_shipped_file() -> None:
    folder = weights.folder(WEIGHTS)
    card = json.loads((folder / weights.CARD).read_text())
    assert card["files"] == weights.hash_files(folder)
    assert card["steps"] == warm_start.STEPS
    assert card["command"].split()[-1] == "distillbench.tiny_training.gmm"


def test_warm_start_training_is_repeatable_and_learns() -> None:
    (one, error), (two, _) = warm_start.train(60), warm_start.train(60)
    again = two.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in one.state_dict().items())
    shipped = load_file(weights.folder(WEIGHTS) / "model.safetensors")
    assert shipped.keys() == again.keys()
    assert error < 1.0
