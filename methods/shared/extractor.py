"""Heads on several features, and the user's function that makes features of latents."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from distillbench.api import Need
from distillbench.core.lazy import torch
from distillbench.errors import BadInput

from .heads import blank, head_of, logits_of
from .noised import logit_normal_noised

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone, Cond
    from distillbench.api.method import Batch, Method

__all__ = ["Critic", "imported", "needed"]

Features = Callable[["torch.Tensor"], Sequence["torch.Tensor"]]


def needed(extractor: str) -> Need:
    """The package of "package.module:function", looked for without importing it."""
    module = extractor.partition(":")[0]
    try:
        there = importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:
        there = False
    fix = "" if there else "put it on PYTHONPATH, or set extractor to one that is"
    return Need("package", module, "" if there else "no such module for extractor", fix)


def imported(extractor: str, backbone: Backbone) -> Features:
    """What the named function makes of the loaded backbone.

    Raises:
        BadInput: there is no such module or function.
    """
    module, _, name = extractor.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"extractor {extractor}: {error}") from None
    made: Features = make(backbone)
    return made


@dataclass
class Critic:
    """D(h): heads on what the frozen teacher makes of noised samples, or the extractor of them.

    Attributes:
        sets: of heads on the same features; a sample is judged by the set of its index.
    """

    method: Method
    sets: int = 1

    def read(self, x: torch.Tensor, t: torch.Tensor, cond: Cond) -> Sequence[torch.Tensor]:
        """h(x, t), or h(x) of an extractor."""
        if self.method.config.extractor:
            return self.extract(x)
        return self.method.backbone.features(None, x, t, cond, self.method.config.layers)

    @cached_property
    def extract(self) -> Features:
        """The extractor, made of the loaded backbone."""
        return imported(self.method.config.extractor, self.method.backbone)

    def features(self, x: torch.Tensor, batch: Batch, stream: str) -> Sequence[torch.Tensor]:
        """h of samples; of the teacher at noise of their own."""
        config, x_t, t = self.method.config, x, x
        if not config.extractor:
            law = config.noise_mean, config.noise_std
            x_t, t = logit_normal_noised(self.method, x, batch, stream, *law)
        return self.read(x_t, t, batch.cond)

    def make_head(self) -> torch.nn.Module:
        """One untrained head for each of the features, in every set."""
        with torch.no_grad():
            features = self.read(*blank(self.method.backbone))
        return torch.nn.ModuleList(head_of(each) for _ in range(self.sets) for each in features)

    def logits(self, features: Sequence[torch.Tensor], k: torch.Tensor) -> torch.Tensor:
        """(B, L), one for each of L features, of the heads of set k (B,); one set judges all."""
        heads = self.method.net["disc"].module.children()
        pairs = zip(heads, self.sets * tuple(features), strict=True)
        every = torch.cat([logits_of(head, each) for head, each in pairs], 1)
        by_set = every.reshape(len(k), self.sets, len(features))
        told: torch.Tensor = by_set[torch.arange(len(k), device=k.device), k % self.sets]
        return told

    def penalty(self, features: Sequence[torch.Tensor], k: torch.Tensor) -> torch.Tensor:
        """R1 (arXiv 1801.04406): half the squared gradient at features, mean over samples."""
        leaves = [each.detach().requires_grad_(True) for each in features]
        grads = torch.autograd.grad(self.logits(leaves, k).sum(), leaves, create_graph=True)
        return 0.5 * torch.stack([g.flatten(1).square().sum(1).mean() for g in grads]).sum()
