"""A one-line toy backbone, and a DMD2 on it, for the methods' mathematics in float64."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from distillbench.api.backbone import Backbone, Cond, Prediction
from distillbench.api.method import Batch
from distillbench.core.parameterization import guided, x0_eps
from distillbench.core.process import NoiseProcess
from distillbench.methods.dmd2 import DMD2
from distillbench.methods.settings.dmd2 import DMD2Config


class NoConfig(BaseModel):
    """A backbone without settings."""


Output = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Toy(Backbone):
    """Networks are functions (x, t, label) -> eps; `net.fn` of a role, `teacher` of the teacher.

    Records every call as (role, whether gradients were enabled).
    """

    Config = NoConfig
    name = "toy"
    latent_shape = (2,)
    prediction_type = "epsilon"

    def __init__(self, teacher: Output, process: NoiseProcess | None = None) -> None:
        super().__init__(NoConfig())
        self.teacher = teacher
        self.process = process or NoiseProcess.scaled_linear()
        self.process_kind = self.process.kind
        self.calls: list[tuple[str, bool]] = []

    def revision(self) -> str:
        return "toy"

    def load(self, device: str = "cpu", *, dtype: str = "float32") -> None:
        pass

    def encode(self, prompts: Any) -> Cond:
        return Cond({"label": torch.tensor([float(len(p)) for p in prompts]).double()})

    def predict(
        self, net: Any, x_t: torch.Tensor, t: torch.Tensor, cond: Cond, *,
        guidance_scale: Any = 1.0, uncond: Cond | None = None, **_: Any,
    ) -> Prediction:  # fmt: skip
        self.calls.append((net.name if net else "teacher", torch.is_grad_enabled()))
        fn = net.fn if net else self.teacher
        x = x_t.double()
        raw = fn(x, t, cond.tensors["label"][:, None])
        if not (isinstance(guidance_scale, float) and guidance_scale == 1.0):
            assert uncond is not None
            free = fn(x, t, uncond.expand(len(x)).tensors["label"][:, None])
            raw = guided(raw, free, guidance_scale)
        alpha, sigma = self.process.alpha_sigma(t, x)
        return Prediction(*x0_eps(raw, x, alpha, sigma, self.prediction_type), raw)

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        return x0

    def make_net(self, name: str, kind: Any = "lora", **opts: Any) -> Any:
        raise AssertionError("tests bind their own nets")

    def batch(self, size: int = 32, latents: torch.Tensor | None = None) -> Batch:
        prompts = ["a" * (1 + i % 3) for i in range(size)]
        null = self.encode([""])
        return Batch(prompts, self.encode(prompts), null, latents, (2,), (0, "test"))

    def drawn(self, size: int = 64) -> Batch:
        """A batch with normal latents in float64, the same ones at every call."""
        rng = torch.Generator().manual_seed(0)
        return self.batch(size, torch.randn(size, 2, generator=rng, dtype=torch.float64))


def role(name: str, fn: Output) -> Any:
    """A stand-in for a NetHandle whose network is `fn`."""
    return SimpleNamespace(name=name, fn=fn, ema=None)


@pytest.fixture
def toy() -> type[Toy]:
    return Toy


@pytest.fixture
def make_role() -> Callable[[str, Output], Any]:
    return role


def _output(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 0.7 + 0.1 * label) + 0.2 * x + 1e-4 * t[:, None]


def _scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def toy_dmd2(**config: Any) -> Any:
    """A DMD2 on the toy: student and fake are the teacher plus `gain` x and plus `shift`.

    Features are x and the fake's shift as 1 x 1 maps of two channels; the head adds them up.
    """
    gain, shift, lean = config.pop("gain", 0.1), config.pop("shift", 0.0), config.pop("lean", 0.0)

    def features(net: Any, x: torch.Tensor, t: Any, cond: Any, layers: Any) -> Any:
        assert layers == ["mid"]
        backbone.calls.append((f"features of {net.name if net else 'teacher'}", False))
        return [(x + method.shift if net else x)[:, :, None, None]]

    featured = type("Featured", (Toy,), {"features": staticmethod(features)})
    backbone = featured(_output, config.pop("process", None))
    method = DMD2(DMD2Config(**config), backbone)
    method.gain, method.shift, method.lean = map(_scalar, (gain, shift, lean))
    head = role("head", None)
    head.module = lambda maps: method.lean * maps.sum(1, keepdim=True)
    head.active = contextlib.nullcontext
    method.bind({
        "student": role("student", lambda x, t, c: _output(x, t, c) + method.gain * x),
        "fake": role("fake", lambda x, t, c: _output(x, t, c) + method.shift),
        "head": head,
    })  # fmt: skip
    return method


@pytest.fixture
def dmd2() -> Callable[..., Any]:
    return toy_dmd2
