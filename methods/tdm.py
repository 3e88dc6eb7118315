"""TDM: trajectory distribution matching (arXiv 2503.06674)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from distillbench.api.method import Batch, Losses, Method, NetSpec
from distillbench.api.samplers import OdeSampler
from distillbench.core.lazy import torch
from distillbench.core.loss import abs_mean_normalizer, sample_mean
from distillbench.core.matching import Renoised, fake_loss, fisher_surrogate, renoised
from distillbench.core.process import CLEAN
from distillbench.core.trajectory import Trajectory, roll_out

from .settings.tdm import MatchingConfig, TDMConfig
from .shared.scores import require_trained
from .shared.segments import Segments

if TYPE_CHECKING:
    from pydantic import BaseModel

    from distillbench.api.backbone import Backbone

__all__ = ["TDM", "TDMConfig"]


class TDM(Method):
    """Data-free: in each step the fake score is updated R times, then the student.

    From z ~ N(0, I) the student's own K-step ODE gives states x_u and predictions x0 at the nodes
    u_1 > .. > u_K, without gradient. Each sample draws a node k and, in its segment, a lower end m
    and a time tau >= m. x_m is the ODE step from x_u to m, and x_tau ~ q(x_tau | x_m).

        fake     min_psi    w(tau) | f_psi(x_tau, tau) - x0 |^2                          (eq. 7)
        student  min_theta  d( x0, sg[ x0 + f_phi(x_tau, tau) - f_psi(x_tau, tau) ] )    (eq. 5, 6)

    f_phi: guided teacher; f_psi: fake score; x0 = f_theta(x_u, u), with x_u as data. So the student
    descends KL(student_tau | teacher_tau) by one step's gradient.
    """

    Config: ClassVar[type[MatchingConfig]] = TDMConfig
    title, paper = "TDM", "TDM (arXiv 2503.06674)"

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        self.segments = Segments(self.config, backbone)
        for steps in self.steps_trained():
            self.segments.check(steps, self.name)

    def nets(self) -> dict[str, NetSpec]:
        """The fake score is not clipped, as in the released code."""
        fake = self.config.role("fake", lr=self.config.fake_lr, clip=False)
        return {"fake": fake, "student": self.config.role("student", ema=self.config.ema)}

    def turns(self, step: int) -> tuple[str, ...]:
        """R times the fake score, then the student."""
        return (*self.config.fake_updates * ("fake",), "student")

    @property
    def crosses_roles(self) -> str:
        """Fisher's gradient goes through both scores."""
        return "divergence fisher" if self.config.divergence == "fisher" else ""

    def steps_trained(self) -> tuple[int, ...]:
        """Every K that a batch may be of; `steps_of` says which."""
        return (self.config.steps,)

    def steps_of(self, batch: Batch) -> int:
        """K of a batch."""
        return self.steps_trained()[0]

    def train_nodes(self, batch: Batch) -> tuple[int, ...]:
        """The nodes u_1 > .. > u_K of a batch."""
        return self.segments.nodes(self.steps_of(batch))

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """The fake score's regression, or the student's matching loss."""
        if turn == "fake":
            return self.fake_losses(batch)
        return self.student_losses(*self.state(turn, batch), batch)

    def fake_losses(self, batch: Batch) -> Losses:
        """w(tau) | f_psi(x_tau, tau) - x0 |^2."""
        config = self.config
        at, x0 = self.state("fake", batch, near=config.fake_sampling == "near_trajectory")
        f_psi = self.predict("fake", at.x_tau, at.tau, batch)
        loss, weight = fake_loss(
            self.backbone.process, f_psi.x0, f_psi.eps, at, x0,
            target=config.fake_target, weighted=config.divergence == "kl",
        )  # fmt: skip
        return Losses(loss, {"weight": weight})

    def student_losses(self, at: Renoised, x0: torch.Tensor, batch: Batch) -> Losses:
        """d( x0, sg[ x0 + f_phi - f_psi ] )."""
        config, fisher = self.config, self.config.divergence == "fisher"
        with torch.set_grad_enabled(fisher):  # Fisher's gradient goes through x_tau and the scores
            f_phi = self.teacher(at.x_tau, at.tau, batch, config.teacher_guidance).x0
            f_psi = self.predict("fake", at.x_tau, at.tau, batch).x0
        weight = 1 / abs_mean_normalizer(x0, f_phi) if config.normalizer == "dmd" else None
        if fisher:
            loss = fisher_surrogate(x0, f_phi, f_psi, weight)
        else:
            loss = config.distance(x0, (x0 + (f_phi - f_psi)).detach(), weight)
        return Losses(loss, {"gap": sample_mean((f_phi - f_psi).abs()).mean()})

    def state(self, turn: str, batch: Batch, *, near: bool = True) -> tuple[Renoised, torch.Tensor]:
        """x_tau and the x0 behind it, with gradient in the student's turn alone."""
        path, nodes = self.rollout(batch), self.train_nodes(batch)
        k = batch.randint(0, len(nodes), turn, "node")
        m, tau = self.segments.times(nodes, k, batch, turn)
        m = m if near else torch.full_like(m, CLEAN)
        x_u, x0, eps = path.at(k)
        if turn == "student":
            pred = self.predict("student", x_u, torch.tensor(nodes, device=k.device)[k], batch)
            x0, eps = pred.x0, pred.eps
        eps, noise = path.step_eps(k, m, x0, eps), batch.randn(turn, "noise")
        return renoised(self.backbone.process, x0, eps, m, tau, noise, detach=False), x0

    def rollout(self, batch: Batch) -> Trajectory:
        """The student's K-step ODE, run once for both turns of a step."""
        return batch.once("rollout", lambda: roll_out(  # type: ignore[no-any-return]
            self.backbone.process, self.config.train_solver, self.train_nodes(batch),
            lambda x, t: self.predict("student", x, t, batch), batch.randn("start"),
        ))  # fmt: skip

    def sampler(self, nfe: int) -> OdeSampler:
        """The trained nodes, or some of them."""
        trained = self.segments.nodes(self.config.steps)
        nodes = require_trained(self, self.segments.nodes(nfe), trained, nfe)
        return OdeSampler(timesteps=nodes, solver=self.config.test_solver, end="clean")
