"""The training loop, the degradations and the heads, in seconds and without shipped weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from distillbench.errors import BadInput
from distillbench.tiny_training import (
    aes,
    clip,
    degrade,
    denoise,
    hps,
    inception,
    recipes,
    samples,
    text,
    unet,
    vae,
)
from distillbench.tiny_training.__main__ import app
from distillbench.tiny_training.loop import Job, fit
from distillbench.tiny_training.optimizers import Optimizers
from distillbench.world import data


class _Stop(Exception):
    pass


def _fit(out: Path, *, stop_at: int = -1, muon_lr: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(OrderedDict(toy_blocks=nn.Sequential(nn.Linear(3, 4)), out=nn.Linear(4, 2)))
    job = Job(
        name="toy", out=out, steps=12, lr=0.1, muon_lr=muon_lr, ema=0.9, save_every=4, warmup=3
    )

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        if step == stop_at:
            raise _Stop
        x = torch.randn(8, 3, generator=generator)
        return (net(x) - x[:, :2]).square().mean()

    return fit(job, net, loss_of)


@pytest.mark.parametrize("muon_lr", [0.0, 0.05])
def test_a_resumed_training_ends_bit_identical(tmp_path: Path, muon_lr: float) -> None:
    whole = _fit(tmp_path / "a", muon_lr=muon_lr)
    with pytest.raises(_Stop):
        _fit(tmp_path / "b", stop_at=6, muon_lr=muon_lr)
    again = _fit(tmp_path / "b", muon_lr=muon_lr)
    for left, right in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


def test_muon_moves_the_matrices_of_blocks_alone() -> None:
    """By orthogonalised gradients (Jordan et al. 2024); everything else by AdamW."""
    net = nn.Sequential(OrderedDict(toy_blocks=nn.Sequential(nn.Linear(8, 8)), out=nn.Linear(8, 8)))
    params = dict(net.named_parameters())
    before = {name: p.detach().clone() for name, p in params.items()}
    optimizers = Optimizers(params, lr=0.01, muon_lr=0.02)
    for p in params.values():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    optimizers.step(0.5)
    moved = {name: (before[name] - p.detach()) for name, p in params.items()}
    assert {name.split(".")[0] for name, _ in optimizers.tensors()} == {"adam", "muon"}
    singular = torch.linalg.svdvals(moved["toy_blocks.0.weight"]) / (0.5 * 0.02 * 0.2 * 8**0.5)
    assert float(singular.min()) > 0.5
    assert float(singular.max()) < 1.5
    for name in ("toy_blocks.0.bias", "out.weight", "out.bias"):
        assert moved[name].abs().numpy() == pytest.approx(0.5 * 0.01, rel=0.1)


def test_level_zero_changes_nothing_and_harm_grows_with_the_level() -> None:
    index = np.arange(24, dtype=np.int64)
    x, others = degrade.renders(data.draws(0, index), 0, index)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for kind in range(len(degrade.KINDS)):
        kinds = torch.full((24,), kind)
        harmed = [
            degrade.degrade(x, others, kinds, torch.full((24,), level), noise)
            for level in (0.0, 0.3, 0.7, 1.0)
        ]
        errors = [float((y - x).square().mean()) for y in harmed]
        assert errors[0] < 1e-8
        assert errors == sorted(errors)
        assert errors[-1] > 1e-4


def test_other_scenes_are_such_that_their_captions_do_not_allow_them() -> None:
    drawn = data.draws(1, np.arange(500))
    wrong = hps.other_scenes(drawn, torch.Generator().manual_seed(0))
    says = drawn.said >= 0
    differ = ((wrong.codes != drawn.said) & says).sum(1)
    assert (differ >= 1).all()
    assert 0.7 < (differ == 1).mean() < 0.95
    levels = np.array(text.scene_levels()) - 1
    assert (wrong.codes < levels).all()


def test_typical_pictures_differ_less_than_real_ones() -> None:
    index = np.arange(32, dtype=np.int64)
    said = np.repeat(data.said_of(["a photo of a small red house on the left on a beach"]), 32, 0)
    drawn = data.completed(said, seed=0, index=index)
    real, flat, same = (
        data.render(drawn, seed=0, index=index, spread=np.full(32, spread, np.float32))
        for spread in (1.0, 0.3, 0.0)
    )
    assert (real == data.render(drawn, seed=0, index=index)).all()
    assert flat.std(0).mean() < 0.7 * real.std(0).mean()
    assert same[:, :, :, 0].std(0).mean() < flat[:, :, :, 0].std(0).mean()


def test_the_bank_of_samples_is_made_once_and_gives_pairs(tmp_path: Path) -> None:
    asked = []

    def sampler(captions: Sequence[str], steps: int, guidance: float, seed: int) -> samples.Images:
        asked.append((len(captions), steps, guidance))
        return np.full((len(captions), 32, 32, 3), steps, np.uint8)

    bank = samples.make(tmp_path, sampler, count=2 * samples.PART)
    assert [a for a in asked if a[1] == samples.MANY] == [(256, 25, 1.0), (256, 25, 2.0)]
    again = samples.make(tmp_path, sampler, count=2 * samples.PART)
    assert len(asked) == 2 * (1 + len(samples.FEW))
    np.testing.assert_array_equal(again.few, bank.few)
    better, worse, drawn = hps.sample_pairs(bank, 3, torch.Generator().manual_seed(0))
    assert better.shape == worse.shape == (hps.BATCH, 3, 32, 32)
    levels = [vae.to_uint8(x)[:, 0, 0, 0] for x in (better, worse)]
    few = np.isin(levels[1], samples.FEW)
    assert (levels[0] != levels[1]).all()
    assert (np.isin(levels[1], samples.FEW) | (levels[1] == samples.MANY)).all()
    assert few.any()
    assert ((drawn.codes == drawn.said) | (drawn.said < 0)).all()


def test_captions_that_fit_a_picture_are_not_counted_as_wrong() -> None:
    prompts = ["a cat", "a photo of a cat", "a cat left of a dog", "a red cat"]
    prompts = [p.replace("dog", "house") for p in prompts]
    said = data.said_of(prompts)
    drawn = data.Draws(data.completed(said, seed=0, index=np.arange(4)).codes, said, np.zeros(4))
    wrong = clip.distinct(drawn)
    assert wrong.diagonal().all()
    assert not wrong[1, 0]
    assert not wrong[3, 0]
    assert wrong[2, 0]
    assert wrong[0, 2]


def test_frechet_of_gaussians_is_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4000, 4, generator=generator, dtype=torch.float64)
    base = (base - base.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(base.T)).T)
    scale = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    expected = 4 * 0.25 + float((1 - scale).square().sum())
    assert inception.frechet(base, base * scale + 0.5) == pytest.approx(expected, rel=1e-9)
    assert inception.frechet(base, base) == pytest.approx(0, abs=1e-9)


def test_the_aesthetic_head_has_the_published_keys() -> None:
    names = {f"layers.{i}.{part}" for i in (0, 2, 4, 6, 7) for part in ("weight", "bias")}
    assert set(aes.Head().state_dict()) == names


def test_the_loss_weight_is_snr_plus_one_capped() -> None:
    alphas = unet.build_scheduler().alphas_cumprod.double()
    snr = alphas / (1 - alphas)
    weight = denoise.snr_weight(alphas)
    torch.testing.assert_close(weight, (1 + 1 / snr).clamp(max=10))


def test_standardising_moves_no_picture() -> None:
    torch.manual_seed(0)
    net = vae.build().eval()
    x = vae.to_tensor(data.training_batch(0, 0, 8)[0])
    with torch.no_grad():
        before = net.encode(x).latent_dist
        y = net.decode(before.mean).sample
        vae.standardise(net, count=64)
        after = net.encode(x).latent_dist
        torch.testing.assert_close(net.decode(after.mean).sample, y, atol=1e-4, rtol=1e-4)
        ratio = before.std / after.std
    torch.testing.assert_close(ratio, ratio.mean((0, 2, 3), keepdim=True).expand_as(ratio))


def test_the_last_stage_of_the_autoencoder_moves_the_decoder_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    job = Job(name="vae", out=tmp_path, steps=4, lr=1e-3, ema=0.9)
    net, critic = vae.build(), inception.build()
    vae.fit_stages(
        job, net, critic, lambda seed, step: vae.to_tensor(data.training_batch(seed, step, 2)[0])
    )
    before = load_file(tmp_path / "vae-features" / "checkpoint.safetensors")
    for name, value in net.state_dict().items():
        moved = not torch.equal(before[f"ema.{name}"], value)
        assert moved == name.startswith(("decoder.", "post_quant_conv.")), name
    assert all(p.requires_grad for p in net.parameters())


def test_the_tokenizer_knows_every_word_and_marks_the_ends() -> None:
    tokenizer = text.build_tokenizer()
    captions = data.draws(2, np.arange(300)).captions()
    ids = text.tokens(tokenizer, ["", *captions])
    assert ids.shape == (301, 24)
    assert ids[0].tolist() == [1, 3] + 22 * [0]
    assert not (ids == 2).any()
    assert ((ids == 3).sum(1) == 1).all()


def test_caption_targets_tell_every_caption_apart() -> None:
    drawn = data.draws(2, np.arange(2000))
    answers = {tuple(row) for row in text.targets(drawn.said).tolist()}
    assert len(answers) == len(np.unique(drawn.said, axis=0))
    for column, level in zip(zip(*answers, strict=True), text.scene_levels(), strict=True):
        assert min(column) >= 0
        assert max(column) < level


def test_clip_folder_loads_by_open_clip(tmp_path: Path) -> None:
    net = clip.build()
    recipes.save_clip(tmp_path, net)
    loaded = open_clip.create_model(f"local-dir:{tmp_path}")
    a, b = net.state_dict(), loaded.state_dict()
    assert a.keys() == b.keys()
    torch.testing.assert_close(a["visual.proj"].half().float(), b["visual.proj"])
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    words = ["a photo of a large red cat on the left in the snow"]
    assert torch.equal(tokenizer(words), clip.tokenizer()(words))


def test_models_that_need_others_say_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="train clip first"):
        recipes.train("hps", recipes.TrainingRun(out=tmp_path))
    with pytest.raises(BadInput, match="train text and vae first"):
        recipes.train("unet", recipes.TrainingRun(out=tmp_path))


def test_a_short_oracle_training_writes_a_loadable_folder(tmp_path: Path) -> None:
    run = recipes.TrainingRun(out=tmp_path, steps=2)
    recipes.train("oracle", run)
    net = recipes.load_net(tmp_path / "tiny-oracle")
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 47)


def test_show_writes_a_sheet(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["show", "-o", str(tmp_path / "grid.png"), "--rows", "1"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "grid.png").stat().st_size > 1000
