"""The exact world under flow matching: the same mixture, straight paths from data to noise."""

from __future__ import annotations

from distillbench.backbones.gmm import Gmm

__all__ = ["GmmFlow"]

WEIGHTS = "gmm-flow-warmstart"


class GmmFlow(Gmm):
    """The exact teacher of x_t = (1 - sigma) x0 + sigma eps, sigma = t / 1000 (arXiv 2210.02747).

    Its velocity E[eps - x0 | x_t] is closed-form, times are real and not shifted, and samples
    follow the very distribution of `gmm`, so that its metrics judge them.
    """

    name = "gmm-flow"
    process_kind = "flow"
    prediction_type = "flow"
    warm_start = WEIGHTS
