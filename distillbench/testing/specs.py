"""Complete specs of stages, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillbench.api import registry
from distillbench.data.prompts import prompt_identity
from distillbench.experiment.cell_parts import TrainConfig
from distillbench.plan.train_options import OPTIONS
from distillbench.specs.stages import IDENTITY_VERSION

__all__ = ["sample_spec", "score_spec", "train_spec"]


def train_spec(
    method: str,
    params: Mapping[str, Any],
    *,
    backbone: str = "gmm",
    backbone_params: Mapping[str, Any] | None = None,
    prompts: str = "",
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """A train stage's spec.

    Args:
        prompts: the training prompts; "" is the backbone's own set.
        settings: those of `train` (updates, batch_size, ...).
    """
    built = registry.build_backbone(backbone, backbone_params or {})
    usual = TrainConfig().model_dump(mode="json", exclude={"save_every", *OPTIONS})
    sha256 = prompt_identity(prompts or built.train_prompts)
    return {
        "identity": IDENTITY_VERSION,
        "backbone": {"name": backbone, "params": dict(backbone_params or {}),
                     "revision": built.revision()},
        "method": {"name": method, "version": registry.METHODS.get(method).version,
                   "params": dict(params)},
        "train": {**usual, "updates": 4, "batch_size": 8, **settings},
        "data": {"prompts_sha256": sha256, "images_sha256": ""},
        "seed": seed,
        "teacher": None,
    }  # fmt: skip


def sample_spec(train: str = "", /, **fields: Any) -> dict[str, Any]:
    """A sample stage's spec; the teacher's on the exact world where nothing is said."""
    return {
        "identity": IDENTITY_VERSION,
        "train": train,
        "backbone": {"name": "gmm", "params": {}, "revision": ""},
        "method": {"name": "teacher", "version": 1, "params": {}},
        "sampler": {"kind": "ode", "timesteps": [999, 749, 499, 249]},
        "prompts": {"sha256": "", "n": 8},
        "seed": 0,
        "batch_size": 8,
        **fields,
    }


def score_spec(sample: str = "", /, **fields: Any) -> dict[str, Any]:
    """A score stage's spec, by a metric that compares with nothing where nothing is said."""
    return {
        "identity": IDENTITY_VERSION,
        "sample": sample,
        "reference": None,
        "metric": {"name": "coverage", "version": 1, "params": {}, "revision": ""},
        **fields,
    }
