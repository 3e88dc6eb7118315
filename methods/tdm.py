"""TDM: match the student's trajectory to the teacher's at every node of a few-step ODE sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from distillbench.core.lazy import torch
from distillbench.core.loss import abs_mean_normalizer, pseudo_huber, sample_mean, squared_error
from distillbench.core.matching import Renoised, fisher_surrogate, renoised
from distillbench.core.process import CLEAN
from distillbench.core.trajectory import Trajectory, roll_out
from distillbench.errors import NotSupported
from distillbench.sample.solvers import OdeSampler
from distillbench.train.method import Batch, Losses, Method, NetSpec

from ._matching import check_recomputation, fake_loss, real_and_fake
from ._segments import Segments
from ._tdm_config import MatchingConfig, TDMConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distillbench.backbones.base import Backbone
    from distillbench.train.nets import NetHandle

__all__ = ["TDM"]


class TDM(Method):
    """Trajectory distribution matching (arXiv 2503.06674): data-free, fake score then student.

    The student's K-step ODE states x_m are re-noised to x_tau inside their segment; a fake score
    follows the law of x_tau and the student descends KL(student_tau | teacher_tau) (eq. 5, 6). Only
    one ODE step is back-propagated, as x_u is detached.
    """

    Config: ClassVar[type[MatchingConfig]] = TDMConfig
    title = "TDM"
    paper = "TDM (arXiv 2503.06674)"

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        self.segments = Segments(self.config, backbone)
        for steps in self.steps_trained():
            self.segments.check(steps, self.name)

    def nets(self) -> dict[str, NetSpec]:
        """The fake score is not clipped, as in the released code."""
        config = self.config
        return {
            "fake": config.role(lr=config.fake_lr, clip=False),
            "student": config.role(ema=config.ema),
        }

    def sampler(self, nfe: int) -> OdeSampler:
        """The trained nodes; fewer steps are possible where their nodes are among them."""
        nodes = self.segments.nodes(nfe)
        if not set(nodes) <= set(self.segments.nodes(self.config.steps)):
            raise NotSupported(
                f"{self.name} trained with steps={self.config.steps} cannot be sampled with "
                f"{nfe} evaluations: times {nodes} were not trained"
            )
        return OdeSampler(timesteps=nodes, solver=self.config.test_solver, end="clean")

    def bind(self, nets: Mapping[str, NetHandle]) -> None:
        """Receive the nets; refuses what would get wrong gradients."""
        super().bind(nets)
        if self.config.divergence == "fisher":
            check_recomputation(self.backbone, self.config.nets, "divergence fisher")

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """The fake score's regression, or the student's matching loss."""
        return self._fake(batch) if turn == "fake" else self._student(batch)

    # ---- hooks of variants ----------------------------------------------------------------

    def steps_trained(self) -> tuple[int, ...]:
        """Every K that a batch may be of."""
        return (self.config.steps,)

    def train_nodes(self, batch: Batch) -> tuple[int, ...]:
        """Input times u_{K-1} > .. > u_0 of this batch's rollout."""
        return self.segments.nodes(self.config.steps)

    def conditions(self, batch: Batch) -> dict[str, Any]:
        """Extra inputs of the student and the fake score."""
        return {}

    def distance(
        self, x0: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """From predictions to where they should move."""
        config = self.config
        if config.loss == "mse":
            return squared_error(x0, target, weight)
        return pseudo_huber(x0, target, config.huber_c, form=config.huber_form, weight=weight)

    # ---- the algorithm --------------------------------------------------------------------

    def _fake(self, batch: Batch) -> Losses:
        at, x0 = self.fake_state(batch)
        loss, weight = fake_loss(
            self.backbone, self.net["fake"], at, x0, batch, target=self.config.fake_target,
            weighted=self.config.divergence == "kl", conditions=self.conditions(batch),
        )  # fmt: skip
        return Losses(loss, {"weight": weight})

    def fake_state(self, batch: Batch, *, near: bool = False) -> tuple[Renoised, torch.Tensor]:
        """What the fake score learns from: re-noised states, and the predictions behind them.

        `near` draws them near the trajectory, as the student's are, whatever `fake_sampling` says.
        """
        k = self._draw_node(batch, "fake")
        state = self.rollout(batch).at(k)  # already predicted: no further student forward
        m, tau = self.segments.times(self.train_nodes(batch), k, batch, "fake")
        if self.config.fake_sampling == "clean" and not near:
            m = torch.full_like(m, CLEAN)
        eps = self._step_eps(batch, k, m, *state)
        noise = batch.randn("fake", "noise")
        return renoised(self.backbone.process, state[1], eps, m, tau, noise), state[1]

    def _student(self, batch: Batch) -> Losses:
        return self.matching(*self.student_state(batch), batch)

    def student_state(self, batch: Batch) -> tuple[Renoised, torch.Tensor]:
        """Re-noised state and prediction of the one step with gradient, which reaches x_tau too."""
        k = self._draw_node(batch, "student")
        x_u, _, _ = self.rollout(batch).at(k)
        m, tau = self.segments.times(self.train_nodes(batch), k, batch, "student")
        pred = self._predict(x_u, self._node_times(batch)[k], batch)
        eps = self._step_eps(batch, k, m, x_u, pred.x0, pred.eps)
        noise = batch.randn("student", "noise")
        at = renoised(self.backbone.process, pred.x0, eps, m, tau, noise, detach=False)
        return at, pred.x0

    def matching(self, at: Renoised, x0: torch.Tensor, batch: Batch) -> Losses:
        """Move predictions along the difference of the scores at x_tau (data, but for Fisher's)."""
        config, fisher = self.config, self.config.divergence == "fisher"
        real, fake = real_and_fake(
            self.backbone, self.net["fake"], at, batch, config.guidance_scale, grad=fisher,
            **self.conditions(batch),
        )  # fmt: skip
        weight = 1 / abs_mean_normalizer(x0, real) if config.normalizer == "dmd" else None
        if fisher:
            loss = fisher_surrogate(x0, real, fake, weight)
        else:
            loss = self.distance(x0, (x0 + (real - fake)).detach(), weight)
        return Losses(loss, {"gap": sample_mean((real - fake).abs()).mean()})

    def rollout(self, batch: Batch) -> Trajectory:
        """The student's K-step trajectory without gradient, computed once a step."""
        return batch.once("rollout", lambda: self._roll(batch))  # type: ignore[no-any-return]

    def _roll(self, batch: Batch) -> Trajectory:
        return roll_out(
            self.backbone.process, self.config.train_solver, self.train_nodes(batch),
            lambda x, t: self._predict(x, t, batch), batch.randn("start"),
        )  # fmt: skip

    def _step_eps(
        self, batch: Batch, k: torch.Tensor, m: torch.Tensor, *state: torch.Tensor
    ) -> torch.Tensor:
        return self.rollout(batch).step_eps(k, m, *state[1:])

    def _predict(self, x: torch.Tensor, t: torch.Tensor, batch: Batch) -> Any:
        return self.backbone.predict(
            self.net["student"], x, t, batch.cond, **self.conditions(batch)
        )

    def _draw_node(self, batch: Batch, turn: str) -> torch.Tensor:
        return batch.randint(0, len(self.train_nodes(batch)), turn, "node")

    def _node_times(self, batch: Batch) -> torch.Tensor:
        return torch.tensor(self.train_nodes(batch), device=batch.device)
