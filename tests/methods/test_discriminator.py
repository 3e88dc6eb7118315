"""The GAN of DMD2 and TDM-unify: its losses, its heads, and whom they move."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.data.batches import DataSource
from distillbench.errors import ConfigError, NotSupported
from distillbench.methods.shared.heads import build_head, logits_of, map_head, vector_head
from distillbench.train.role import make_role as build_role


def gan(dmd2: Any, **config: Any) -> tuple[Any, Any]:
    method = dmd2(adversarial_weight=0.5, **config)
    latents = torch.randn(32, 2, generator=torch.Generator().manual_seed(1))
    return method, method.backbone.batch(latents=latents)


def judged(method: Any, batch: Any) -> torch.Tensor:
    """The discriminator's loss in the fake score's turn."""
    return method.loss("fake", batch, 0).scalars["discriminator"]  # type: ignore[no-any-return]


def test_an_undecided_discriminator(dmd2: Any) -> None:
    method, batch = gan(dmd2, discriminator_weight=1.0)
    assert judged(method, batch).item() == pytest.approx(2 * math.log(2), rel=1e-6)
    adversarial = method.loss("student", batch, 0).scalars["adversarial"]
    assert adversarial.item() == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize(("side", "halvings"), [(8, 1), (32, 3), (4, 0), (2, 0), (1, 0)])
def test_shapes_of_the_head(side: int, halvings: int) -> None:
    head = map_head(64, (side, side))
    strides = [layer.stride[0] for layer in head if isinstance(layer, torch.nn.Conv2d)]
    assert strides == [2] * halvings + [4, 1]
    maps = torch.randn(3, 64, side, side)
    assert head(maps).shape == (3, 1, 1, 1)
    assert logits_of(head, maps).shape == (3, 1)


@pytest.mark.parametrize(("channels", "groups"), [(1280, 32), (96, 4), (32, 2), (8, 1), (3, 1)])
def test_the_head_of_a_narrow_network_sees_its_maps(channels: int, groups: int) -> None:
    """With one value per group the last normalisation would give a constant."""
    head = map_head(channels, (4, 4))
    norm = next(layer for layer in head if isinstance(layer, torch.nn.GroupNorm))
    assert norm.num_groups == groups
    if channels >= 8:
        assert float(head(torch.randn(64, channels, 4, 4)).detach().std()) > 1e-2


def test_only_keys_with_a_gan_know_of_its_head() -> None:
    backbone = registry.build_backbone("gmm", {})
    versions = [registry.build_method("dmd2", p, backbone).version
                for p in ({}, {"adversarial_weight": 0.1})]  # fmt: skip
    assert versions == [2, 4]


def test_a_video_gets_the_mean_of_its_frames_logits() -> None:
    head = map_head(32, (30, 45))
    video = torch.randn(2, 32, 3, 30, 45)
    each = torch.stack([logits_of(head, video[:, :, i]) for i in range(3)])
    torch.testing.assert_close(logits_of(head, video), each.mean(0))


def test_the_discriminator_learns_to_prefer_real_latents(dmd2: Any) -> None:
    method, batch = gan(dmd2, lean=0.3)
    batch.latents = batch.latents + 20.0  # a head that leans to large values is right
    right = judged(method, batch)
    batch.latents = batch.latents - 40.0
    assert right < judged(method, batch)


@pytest.mark.parametrize("source", ["fake", "teacher"])
def test_whom_the_discriminators_loss_moves(dmd2: Any, source: str) -> None:
    method, batch = gan(dmd2, lean=0.3, adversarial_features=source,
                        discriminator_weight=0.7)  # fmt: skip
    plain = dmd2()
    (alone,) = torch.autograd.grad(plain.loss("fake", batch, 0).total, plain.shift)
    batch._memo.clear()
    (both,) = torch.autograd.grad(method.loss("fake", batch, 0).total, method.shift)
    assert (float(both) == float(alone)) == (source == "teacher")
    assert {name for name, _ in method.backbone.calls if "features" in name} == {
        f"features of {source}"
    }
    method.loss("student", batch, 0).total.backward()
    assert method.gain.grad is not None
    method.gain.grad = None
    method.loss("fake", batch, 0).total.backward()
    assert method.gain.grad is None  # samples are data to the discriminator
    assert method.lean.grad is not None


def test_the_students_adversarial_gradient_has_its_weight(dmd2: Any) -> None:
    def slope(weight: float) -> torch.Tensor:
        method, batch = gan(dmd2, lean=0.3)
        method.config = method.config.model_copy(update={"adversarial_weight": weight})
        return torch.autograd.grad(method.loss("student", batch, 0).total, method.gain)[0]

    one, two, three = slope(0.1), slope(0.2), slope(0.3)
    assert one != two
    torch.testing.assert_close(two - one, three - two)


def test_a_gan_without_features_is_refused(toy: Any) -> None:
    backbone = toy(lambda x, t, label: x)
    for name in ("dmd2", "tdm_unify"):
        with pytest.raises(NotSupported, match="a GAN needs features, which backbone toy"):
            registry.build_method(name, {"adversarial_weight": 1e-3}, backbone)
        registry.build_method(name, {}, backbone)


@pytest.mark.parametrize("name", ["dmd2", "tdm_unify"])
def test_a_head_that_learns_nothing_is_refused(name: str) -> None:
    backbone = registry.build_backbone("gmm", {})
    with pytest.raises(ConfigError, match="needs a discriminator_weight above 0"):
        registry.build_method(
            name, {"adversarial_weight": 0.1, "discriminator_weight": 0}, backbone
        )
    registry.build_method(name, {"discriminator_weight": 0}, backbone)  # no GAN, no head


# ---- TDM-unify ------------------------------------------------------------------------------


def unify(**params: Any) -> tuple[Any, Any]:
    """TDM-unify with a GAN on the exact world, and a batch in which K is 4."""
    backbone = registry.build_backbone("gmm", {})
    method = registry.build_method("tdm_unify", {"adversarial_weight": 0.5, **params}, backbone)
    backbone.load("cpu")
    prompts = ["condition 0", "condition 5"]
    data = DataSource(backbone, prompts, seed=0, batch_size=16, latents=True)
    batches = (data.batch(step, 0) for step in range(100))
    made: Any = method
    made.bind({
        name: build_role(method, name, spec, seed=0, lr_scale=1.0, device="cpu").net
        for name, spec in method.nets().items()
    })  # fmt: skip
    return made, next(batch for batch in batches if len(made.train_nodes(batch)) == 4)


def test_tdm_unify_has_a_head_where_there_is_a_gan() -> None:
    method, _ = unify()
    assert method.turns(0) == ("fake", "student")
    assert method.trains("fake") == ("fake", "head")
    assert method.nets()["head"].optim == method.nets()["fake"].optim
    assert method.needs == {"prompts", "latents"}
    plain = registry.build_method("tdm_unify", {}, registry.build_backbone("gmm", {}))
    assert plain.turns(0) == ("fake", "student")
    assert plain.needs == {"prompts"}


@pytest.mark.parametrize("sampling", ["near_trajectory", "clean"])
def test_fakes_are_the_matched_states_and_latents_share_their_times(sampling: str) -> None:
    method, batch = unify(fake_sampling=sampling)
    (x_fake, t_fake), (x_real, t_real) = method.fake_and_real(batch)
    assert torch.equal(t_fake, t_real)
    # Near the trajectory, where the student meets the head, however the fake score is trained.
    at, _ = method.state("fake", batch)
    assert torch.equal(x_fake, at.x_tau)
    own, _ = method.state("fake", batch, near=sampling == "near_trajectory")
    assert torch.equal(x_fake, own.x_tau) == (sampling == "near_trajectory")
    assert not x_fake.requires_grad
    alpha, sigma = method.backbone.process.alpha_sigma(t_real, x_real)
    noise = (x_real - alpha * batch.latents) / sigma
    assert 0.6 < float(noise.std()) < 1.4
    assert float((noise - at.noise).abs().min()) > 0  # not the noise of the fakes


@pytest.mark.parametrize("source", ["fake", "teacher"])
def test_features_of_the_fake_score_are_told_k(source: str) -> None:
    method, batch = unify(adversarial_features=source)
    heard: list[tuple[str, torch.Tensor, Any]] = []
    plain = method.backbone.features

    def features(net: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **told: Any) -> Any:
        heard.append((net.name if net else "teacher", x, told.get("steps_k")))
        return plain(net, x, t, *args, **told)

    method.backbone.features = features
    for turn in method.turns(0):
        method.loss(turn, batch, 0)
    # Fake and real states in the one turn of fake score and head, and the student's own.
    assert Counter(name for name, *_ in heard) == {source: 3}
    for name, _, told in heard:
        assert (told is None) == (name == "teacher")
        assert told is None or told.tolist() == [4] * 16
    student = heard[-1][1]
    assert student.requires_grad
    assert torch.equal(student, method.state("student", batch)[0].x_tau)


def test_the_gan_of_tdm_unify_is_added_to_its_losses() -> None:
    method, batch = unify(discriminator_weight=0.7)
    plain, same = unify(adversarial_weight=0.0)
    for turn, weight, name in (("fake", 0.7, "discriminator"), ("student", 0.5, "adversarial")):
        with_gan, without = method.loss(turn, batch, 0), plain.loss(turn, same, 0)
        assert name not in without.scalars
        torch.testing.assert_close(
            with_gan.total, without.total + weight * with_gan.scalars[name], rtol=1e-6, atol=0
        )


def test_an_undecided_head_of_vectors() -> None:
    method, batch = unify(discriminator_weight=1.0)
    head = method.net["head"].module
    assert logits_of(head, torch.randn(3, 64)).shape == (3, 1)
    assert build_head(method.backbone)[0].in_features == vector_head(64)[0].in_features == 64
    torch.nn.init.zeros_(head[-1].weight)
    torch.nn.init.zeros_(head[-1].bias)
    assert judged(method, batch).item() == pytest.approx(2 * math.log(2), rel=1e-6)
    fooled = method.loss("student", batch, 0).scalars["adversarial"]
    assert fooled.item() == pytest.approx(math.log(2), rel=1e-6)


def test_recomputed_activations_of_a_shared_base_are_refused() -> None:
    backbone = registry.build_backbone("sd", {"model": "x/y", "gradient_checkpointing": True})
    for name in ("dmd2", "tdm_unify"):
        with pytest.raises(NotSupported, match="gradient_checkpointing"):
            registry.build_method(name, {"adversarial_weight": 0.1}, backbone)
        registry.build_method(name, {}, backbone).bind({})


@pytest.mark.parametrize("name", ["dmd2", "tdm_unify"])
def test_the_head_has_the_fake_scores_optimizer_or_one_of_its_own(name: str) -> None:
    backbone = registry.build_backbone("gmm", {})
    own = {"disc_lr": 3e-5, "disc_betas": [0.5, 0.9]}
    plain, set_ = (
        registry.build_method(name, {"adversarial_weight": 0.1, **more}, backbone).nets()
        for more in ({}, own)
    )
    assert plain["head"].optim == plain["fake"].optim
    assert (set_["head"].optim.lr, set_["head"].optim.betas) == (3e-5, (0.5, 0.9))
    assert set_["fake"].optim == plain["fake"].optim
    assert set_["head"].optim.clip_norm == plain["fake"].optim.clip_norm


def test_the_discriminators_loss_is_logged_beside_chance() -> None:
    method, batch = unify(discriminator_weight=0.25)
    losses = method.loss("fake", batch, 0)
    assert judged(method, batch) == losses.scalars["discriminator"]
    assert losses.scalars["chance"].item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(
    ("losses", "warned"),
    [
        ([1.44] * 40, True), ([1.386] * 40, True), ([2.0], True),
        ([1.30] * 40, False), ([1.44] * 30 + [1.0] * 10, False),
        ([1.0] * 30 + [1.40] * 10, True), ([], False),
    ],
)  # fmt: skip
def test_a_discriminator_that_stays_at_chance_is_warned_of(
    losses: list[float], warned: bool
) -> None:
    method, _ = unify()
    said = method.warnings([{"fake/discriminator": loss, "fake/loss": 1.0} for loss in losses])
    assert bool(said) == warned
    assert all("disc_lr" in text and "1.386" in text for text in said)
