"""The sample stage: what it writes, and that noise belongs to a sample and not to its batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distillbench.analysis.costs import COSTS
from distillbench.api import registry
from distillbench.data.prompts import load_prompts
from distillbench.errors import ArtifactError, BadInput, Interrupted
from distillbench.sample import generate
from distillbench.specs.context import Runtime, StageContext
from distillbench.specs.stages import SampleSpec
from distillbench.store import samples
from distillbench.store.samples import load_samples
from distillbench.testing.method import train, train_spec
from distillbench.testing.specs import sample_spec


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(train_spec("lcm", {"nets": "copy", "lr": 1e-3}, updates=2), folder)
    return folder / "out"


def spec_of(n: int = 10, batch_size: int = 4, seed: int = 0, **recipe: Any) -> dict[str, Any]:
    method = registry.build_method("lcm", {"nets": "copy"}, registry.build_backbone("gmm", {}))
    prompts = load_prompts("gmm-eval")
    return sample_spec(
        sampler={**method.sampler(4).model_dump(mode="json"), **recipe},
        prompts={"sha256": prompts.sha256, "n": n},
        seed=seed,
        batch_size=batch_size,
    )


def sample(spec: dict[str, Any], trained: Path, out: Path, **hooks: Any) -> Path:
    out.mkdir()
    context = StageContext(runtime=Runtime(prompts="gmm-eval"), **hooks)
    generate.sample_stage(SampleSpec.read(spec, of="it"), context, train_dir=trained, out=out)
    return out


def test_samples_come_back_with_their_prompts(trained: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    out = sample(spec_of(), trained, tmp_path / "abc", progress=events.append)
    samples = load_samples(out)
    assert samples.data.shape == (10, 2)
    assert samples.data.dtype == torch.float32
    assert samples.prompts[7:] == ["condition 7", "condition 0", "condition 1"]  # cycled
    assert (samples.seed, samples.key) == (0, "abc")
    assert [e["done"] for e in events] == [4, 8, 10]
    cost = json.loads((out / "cost.json").read_text())
    assert cost["evaluations"] == {"student": 40}


def test_a_sample_costs_what_its_batch_took_and_no_loading(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that loading moves by 1000, a batch by one a sample, the first by 100 more."""
    now, first = [0.0], [100.0]
    load, batch = generate.load_student, generate._batch

    def loading(*args: Any, **options: Any) -> Any:
        now[0] += 1000
        return load(*args, **options)

    def sampling(student: Any, work: Any, positions: range, *rest: Any) -> Any:
        now[0] += len(positions) + (first.pop() if first else 0)
        return batch(student, work, positions, *rest)

    monkeypatch.setattr(generate, "load_student", loading)
    monkeypatch.setattr(generate, "_batch", sampling)
    monkeypatch.setattr(generate.time, "perf_counter", lambda: now[0])
    kind, per_sample = COSTS["sample_ms"]
    several = json.loads((sample(spec_of(), trained, tmp_path / "a") / "cost.json").read_text())
    assert (kind, per_sample(several)) == ("sample", 1000)
    first.append(100.0)
    whole = sample(spec_of(batch_size=10), trained, tmp_path / "b") / "cost.json"
    assert per_sample(json.loads(whole.read_text())) == 1000 * 110 / 10


def test_noise_does_not_depend_on_the_batch(trained: Path, tmp_path: Path) -> None:
    # renoising sampler: the noise of later steps is per sample too
    sets = [
        load_samples(sample(spec_of(batch_size=b), trained, tmp_path / str(b))).data
        for b in (3, 10)
    ]
    torch.testing.assert_close(*sets, rtol=1e-5, atol=1e-5)
    fewer = load_samples(sample(spec_of(n=5), trained, tmp_path / "n5")).data
    torch.testing.assert_close(fewer, sets[0][:5], rtol=1e-5, atol=1e-5)
    other = load_samples(sample(spec_of(seed=1), trained, tmp_path / "seed")).data
    assert float((other - sets[0]).abs().max()) > 0.01


def test_shards_hold_at_most_their_size(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sample(spec_of(), trained, tmp_path / "whole")
    monkeypatch.setattr(samples, "SHARD", 3)
    out = sample(spec_of(), trained, tmp_path / "sharded")
    assert len(list(out.glob("samples-*.safetensors"))) == 4
    data = [load_samples(folder).data for folder in (whole, out)]
    assert torch.equal(*data)
    (out / "samples-00003.safetensors").unlink()
    with pytest.raises(ArtifactError, match="9 samples, 10 lines"):
        load_samples(out)


def test_a_few_prompts_at_hand_match_the_stage(trained: Path, tmp_path: Path) -> None:
    stage = load_samples(sample(spec_of(n=8, batch_size=8), trained, tmp_path / "s"))
    student = generate.load_student(trained)
    images = generate.generate_images(student, stage.prompts, sampler=student.method.sampler(4))
    assert torch.equal(images, stage.data)


def test_stopping_and_changed_prompts(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="stopped after 0 of 10"):
        sample(spec_of(), trained, tmp_path / "a", should_stop=lambda: True)
    spec = spec_of()
    spec["prompts"]["sha256"] = "0"
    with pytest.raises(BadInput, match="changed since"):
        sample(spec, trained, tmp_path / "b")


def test_missing_samples_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no readable samples"):
        load_samples(tmp_path)


@pytest.mark.parametrize("nfe", [1, 4])
def test_a_trajectory_has_the_clean_prediction_of_every_evaluation(trained: Path, nfe: int) -> None:
    """Keeping it changes no sample; this sampler ends at the last of them."""
    student = generate.load_student(trained)
    prompts = load_prompts("gmm-eval").prompts[:5]
    sampler = student.method.sampler(nfe)
    kept: list[torch.Tensor] = []
    plain = generate.generate_images(student, prompts, sampler=sampler, batch_size=2)
    found = generate.generate_images(
        student, prompts, sampler=sampler, batch_size=2, trajectory=kept
    )
    assert torch.equal(plain, found)
    assert [tuple(steps.shape) for steps in kept] == [(nfe, 2)] * 5
    torch.testing.assert_close(torch.stack([steps[-1] for steps in kept]), found)


def test_clean_predictions_of_the_first_samples_are_kept_when_asked(
    trained: Path, tmp_path: Path
) -> None:
    """Across batches, and the samples are those without: the last prediction is LCM's sample."""
    plain = sample(spec_of(), trained, tmp_path / "plain")
    kept = sample({**spec_of(), "trajectory": 6}, trained, tmp_path / "kept")
    assert not (plain / "trajectory.safetensors").exists()
    way = load_file(kept / "trajectory.safetensors")["samples"]
    assert way.shape == (6, 4, 2)
    made = [load_samples(folder).data for folder in (plain, kept)]
    assert torch.equal(*made)
    assert not torch.equal(way[:, 0], way[:, 3])
