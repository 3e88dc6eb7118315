"""Make the warm starts of the exact world's students: of `gmm`, and with --flow of `gmm-flow`.

python -m distillbench.tiny_training.gmm [--flow] [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from distillbench.backbones._gmm import (
    ExactMixture,
    Kind,
    PointNet,
    exact_prediction,
    process,
)
from distillbench.backbones.gmm import WEIGHTS
from distillbench.backbones.gmm_flow import WEIGHTS as FLOW_WEIGHTS
from distillbench.core.noise import generator
from distillbench.files.io import sha256
from distillbench.world import weights
from distillbench.world.mixture import CONDITIONS

__all__ = ["main", "train"]

STEPS, BATCH, LEARNING_RATE, SEED = 6000, 512, 3e-3, 0
NULL_SHARE = 0.1


def train(steps: int = STEPS, *, seed: int = SEED, kind: Kind = "vp") -> tuple[PointNet, float]:
    """Regress the network on the exact v at noised samples; returns it and its last mean error.

    Times are uniform, integers or the reals of a flow, a tenth of the labels is the unconditional
    one, and the learning rate falls to zero along a cosine. Boxed by steps, so that the result does
    not depend on the machine.
    """
    exact = ExactMixture()
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        net = PointNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng, recent = generator(seed, "gmm-warmstart"), list[torch.Tensor]()
    for _ in range(steps):
        label = torch.randint(CONDITIONS, (BATCH,), generator=rng)
        t = _times(kind, rng)
        noise = torch.randn(BATCH, 2, generator=rng)
        x_t = process(kind).add_noise(exact.sample(label, rng), noise, t)
        label[torch.rand(BATCH, generator=rng) < NULL_SHARE] = CONDITIONS
        target = exact_prediction(exact, x_t, t, [label], 1.0, kind).raw
        loss = torch.nn.functional.mse_loss(net(x_t, t, label, {}), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        recent = [*recent[-199:], loss.detach()]
    return net, torch.stack(recent).mean().item()


def _times(kind: Kind, rng: torch.Generator) -> torch.Tensor:
    if kind == "flow":
        return 1000 * torch.rand(BATCH, generator=rng)
    return torch.randint(1000, (BATCH,), generator=rng)


def main(folder: Path, kind: Kind = "vp") -> None:
    """Train and write model.safetensors and card.json into `folder`."""
    torch.set_num_threads(1)  # the order of sums, hence the weights, depends on it
    net, error = train(kind=kind)
    flow = kind == "flow"
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, model)
    card: dict[str, Any] = {
        "what": "warm start of the gmm-flow students: velocity regressed on the exact one" if flow
        else "warm start of the gmm students: v regressed on the exact score",
        "command": "python -m distillbench.tiny_training.gmm" + (" --flow" if flow else ""),
        "steps": STEPS, "batch_size": BATCH, "learning_rate": LEARNING_RATE, "seed": SEED,
        "mean_squared_error_of_v": round(error, 5),
        "files": {model.name: sha256(model)},
    }  # fmt: skip
    (folder / weights.CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{folder}: mean squared error of v {error:.5f}\n")


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--flow"]
    flow = len(given) < len(sys.argv) - 1
    name = FLOW_WEIGHTS if flow else WEIGHTS
    main(Path(given[0]) if given else weights.root() / name, "flow" if flow else "vp")
