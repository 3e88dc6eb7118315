"""Verdicts on claims whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
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


def test_numbers_without_a_direction_are_compared_as_they_are(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    """Neither is better: `>` says more, and no share of prompts is won."""
    world.prompts = 30
    world.row("more", 31.0, 5.0, seeds=(0, 1, 2))
    world.row("less", 30.0, 5.0, seeds=(0, 1, 2))
    told = {**infos, "hps": replace(infos["hps"], higher_is_better=None)}
    claims = ("more > less on hps", "less >= more on hps", "less <= 0.98 * more on hps")
    found = decide(world, make_experiment, told, *claims)
    assert [v.verdict for v in found] == ["holds", "fails", "holds"]
    assert [v.win_rate for v in found] == [None, None, None]


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


def test_one_seed_is_about_two_checkpoints_and_decides_nothing(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts = 30
    world.row("a", 31.0, 5.0)
    world.row("b", 30.0, 5.0)
    world.row("c", 29.0, 5.0, seeds=(0, 1))
    world.row("d", 28.0, 5.0, seeds=(0, 1))
    found = decide(
        world, make_experiment, infos, "a > b on hps", "b > a on hps", "c > d on hps",
        "a >= 0.5 * b on hps",
    )  # fmt: skip
    assert [v.verdict for v in found] == ["differ", "differ", "holds", "differ"]
    assert [v.trainings for v in found] == [1, 1, 2, 1]
    assert "speaks for the claim" in found[0].reason
    assert "speaks against the claim" in found[1].reason
    assert "not known at one" in found[0].power
    texts = [claim_texts(v, infos) for v in found]
    assert texts[0][1] == "these checkpoints differ"
    assert [t[-1] for t in texts[:3]] == ["30 pairs of 30 prompts, one seed only"] * 2 + [
        "60 pairs of 30 prompts, 2/2 seeds agree"
    ]
    assert texts[0][-2].startswith("100 % (")


def test_what_is_not_trained_is_decided_by_its_prompts(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts = 30
    world.row("four", 31.0, 5.0, updates=0)
    world.row("one", 30.0, 5.0, updates=0)
    world.row("student", 29.0, 5.0)
    found = decide(world, make_experiment, infos, "four > one on hps", "four > student on hps")
    assert [v.verdict for v in found] == ["holds", "differ"]
    assert claim_texts(found[0], infos)[-1].endswith("one seed only, neither trained")


def test_trainings_that_differ_decide_no_claim_however_many_prompts(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    """Every seed agrees and prompts are certain, but two trainings are two draws."""
    world.prompts = 200
    world.row("a", 30.5, 5.0, seeds=(0, 1))
    world.row("b", 30.0, 5.0, seeds=(0, 1))
    world.shift_hps("a", seed=1, by=0.4)
    verdict = decide(world, make_experiment, infos, "a > b on hps")[0]
    assert (verdict.verdict, verdict.seeds_agree) == ("undecided", 2)
    assert verdict.low < 0 < verdict.high
    assert verdict.power.startswith("about ")
    assert "seeds of 200 prompts" in verdict.power


def test_the_spread_of_trainings_is_pooled_over_rows_that_have_the_same(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts = 100
    for index in range(6):
        world.row(f"r{index}", 30.0 + 0.5 * index, 5.0, seeds=(0, 1))
        world.shift_hps(f"r{index}", seed=1, by=0.05 * (-1) ** index)
    world.row("other", 35.0, 5.0, seeds=(0, 1), nfe=8)
    world.shift_hps("other", seed=1, by=2.0)
    claims = ["r2 > r0 on hps", "other[nfe=8] > r0[nfe=4] on hps", "r2 > 0.9 * r0 on hps"]
    found = decide(world, make_experiment, infos, *claims)
    assert [v.pooled_rows for v in found] == [6, 0, 0]
    assert found[0].verdict == "holds"
    assert claim_texts(found[0], infos)[-1].endswith("trainings pooled over 6 rows")
    world.shift_hps("r2", seed=1, by=3.0)
    again = decide(world, make_experiment, infos, *claims)
    assert (again[0].pooled_rows, again[0].verdict) == (0, "undecided")


def test_sets_are_paired_by_the_blocks_they_left_out(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    """Leaving the same block out of both sides; at one seed with g - 1 degrees of freedom."""
    world.row("a", 30.0, 9.0)
    world.row("b", 30.0, 10.0)
    shared = [0.3 * math.sin(i) for i in range(10)]
    world.store_blocks("a", [9.0 + s for s in shared])
    world.store_blocks("b", [10.0 + s + 0.01 * (i % 2) for i, s in enumerate(shared)])
    verdict = decide(world, make_experiment, infos, "a > b on fid")[0]
    assert (verdict.verdict, verdict.over, verdict.units) == ("differ", "blocks", 10)
    own = [0.005 * 9 * (-1) ** i for i in range(10)]
    half = 2.262157 * stats.seeds_stderr(own)
    assert verdict.difference == pytest.approx(-1.0)
    assert (verdict.low, verdict.high) == pytest.approx((-1 - half, -1 + half), rel=1e-4)
    value = Results(world.plan, world.store).value(Results(world.plan, world.store).rows[0], "fid")
    assert value.stderr == pytest.approx(
        math.sqrt(0.9 * sum((s - stats.mean(shared)) ** 2 for s in shared))
    )
    assert value.stderr_over == "samples"


def test_holm_covers_all_claims(world: Any, make_experiment: Any, infos: Any) -> None:
    world.prompts = 30
    world.row("a", 31.0, 5.0)
    world.row("b", 30.0, 5.0)
    world.row("c", 30.01, 5.0)
    found = decide(world, make_experiment, infos, "a > b on hps", "c > b on hps", "a > c on fid")
    assert found[2].p is None
    assert [v.p_holm for v in found[:2]] == stats.holm([found[0].p, found[1].p])


def test_holm_counts_claims_that_are_still_to_be_measured(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    """Else a part of a run would decide what the whole of it leaves open."""
    world.prompts = 30
    world.row("a", 31.0, 5.0)
    world.row("b", 30.0, 5.0)
    world.row("c", 30.0, 5.0, done=False)
    found = decide(world, make_experiment, infos, "a > b on hps", "a > c on hps", "c > b on hps")
    assert [v.p for v in found[1:]] == [None, None]
    assert found[0].p_holm == pytest.approx(3 * found[0].p)
    assert stats.holm([0.01, 0.04], awaited=1) == pytest.approx([0.03, 0.08])


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
    assert claim_texts(found[1], infos)[-1] == "one seed only"
    for verdict, reason in zip(found, claims.values(), strict=True):
        assert verdict.reason.startswith(reason)


def test_equal_rows_are_as_good_but_not_better(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    for label, seeds in (("a", (0, 1)), ("b", (0, 1)), ("c", (0,)), ("d", (0,))):
        world.row(label, 30.0, 5.0, seeds=seeds)
    claims = ["a > b on hps", "a >= b on hps", "c > d on hps", "c >= d on hps"]
    found = decide(world, make_experiment, infos, *claims)
    assert [v.verdict for v in found] == ["fails", "holds", "undecided", "undecided"]
    assert found[3].reason.startswith("these checkpoints score the same")


def test_two_names_of_one_run_are_no_claim(world: Any, make_experiment: Any, infos: Any) -> None:
    for label in ("a", "b"):
        world.row(label, 30.0, 5.0, seeds=(0, 1))
    world.cells[2:] = [
        replace(cell, sample=same.sample, scores=same.scores, train=same.train)
        for cell, same in zip(world.cells[2:], world.cells, strict=False)
    ]
    found = decide(world, make_experiment, infos, "a >= b on hps", "a > b on hps")
    assert {v.verdict for v in found} == {"undecided"}
    assert found[0].reason.startswith("both sides are the same run")


def test_seeds_that_disagree_decide_nothing(world: Any, make_experiment: Any, infos: Any) -> None:
    world.prompts = 40
    world.row("a", 31.0, 5.0, seeds=(0, 1))
    world.row("b", 30.0, 5.0, seeds=(0, 1))
    world.shift_hps("a", seed=1, by=-1.3)
    verdict = decide(world, make_experiment, infos, "a > b on hps")[0]
    assert (verdict.verdict, verdict.seeds_agree) == ("undecided", 1)
    assert verdict.reason == "the interval holds zero"


def test_a_world_of_few_prompts_is_judged_by_its_samples(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    world.prompts, world.distinct = 60, 3
    world.row("a", 30.1, 5.0, updates=0)
    world.row("b", 30.0, 5.0, updates=0)
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


def test_a_net_that_others_or_another_row_trained_is_one_checkpoint(
    world: Any, make_experiment: Any, infos: Any
) -> None:
    """Whoever trained it: one training decides nothing of methods, however certain its prompts."""
    world.prompts = 30
    world.row("teacher", 33.0, 5.0, updates=0, seeds=(0, 1))
    world.row("weights", 32.0, 5.0, updates=0, seeds=(0, 1))
    world.sampled(
        "weights", method={"name": "pretrained", "version": 1, "params": {}, "weights": "sha"}
    )
    world.row("given", 31.0, 5.0, updates=0, train="")
    world.sampled("given", samples_sha256="folder")
    world.row("sampled", 30.0, 5.0, updates=0)
    world.takes("sampled", "a run")
    world.row("student", 29.0, 5.0, seeds=(0, 1))
    found = decide(
        world, make_experiment, infos, "weights > given on hps", "given > sampled on hps",
        "teacher > weights on hps", "weights > student on hps", "teacher > sampled on hps",
        "teacher > student on hps",
    )  # fmt: skip
    assert [v.trainings for v in found] == [1, 1, 1, 1, 1, 2]
    assert [v.verdict for v in found] == ["differ"] * 5 + ["holds"]
    assert "two trainings or more can tell" in found[0].reason
    assert "two seeds or more can tell" in found[4].reason
    assert [bool(v.power) for v in found[:5]] == [False, False, False, False, True]


def test_seeds_that_sample_another_rows_runs_are_trainings(world: Any) -> None:
    """The error of a row says so too, and two seeds of one checkpoint are no two trainings."""
    for label in ("sampled", "plain"):
        world.row(label, 30.0, 5.0, updates=0, seeds=(0, 1))
    world.takes("sampled", "run")
    results = Results(world.plan, world.store)
    over = [results.value(row, "hps").stderr_over for row in results.rows]
    assert over == ["prompts+seeds", "prompts"]
