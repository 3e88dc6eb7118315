"""TDM-unify: one student for several numbers of steps, told which it is taking."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, PositiveInt

from distillbench.core.lazy import torch
from distillbench.core.loss import squared_error
from distillbench.errors import NotSupported
from distillbench.sample.solvers import OdeSampler
from distillbench.train.method import Batch, Losses, NetSpec

from ._discriminator import Adversarial, GanConfig, Noised
from ._tdm_config import MatchingConfig
from .tdm import TDM

__all__ = ["TDMUnify", "TDMUnifyConfig"]


def _distinct(steps: tuple[int, ...]) -> tuple[int, ...]:
    if not steps or len(set(steps)) < len(steps):
        raise ValueError("steps_support must name at least one number of steps, each once")
    return steps


class TDMUnifyConfig(MatchingConfig, GanConfig):
    """TDM's settings, those of a GAN (TDM-unify-GAN), and what is varied over the steps.

    Head and weights of the paper's GAN are unpublished. Ours is DMD2's, so on latents of its size
    its weights are where to start: `adversarial_weight` 1e-3 to 5e-3.

    Attributes:
        steps_support: the numbers of steps K, drawn uniformly, one for all samples of an update.
        condition: tell student and fake score K, through an embedding that starts at zero; without,
            the shared fake score sees the mixture of all K's samples (eq. 9). One K alone is
            never told. How K enters the networks is our choice; the paper does not say.
        surrogate: move the predictions by the pseudo-Huber surrogate, as `loss` says. False takes
            the squared error to the moved prediction, with the normaliser; that is our reading of
            the ablation in table 5, as the paper does not say what takes the surrogate's place.
    """

    steps_support: Annotated[tuple[PositiveInt, ...], AfterValidator(_distinct)] = (1, 2, 4)
    condition: bool = True
    surrogate: bool = True


class TDMUnify(Adversarial, TDM):
    """TDM over several K at once (arXiv 2503.06674, sampling-steps-aware objective).

    With a GAN (our reading; the paper gives no details) DMD2's head tells the student's re-noised
    states x_tau of K steps from latents noised to the same tau. On the fake score's features it is
    told K as that is; on the teacher's it is not.
    """

    Config = TDMUnifyConfig
    title = "TDM-unify"
    paper = "TDM (arXiv 2503.06674)"

    def nets(self) -> dict[str, NetSpec]:
        """As TDM's, conditioned on K, and the head of a GAN."""
        config, names = self.config, ("steps_k",) if self._conditioned else ()
        fake = config.role(lr=config.fake_lr, clip=False, conditions=names)
        student = config.role(ema=config.ema, conditions=names)
        return self.with_head({"fake": fake, "student": student})

    def sampler(self, nfe: int) -> OdeSampler:
        """K = nfe, told to the student."""
        support = self.config.steps_support
        if nfe not in support:
            known = ", ".join(map(str, support))
            raise NotSupported(
                f"{self.name} trained with steps_support={known} cannot be sampled with {nfe} "
                "evaluations"
            )
        steps_k = nfe if self._conditioned else None
        solver = self.config.test_solver
        return OdeSampler(
            timesteps=self.segments.nodes(nfe), solver=solver, end="clean", steps_k=steps_k
        )

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """TDM's, and the GAN's where there is one."""
        if turn == "head":
            return self.head_losses(batch)
        if turn == "fake":
            return self.with_discriminator(super().loss(turn, batch, step), batch)
        at, x0 = self.student_state(batch)
        return self.with_adversary(self.matching(at, x0, batch), (at.x_tau, at.tau), batch)

    def fake_and_real(self, batch: Batch) -> tuple[Noised, Noised]:
        """The student's re-noised states, and latents noised to the same times."""
        assert batch.latents is not None, "a GAN needs real latents"
        at, _ = self.fake_state(batch, near=True)
        noise = batch.randn("gan real", "noise")
        real = self.backbone.process.add_noise(batch.latents, noise, at.tau)
        return (at.x_tau, at.tau), (real, at.tau)

    def steps_trained(self) -> tuple[int, ...]:
        """The support."""
        support: tuple[int, ...] = self.config.steps_support
        return support

    def train_nodes(self, batch: Batch) -> tuple[int, ...]:
        """Nodes of the K drawn for this batch."""
        return self.segments.nodes(self._steps(batch))

    def conditions(self, batch: Batch) -> dict[str, Any]:
        """K, (B,), where it is told."""
        if not self._conditioned:
            return {}
        return {"steps_k": torch.full((len(batch),), self._steps(batch), device=batch.device)}

    def distance(
        self, x0: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """TDM's, or the squared error where the surrogate is switched off."""
        if self.config.surrogate:
            return super().distance(x0, target, weight)
        return squared_error(x0, target, weight)

    @property
    def _conditioned(self) -> bool:
        return self.config.condition and len(self.config.steps_support) > 1

    def _steps(self, batch: Batch) -> int:
        # A stream of its own: with one K in the support all else is drawn as TDM draws it.
        support: tuple[int, ...] = self.config.steps_support
        return support[batch.shared_randint(0, len(support), "steps")]
