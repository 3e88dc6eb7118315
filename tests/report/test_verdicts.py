"""Verdicts on claims whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from distillbench.analysis import stats
from distillbench.analysis.aggregate import Results
from distillbench.analysis.verdicts import Verdict, decide_claims
from distillbench.report.claim_writers import claim_texts


def decide(world: Any, make_experiment: Any, infos: Any, *claims: str) -> list[Verdict]:
    experiment = make_experiment(claims=list(claims))
    return decide_claims(experiment, Results(world.plan, world.store), infos)


def test_better_follows_the_metric_and_factors_are_literal(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts = 30
    world.row("good", 31.0, 5.0, seeds=(0, 1, 2))
    world.row("bad", 30.0, 20.0, seeds=(0, 1, 2))
    world.store_fid("bad", [20.0, 21.5, 22.0])
    found = decide(
        world, make_experiment, infos, "good > bad on hps", "good < bad on hps",
        "bad > good on hps", "good > bad on fid", "bad < good on fid", "good <= 0.6 * bad on fid",
        "good >= 0.6 * bad on fid", "bad > 0.5 * good on hps",
    )  # fmt: skip
    verdicts = ["holds", "fails", "fails", "holds", "holds", "holds", "fails", "holds"]
    assert [v.verdict for v in found] == verdicts
    assert [v.over for v in found[:4]] == ["prompts", "prompts", "prompts", "seeds"]
    assert (found[0].units, found[0].pairs, found[0].seeds_agree) == (30, 90, 3)
    assert found[5].difference == pytest.approx(6 - 0.6 * 127 / 6)


def test_numbers_are_those_of_paired_differences(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts = 30
    world.row("a", 30.02, 5.0)
    world.row("b", 30.0, 5.0)
    results = Results(world.plan, world.store)
    samples = [results.scores(row, "hps")[0].score.samples("") for row in results.rows]
    differences = [x.value - y.value for x, y in zip(*samples, strict=True)]
    verdict = decide(world, make_experiment, infos, "a > b on hps")[0]
    assert verdict.difference == pytest.approx(stats.mean(differences))
    assert verdict.effect_size == pytest.approx(stats.effect_size(differences))
    assert verdict.p == stats.sign_flip_p(differences)
    error = stats.seeds_stderr(differences)
    assert verdict.low == pytest.approx(verdict.difference - 1.96 * error, abs=0.2 * error)
    assert verdict.a_value - verdict.b_value == pytest.approx(verdict.difference)


def test_one_seed_is_never_called_an_agreement(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts = 30
    world.row("a", 31.0, 5.0)
    world.row("b", 30.0, 5.0)
    world.row("c", 29.0, 5.0, seeds=(0, 1))
    world.row("d", 28.0, 5.0, seeds=(0, 1))
    found = decide(world, make_experiment, infos, "a > b on hps", "c > d on hps")
    assert [v.verdict for v in found] == ["holds", "holds"]
    paired = [claim_texts(v, infos)[-1] for v in found]
    assert paired == ["30 pairs of 30 prompts, one seed only",
                      "60 pairs of 30 prompts, 2/2 seeds agree"]  # fmt: skip


def test_holm_covers_all_claims(world: Any, make_experiment: Any, infos: Any) -> None:
    world.prompts = 30
    world.row("a", 31.0, 5.0)
    world.row("b", 30.0, 5.0)
    world.row("c", 30.01, 5.0)
    found = decide(world, make_experiment, infos, "a > b on hps", "c > b on hps", "a > c on fid")
    assert found[2].p is None
    assert [v.p_holm for v in found[:2]] == stats.holm([found[0].p, found[1].p])


def test_no_evidence_is_undecided_with_a_reason(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts = 30
    world.row("a", 30.0, 5.0)
    world.row("b", 30.0 + 1e-6, 5.0)
    world.row("c", 30.0, 5.0, done=False)
    world.row("d", 30.0, 5.0, protocol={"n": 9})
    claims = {
        "a > b on hps": "the interval holds zero",
        "a > b on fid": "one seed and no per-sample values: no interval",
        "a > c on hps": "train stage aa020000 is not done",
        "a > d on hps": "column hps: a (nfe 4, seed 0, cc000000) and d",
        "a > b on hps_photo": "hps has no column 'photo'; has: animation, concept-art",
        "a > b on aes": "no metric 'aes'; has: hps, fid",
        "a beats b": "expected one of >, >=, <, <=",
    }
    found = decide(world, make_experiment, infos, *claims)
    assert {v.verdict for v in found} == {"undecided"}
    for verdict, reason in zip(found, claims.values(), strict=True):
        assert verdict.reason.startswith(reason)


def test_equal_rows_are_as_good_but_not_better(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.row("a", 30.0, 5.0)
    world.row("b", 30.0, 5.0)
    found = decide(world, make_experiment, infos, "a > b on hps", "a >= b on hps")
    assert [v.verdict for v in found] == ["fails", "holds"]


def test_seeds_that_disagree_decide_nothing(world: Any, make_experiment: Any, infos: Any) -> None:
    world.prompts = 40
    world.row("a", 31.0, 5.0, seeds=(0, 1))
    world.row("b", 30.0, 5.0, seeds=(0, 1))
    world.shift_hps("a", seed=1, by=-1.3)
    verdict = decide(world, make_experiment, infos, "a > b on hps")[0]
    assert (verdict.verdict, verdict.seeds_agree) == ("undecided", 1)
    assert verdict.reason == "the seeds disagree (1 of 2 have this sign)"


def test_a_world_of_few_prompts_is_judged_by_its_samples(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts, world.distinct = 60, 3
    world.row("a", 30.1, 5.0)
    world.row("b", 30.0, 5.0)
    verdict = decide(world, make_experiment, infos, "a > b on hps")[0]
    assert (verdict.over, verdict.units, verdict.verdict) == ("samples", 60, "holds")
    assert verdict.p == pytest.approx(1 / 5000)
    assert math.isfinite(verdict.low)


def test_distances_that_are_not_comparable_decide_no_claim(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    for label, fid in (("Teacher", 4.0), ("a", 9.0), ("b", 20.0), ("sdxl", 30.0)):
        world.row(label, 30.0, fid, seeds=(0, 1, 2))
    world.store_fid("b", [20.0, 21.5, 22.0])
    world.compare("Teacher", "floor", of="Teacher", noise=1000)
    for label in ("a", "b"):
        world.compare(label, "reference", of="Teacher")
    world.compare("sdxl", "another", of="Teacher of SDXL")
    claims = ["a < b on fid", "Teacher < b on fid", "sdxl > b on fid", "Teacher < b on hps"]
    found = decide(world, make_experiment, infos, *claims)
    assert found[0].p is not None
    assert "samples of other noise" in found[1].reason
    assert "`reference: {noise: other}`" in found[1].reason
    assert "different references" in found[2].reason
    assert not any("referenc" in found[i].reason for i in (0, 3))
    for label in ("a", "b"):
        world.compare(label, "floor", of="Teacher", noise=1000)
    again = decide(world, make_experiment, infos, *claims)
    assert again[1].p is not None
    assert "floor" not in again[1].reason
