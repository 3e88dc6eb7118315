"""GPUs are found by what the machine shows, never by importing torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillbench.errors import BadInput
from distillbench.plan.devices import choose_gpus, gpu_names, visible_gpus


@pytest.fixture
def three_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose `nvidia-smi -L` lists three."""
    tool = tmp_path / "nvidia-smi"
    lines = "".join(f"echo 'GPU {i}: Some Card (UUID: GPU-{i})'\n" for i in range(3))
    tool.write_text(f"#!/bin/sh\n{lines}")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(("setting", "expected"), [("2,0", ("2", "0")), ("", ()), ("1,7", ("1",))])
def test_the_users_choice_is_kept(
    setting: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visible_gpus() == ("0", "1", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert visible_gpus() == expected
    assert gpu_names() == ", ".join(["Some Card"] * len(expected))


@pytest.mark.usefixtures("three_gpus")
def test_counts() -> None:
    assert choose_gpus(None) == ("0", "1", "2")
    assert choose_gpus(0) == ()
    assert choose_gpus(2) == ("0", "1")
    with pytest.raises(BadInput, match=r"--gpus 4: this machine shows 3 GPU"):
        choose_gpus(4)


def test_a_machine_without_the_tool_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_gpus(None) == ()
