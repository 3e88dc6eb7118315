"""A flow-matching world for tests: one Gaussian in the plane for each condition, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from distillbench.api.backbone import Backbone, Cond, Prediction
from distillbench.core.lazy import torch
from distillbench.core.parameterization import guided, x0_eps
from distillbench.world.mixture import labels_of

if TYPE_CHECKING:
    from distillbench.api.nets import NetHandle

STD = 0.5


class FlowPlane(Backbone):
    """Teacher: the exact velocity of N(mean of the label, STD^2), times shifted by 3.

    Roles are the teacher plus a small network that starts as nothing.
    """

    class Config(BaseModel, extra="forbid"):
        """No settings."""

    name = "flow-plane"
    modality = "point"
    process_kind = "flow"
    train_prompts = eval_prompts = "gmm-train"
    latent_shape = (2,)
    prediction_type = "flow"

    def revision(self) -> str:
        return "1"

    @property
    def time_shift(self) -> float:
        return 3.0

    def load(self, device: str = "cpu", *, dtype: str = "float32") -> None:
        from distillbench.core.process import NoiseProcess

        self.process = NoiseProcess.flow()

    def encode(self, prompts: Sequence[str]) -> Cond:
        labels = torch.tensor(labels_of(prompts))
        return Cond({"mean": torch.stack([labels % 3 - 1.0, labels // 3 - 1.0], 1) / 2})

    def predict(
        self, net: NetHandle | None, x_t: torch.Tensor, t: torch.Tensor, cond: Cond, *,
        guidance_scale: float | torch.Tensor = 1.0, uncond: Cond | None = None,
        end_t: torch.Tensor | None = None, steps_k: torch.Tensor | None = None,
        embed_scale: torch.Tensor | None = None,
    ) -> Prediction:  # fmt: skip
        alpha, sigma = self.process.alpha_sigma(t, x_t)
        told = {"steps_k": steps_k, "guidance": embed_scale, "end_t": end_t}

        def velocity(mean: torch.Tensor) -> torch.Tensor:
            gap = x_t - alpha * mean
            exact: torch.Tensor = (sigma - alpha * STD**2) / (
                alpha**2 * STD**2 + sigma**2
            ) * gap - mean
            if net is None:
                return exact
            extra = [told[name].float()[:, None] for name in net.conditions]  # type: ignore[union-attr]
            with net.active():
                moved: torch.Tensor = net.module(torch.cat([gap, sigma, mean, *extra], 1))
                return exact + moved

        raw = velocity(cond.tensors["mean"])
        if not (isinstance(guidance_scale, float) and guidance_scale == 1.0):
            assert uncond is not None
            raw = guided(raw, velocity(uncond.expand(len(x_t)).tensors["mean"]), guidance_scale)
        return Prediction(*x0_eps(raw, x_t, alpha, sigma, "flow"), raw)

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        return x0.detach().float()

    def training_latents(self, prompts: Sequence[str], rng: torch.Generator) -> torch.Tensor:
        mean = self.encode(prompts).tensors["mean"]
        return mean + STD * torch.randn(mean.shape, generator=rng)

    def make_net(self, name: str, kind: Literal["lora", "copy"] = "lora", **opts: Any) -> NetHandle:
        from distillbench.api.nets import NetHandle

        conditions = tuple(opts.get("conditions", ()))
        nn = torch.nn
        last = nn.Linear(32, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        first = nn.Linear(5 + len(conditions), 32)
        net = nn.Sequential(first, nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), last)
        return NetHandle(name, net, conditions=conditions)
