"""The optimizers of one training: AdamW, and where asked Muon for the matrices of the blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

__all__ = ["Optimizers"]

WEIGHT_DECAY: Final = 1e-4


class Optimizers:
    """AdamW for all parameters, or Muon (Jordan et al. 2024) for the matrices of a transformer's
    blocks and AdamW for the others.

    Args:
        params: by name.
        lr: of AdamW.
        muon_lr: of Muon, whose updates are scaled to the size of AdamW's (arXiv 2502.16982,
            section 2.2); 0 for AdamW alone.
    """

    def __init__(self, params: Mapping[str, Tensor], *, lr: float, muon_lr: float = 0.0) -> None:
        inner = [n for n, p in params.items() if muon_lr and p.ndim == 2 and "_blocks." in n]
        adam = torch.optim.AdamW(
            [p for n, p in params.items() if n not in inner],
            lr=lr, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY,
        )  # fmt: skip
        self._of: dict[str, tuple[torch.optim.Optimizer, float]] = {"adam": (adam, lr)}
        if inner:
            muon = torch.optim.Muon(
                [params[n] for n in inner], lr=muon_lr, weight_decay=WEIGHT_DECAY,
                adjust_lr_fn="match_rms_adamw",
            )  # fmt: skip
            self._of["muon"] = (muon, muon_lr)

    def step(self, share: float) -> None:
        """One update at `share` of the rates; gradients are gone afterwards."""
        for optimizer, lr in self._of.values():
            for group in optimizer.param_groups:
                group["lr"] = lr * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Their moments by `optimizer.parameter.name`."""
        for name, (optimizer, _) in self._of.items():
            for index, moments in optimizer.state_dict()["state"].items():
                for key, value in moments.items():
                    yield f"{name}.{index}.{key}", value

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the moments that `tensors` gave; other entries of the mapping are passed over."""
        for name, (optimizer, _) in self._of.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                whose, _, rest = key.partition(".")
                if whose == name:
                    index, moment = rest.split(".", 1)
                    state.setdefault(int(index), {})[moment] = value
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
