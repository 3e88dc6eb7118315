"""Every registered method keeps the contract, on the exact world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from distillbench import registry
from distillbench.testing.method import MethodContract

PARAMS: dict[str, dict[str, Any]] = {
    "teacher": {"guidance_scale": 2.0},
    "lcm": {"nets": "copy", "lr": 1e-3},
    "tdm": {"nets": "copy", "lr": 1e-3, "ema": 0.9},
}


@pytest.mark.parametrize("name", registry.METHODS.names())
class TestRegistered(MethodContract):
    """Methods without an entry in PARAMS run with their defaults."""

    method: ClassVar[str] = ""
    params: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _choose(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "method", name)
        monkeypatch.setattr(type(self), "params", PARAMS.get(name, {}))
