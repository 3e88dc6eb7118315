"""DMD2: match distributions with a fast fake score, a GAN, and inputs simulated by the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from distillbench.core.grid import uniform_int
from distillbench.core.lazy import torch
from distillbench.core.loss import abs_mean_normalizer, gradient_surrogate, sample_mean
from distillbench.core.process import CLEAN
from distillbench.errors import NotSupported
from distillbench.sample.solvers import RenoiseSampler
from distillbench.train.method import Batch, Losses, Method, NetSpec

from ._adversarial import adversarial_loss, build_head, discriminator_loss, logits_of
from ._matching import check_recomputation, denoising_loss, real_and_fake, renoised
from ._nets import NetConfig

if TYPE_CHECKING:
    from distillbench.backbones.base import Backbone
    from distillbench.train.nets import NetHandle

__all__ = ["DMD2", "DMD2Config"]


class DMD2Config(NetConfig):
    """DMD2's settings.

    Published full fine-tuning: all rates 1e-5, then 5e-7 with the GAN (SD v1.5), or 5e-7 (SDXL);
    5e-5 for a student that is an adapter. Its one-step SDXL recipe (a regression first, input time
    399) is not offered.

    Attributes:
        steps: K, the input times of the student.
        guidance_scale: of the teacher, usual convention: 1.75 on SD v1.5, 8 on SDXL; the fake score
            is never guided.
        fake_updates: R, updates of the fake score for one of the student (10 on SD v1.5, 5 on
            SDXL). A step of training is one update of the student.
        fake_lr: of the fake score and the discriminator's head.
        student_input: "backward_simulation", the student's own re-noised samples, or "data", noised
            real latents, which the student never meets in sampling.
        adversarial_weight: w_g of the student's GAN loss, 0 = no GAN (1e-3 on SD v1.5, 5e-3 on
            SDXL). The GAN needs latents; a real latent goes with its own prompt.
        discriminator_weight: w_d of the GAN loss in the fake score's update.
        adversarial_features: the head reads the bottleneck of the "fake" score, which learns from
            it too, or of the frozen "teacher".
        ema: decay of an averaged student that is sampled instead of the last one.
    """

    clip_norm: PositiveFloat | None = 10.0
    steps: PositiveInt = 4
    guidance_scale: float = Field(1.75, ge=1)
    fake_updates: PositiveInt = 5
    fake_lr: PositiveFloat = 1e-4
    student_input: Literal["backward_simulation", "data"] = "backward_simulation"
    adversarial_weight: float = Field(0.0, ge=0)
    discriminator_weight: float = Field(1e-2, ge=0)
    adversarial_features: Literal["fake", "teacher"] = "fake"
    ema: float | None = Field(None, ge=0, lt=1)


class DMD2(Method):
    """Improved distribution matching distillation (arXiv 2405.14867).

    The student predicts clean samples from K noise levels. They are noised afresh to any time; a
    fake score learns theirs with plain denoising, R times as often as the student moves along
    x0_real - x0_fake, each sample divided by mean |x0 - x0_real| (eq. 3; DMD, arXiv 2311.18828).

    Where the released code updates fake score and head in one backward pass, here they take turns.
    """

    Config = DMD2Config
    title = "DMD2"
    paper = "DMD2 (arXiv 2405.14867)"

    def __init__(self, config: DMD2Config, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        if self._gan or config.student_input == "data":
            self.needs = frozenset({"prompts", "latents"})

    def nets(self) -> dict[str, NetSpec]:
        """Fake score and student, and the discriminator's head where there is a GAN."""
        config = self.config
        fake = config.role(lr=config.fake_lr)
        head = {"head": NetSpec(fake.optim, "head")} if self._gan else {}
        return {"fake": fake, **head, "student": config.role(ema=config.ema)}

    def turns(self, step: int) -> Sequence[str]:
        """R times the fake score (and the head), then the student."""
        return (
            *self.config.fake_updates * (("fake", "head") if self._gan else ("fake",)),
            "student",
        )

    def sampler(self, nfe: int) -> RenoiseSampler:
        """The trained times; fewer steps are possible where their times are among them."""
        nodes, steps = self.backbone.nodes(nfe), self.config.steps
        if not set(nodes) <= set(self.backbone.nodes(steps)):
            raise NotSupported(
                f"{self.name} trained with steps={steps} cannot be sampled with {nfe} "
                f"evaluations: times {nodes} were not trained"
            )
        return RenoiseSampler(timesteps=nodes, boundary=False)

    def bind(self, nets: Mapping[str, NetHandle]) -> None:
        """Receive the nets; refuses what would get wrong gradients."""
        super().bind(nets)
        if self._gan:
            check_recomputation(self.backbone, self.config.nets, "the GAN")

    def make_head(self, name: str) -> torch.nn.Module:
        """The discriminator's head, sized for the backbone's bottleneck."""
        return build_head(self.backbone)

    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """Denoising (and telling real from fake), or moving the student."""
        if turn == "student":
            return self._student(batch)
        return self._fake(batch) if turn == "fake" else self._head(batch)

    # ---- fake score and discriminator -----------------------------------------------------

    def _fake(self, batch: Batch) -> Losses:
        """The fake score is trained on all times, and matched on 2 % to 98 %."""
        x0, t = self._sample(batch), self._any_time(batch, "fake")
        noise = batch.randn("fake", "noise")
        loss = denoising_loss(self.backbone, self.net["fake"], x0, t, noise, batch)
        if not self._gan or self.config.adversarial_features == "teacher":
            return Losses(loss)
        told = self._told_apart(batch)
        return Losses(loss + self.config.discriminator_weight * told, {"discriminator": told})

    def _head(self, batch: Batch) -> Losses:
        told = self._told_apart(batch)
        return Losses(self.config.discriminator_weight * told)

    def _told_apart(self, batch: Batch) -> torch.Tensor:
        """Samples and latents, noised independently to any times."""
        assert batch.latents is not None, "a GAN needs real latents"
        (t_fake, x_fake), (t_real, x_real) = (
            self._noised(x0, batch, stream)
            for x0, stream in ((self._sample(batch), "gan fake"), (batch.latents, "gan real"))
        )
        return discriminator_loss(
            self._logits(x_fake, t_fake, batch), self._logits(x_real, t_real, batch)
        )

    def _sample(self, batch: Batch) -> torch.Tensor:
        """The student's clean samples for fake score and head alike, without gradient."""

        def make() -> torch.Tensor:
            with torch.no_grad():
                return self._predict(*self.student_input(batch, "fake"), batch)[0]

        return batch.once("sample", make)  # type: ignore[no-any-return]

    # ---- student --------------------------------------------------------------------------

    def _student(self, batch: Batch) -> Losses:
        config, process = self.config, self.backbone.process
        x0, eps = self._predict(*self.student_input(batch, "student"), batch)
        total = self.backbone.num_timesteps
        tau = self._time(batch, "student", total // 50, total - total // 50 + 1)
        clean = torch.full((len(batch),), CLEAN, device=batch.device)
        at = renoised(process, x0, eps, clean, tau, batch.randn("student", "noise"))
        real, fake = real_and_fake(
            self.backbone, self.net["fake"], at, batch, config.guidance_scale
        )
        loss = gradient_surrogate(x0, (fake - real) / abs_mean_normalizer(x0, real))
        scalars = {"gap": sample_mean((real - fake).abs()).mean()}
        if self._gan:
            t, x_t = self._noised(x0, batch, "gan student")
            scalars["adversarial"] = adversarial_loss(self._logits(x_t, t, batch))
            loss = loss + config.adversarial_weight * scalars["adversarial"]
        return Losses(loss, scalars)

    def student_input(self, batch: Batch, turn: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(x_t, t), (B, ...) and (B,), where the student predicts; no gradient.

        Backward simulation samples as the student is sampled, with fresh noise at each of its
        steps, up to ONE step for all samples of an update: the cost is then the same everywhere.
        """
        process, nodes = self.backbone.process, self.backbone.nodes(self.config.steps)
        x = batch.randn(turn, "start")
        if self.config.student_input == "data":
            return self._from_data(batch, turn, x)
        last = batch.shared_randint(0, len(nodes), turn, "steps")
        with torch.no_grad():
            for i in range(last):
                x0, _ = self._predict(x, self._full(batch, nodes[i]), batch)
                x = process.add_noise(x0, batch.randn(turn, "step", i), nodes[i + 1])
        return x, self._full(batch, nodes[last])

    def _from_data(
        self, batch: Batch, turn: str, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noised latents, but pure noise at the first time, as in sampling."""
        assert batch.latents is not None, "data input needs real latents"
        nodes = torch.tensor(self.backbone.nodes(self.config.steps), device=batch.device)
        k = batch.randint(0, len(nodes), turn, "node")
        x = self.backbone.process.add_noise(batch.latents, noise, nodes[k])
        return torch.where((k == 0).reshape(-1, *[1] * (x.ndim - 1)), noise, x), nodes[k]

    # ---- parts ----------------------------------------------------------------------------

    @property
    def _gan(self) -> bool:
        return bool(self.config.adversarial_weight > 0)

    def _predict(
        self, x: torch.Tensor, t: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pred = self.backbone.predict(self.net["student"], x, t, batch.cond)
        return pred.x0, pred.eps

    def _logits(self, x_t: torch.Tensor, t: torch.Tensor, batch: Batch) -> torch.Tensor:
        net = self.net["fake"] if self.config.adversarial_features == "fake" else None
        (hidden,) = self.backbone.features(net, x_t, t, batch.cond, ["mid"])
        with self.net["head"].active():
            return logits_of(self.net["head"].module, hidden)

    def _noised(
        self, x0: torch.Tensor, batch: Batch, stream: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        t = self._any_time(batch, stream)
        return t, self.backbone.process.add_noise(x0, batch.randn(stream, "noise"), t)

    def _any_time(self, batch: Batch, stream: str) -> torch.Tensor:
        return self._time(batch, stream, 0, self.backbone.num_timesteps)

    def _time(self, batch: Batch, stream: str, low: int, high: int) -> torch.Tensor:
        u = batch.rand(stream, "time")
        if self.backbone.process.kind == "flow":
            return low + u * (high - low)
        return uniform_int(u, torch.full_like(u, low).long(), torch.full_like(u, high).long())

    def _full(self, batch: Batch, t: int) -> torch.Tensor:
        return torch.full((len(batch),), t, device=batch.device)
