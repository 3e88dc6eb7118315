"""Memory reckoned before launch: what plan tells when asked, and what run refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distillbench.plan.devices import gpu_memory
from distillbench.plan.identity import canonical_json
from distillbench.plan.stage import Plan, Stage
from distillbench.run import reckon

Cli = Callable[..., Any]
TEXT = """\
name: t
backbones: {b: {use: tiny-sd}}
base: {backbone: b, train: {updates: 2, batch_size: 64}, sample: {n: 8}}
rows:
  - {label: L, method: lcm, nfe: 2, params: {nets: copy}}
  - {method: teacher, nfe: 2}
seeds: [0, 1]
"""


@pytest.fixture(autouse=True, scope="module")
def _each_once() -> Iterator[None]:
    """What decides the memory of a stage is reckoned once for all tests of this file."""
    known: dict[tuple[str, str], Any] = {}
    of_networks = reckon._of_networks

    def remembered(plan: Plan, stage: Stage, other: reckon.Changed) -> Any:
        asked = canonical_json(reckon._told(plan, stage)), repr(other)
        if asked not in known:
            known[asked] = of_networks(plan, stage, other)
        return known[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reckon, "_of_networks", remembered)
        yield


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A machine with one GPU of so many MiB, as the driver's tool tells."""

    def made(mib: int) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(
            '#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: Some Card (UUID: GPU-0)" '
            f"|| echo {mib}\n"
        )  # fmt: skip
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    Path("e.yaml").write_text(TEXT)
    return made


def test_a_plan_tells_it_when_asked(cli: Cli, card: Callable[[int], None]) -> None:
    card(40_000)
    assert gpu_memory() == (40_000 << 20,)
    assert "memory" not in cli("plan", "e.yaml").out
    shown = cli("plan", "e.yaml", "--memory")
    assert shown.code == 0
    assert "memory of the stages, on Some Card with 41.9 GB:" in shown.out
    assert "L b seed 0 and 1 more, 64 a pass, float32: " in shown.out
    assert "does not fit" not in shown.out
    assert "sample L b nfe 2 seed 0 and 1 more, 50 a pass, float32: " in shown.out
    assert "sample Teacher b nfe 2 seed 0 and 1 more, 50 a pass, float32: " in shown.out
    told = cli("plan", "e.yaml", "--memory", "--json").json["memory"]
    kinds = {(one["kind"], len(one["stages"])) for one in told}
    assert (kinds, len(told)) == ({("train", 2), ("sample", 2)}, 3)
    parts = [told[0]["memory"][name] for name in ("weights", "trained", "optimizer", "passes")]
    assert told[0]["total"] == sum(parts)
    assert min(parts) > 0


def test_a_run_that_cannot_fit_is_refused_with_what_would(
    cli: Cli, card: Callable[[int], None]
) -> None:
    card(40_000)
    total = cli("plan", "e.yaml", "--memory", "--json").json["memory"][0]["total"]
    card(int(0.8 * total) >> 20)
    assert "; does not fit" in cli("plan", "e.yaml", "--memory").out
    refused = cli("run", "e.yaml")
    assert refused.code == 2
    line, last = refused.err.strip().splitlines()
    assert line.startswith("error: memory: L b seed 0 and 1 more, 64 a pass, float32: ")
    assert re.search(r" is more than Some Card has, 0.\d+ GB; would fit: ", line)
    assert "train.batch_size: 32 with train.accumulate: 2" in line
    assert last == "error: nothing was started"
    assert not (Path("results") / "store").exists()


@pytest.mark.parametrize(
    ("sets", "kind", "share", "fits"),
    [
        (("rows.0.params={nets: lora, rank: 512}", "base.train.batch_size=1"), "train", 0.8,
         "rank: "),
        (("base.train.batch_size=45",), "train", 0.8,
         "train.batch_size: 15 with train.accumulate: 3"),
        (("base.train.batch_size=1", "rows.0.params={nets: lora, rank: 1}",
          "base.sample.batch_size=256"), "sample", 0.6, "sample.batch_size: "),
        (("base.train.processes=2", "base.train.batch_size=1"), "train", 0.9,
         "train.shard: fsdp2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_what_would(
    cli: Cli, card: Callable[[int], None], sets: tuple[str, ...], kind: str, share: float, fits: str
) -> None:
    """A rank, an odd batch, a batch of samples that are decoded at once."""
    card(40_000)
    words = [word for one in sets for word in ("--set", one)]
    told = cli("plan", "e.yaml", "--memory", "--json", *words).json["memory"]
    total = max(one["total"] for one in told if one["kind"] == kind)
    card(int(share * total) >> 20)
    refused = cli("run", "e.yaml", *words)
    assert refused.code == 2
    line = next(
        x for x in refused.err.splitlines() if ("memory: sample" in x) == (kind == "sample")
    )
    assert fits in line.partition("would fit: ")[2]
    assert not (Path("results") / "store").exists()


def test_a_sharded_training_is_told_by_what_each_process_holds(
    cli: Cli, card: Callable[[int], None]
) -> None:
    card(40_000)
    sets = ["--set", "base.train.processes=2", "--set", "base.train.batch_size=1"]
    whole = cli("plan", "e.yaml", "--memory", "--json", *sets).json["memory"][0]
    sets += ["--set", "base.train.shard=fsdp2"]
    assert ", 1 a pass, float32, sharded over 2: " in cli("plan", "e.yaml", "--memory", *sets).out
    parts = cli("plan", "e.yaml", "--memory", "--json", *sets).json["memory"][0]
    assert (whole["ranks"], parts["ranks"]) == (1, 2)
    assert parts["memory"]["optimizer"] == whole["memory"]["optimizer"] // 2
    assert parts["total"] < whole["total"]


def test_scorers_are_told_by_their_weights(cli: Cli, card: Callable[[int], None]) -> None:
    card(40_000)
    metric = ("--set", "metrics=[{use: clip, params: {weights: openclip-ViT-bigG-14}}]")
    shown = cli("plan", "e.yaml", "--memory", *metric)
    assert shown.code == 0
    told = next(x for x in shown.out.splitlines() if x.startswith("    score clip of L b nfe 2"))
    assert " and 3 more: 10.2 GB (weights 10.2 GB; at least, as its activations" in told
    card(8_000)
    assert "; does not fit" in cli("plan", "e.yaml", "--memory", *metric).out


def test_weights_that_are_not_here_are_said_so(cli: Cli, card: Callable[[int], None]) -> None:
    card(128)
    changes = (
        "backbones.b={use: sd, params: {model: nobody/nothing}}", "rows.0.method=tdm",
        "base.data.prompts=world-train", "base.sample.prompts=world-eval",
    )  # fmt: skip
    sets = [word for change in changes for word in ("--set", change)]
    shown = cli("plan", "e.yaml", "--memory", *sets)
    assert shown.code == 0
    assert "L b seed 0 and 1 more, 64 a pass, float32: not known (weights " in shown.out
