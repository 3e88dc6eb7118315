"""Planning must not pay for importing torch."""

from __future__ import annotations

import subprocess
import sys

MODULES = [
    "distillbench.core.process", "distillbench.core.parameterization", "distillbench.core.solve",
    "distillbench.core.loss", "distillbench.core.noise", "distillbench.core.grid",
    "distillbench.api.sampler", "distillbench.core.schedules", "distillbench.api.samplers",
    "distillbench.data.prompts", "distillbench.api.backbone", "distillbench.backbones.gmm",
]  # fmt: skip
USE = """
from distillbench.backbones.gmm import Gmm, GmmConfig
from distillbench.world.mixture import mixture
from distillbench.data.prompts import prompt_identity
from distillbench.api.samplers import OdeSampler, from_recipe
backbone = Gmm(GmmConfig())
assert backbone.revision() and mixture() and prompt_identity("world-eval")
recipe = OdeSampler(timesteps=backbone.nodes(4)).model_dump(mode="json")
assert from_recipe(recipe).nfe == 4
"""


def imports_torch(code: str) -> bool:
    code += "\nimport sys; sys.exit(7 if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 7), done.stderr
    return done.returncode == 7


def test_importing_all_of_them_leaves_torch_alone() -> None:
    together = imports_torch("\n".join(f"import {name}" for name in MODULES))
    # One by one, each in an interpreter of its own, only to name those that do.
    guilty = [name for name in MODULES if imports_torch(f"import {name}")] if together else []
    assert not together, f"these import torch: {guilty}"


def test_what_planning_asks_leaves_torch_alone() -> None:
    assert not imports_torch(USE)
