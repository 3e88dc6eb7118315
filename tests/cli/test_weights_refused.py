"""Weights of others that cannot be used: one line each, exit code 2, and nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from distillbench.world import weights

Cli = Callable[..., Any]
TEXT = """\
name: e
base: {{backbone: tiny-sd, sample: {{n: 2}}, train: {{updates: 2, batch_size: 2}}}}
rows:
  - {{label: Trained, method: lcm, nfe: 2}}
  - {{label: Theirs, method: pretrained, nfe: 4, params: {{{params}}}}}
"""
WRONG = "0" * 64


class _Runs:
    def __reduce__(self) -> Any:
        return (eval, ("print('a pickle ran code')",))


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good adapter of tiny-sd, one of a wider text, one of uneven ranks, a pickle with code."""
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    file = next((weights.folder("tiny-sd") / "unet").glob("*.safetensors"))
    with safe_open(file, "np") as opened:
        name = next(n for n in opened.keys() if n.endswith("attn2.to_k.weight"))  # noqa: SIM118
        up, down = opened.get_slice(name).get_shape()
    flat = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
    for path, wide, rank in (("good", down, 2), ("base", 2048, 2), ("rank", down, 7)):
        tensors = {"down": np.ones((2, wide), np.float32), "up": np.ones((up, rank), np.float32)}
        save_file({f"{flat}.lora_{k}.weight": v for k, v in tensors.items()}, f"{path}.safetensors")
    torch.save({"a": torch.ones(2), "b": _Runs()}, "code.pt")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("weights: base.safetensors", "of another base"),
        ("weights: rank.safetensors", "rank 2 on one side, 7 on the other"),
        ("weights: gone.safetensors", "no weights in gone.safetensors: no such file or folder"),
        ("weights: 'owner/name:x.safetensors@v2'",
         "run: hf download owner/name x.safetensors --revision v2"),
        (f"weights: good.safetensors, sha256: '{WRONG}'", f", not {WRONG}"),
        ("weights: code.pt", "is a pickle that runs code (__builtin__.eval)"),
        ("weights: 'some/turbo:x.safetensors', note: {licence: 'own, gated'}",
         "accept its licence on its page and run `hf auth login` before"),
        ("recipe: sdxl-turbo", "SDXL-Turbo (512 px) is for sdxl, the backbone is of sd"),
        ("recipe: tdm-sdxl", "its weights were never released"),
    ],
)  # fmt: skip
def test_a_run_is_refused_before_anything_is_trained(cli: Cli, params: str, said: str) -> None:
    Path("theirs.yaml").write_text(TEXT.format(params=params))
    answer = cli("run", "theirs.yaml")
    lines = [line for line in answer.err.splitlines() if "nothing was started" not in line]
    assert answer.code == 2
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert "a pickle ran code" not in answer.out
    assert not list(Path().glob("results/**/recipe.json"))


def test_the_good_one_plans(cli: Cli) -> None:
    Path("theirs.yaml").write_text(TEXT.format(params="weights: good.safetensors"))
    assert cli("plan", "theirs.yaml").code == 0
