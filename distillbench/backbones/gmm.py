"""An exact world: a conditional Gaussian mixture in the plane, whose score is closed-form.

The teacher is the exact score, so every student can be judged against exact answers within seconds
on a CPU. Eight conditions have four modes each; see `Mixture`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from distillbench.api.backbone import Backbone, Cond, Prediction
from distillbench.core.lazy import torch
from distillbench.errors import NotSupported
from distillbench.world import weights
from distillbench.world.mixture import labels_of, mixture

if TYPE_CHECKING:
    from distillbench.api.nets import NetHandle
    from distillbench.backbones._gmm import ExactMixture

__all__ = ["Gmm", "GmmConfig"]

WEIGHTS = "gmm-warmstart"


def _conditions(
    net: NetHandle, given: Mapping[str, torch.Tensor | None]
) -> dict[str, torch.Tensor]:
    values = {name: v for name, v in given.items() if name in net.conditions and v is not None}
    if missing := set(net.conditions) - set(values):
        raise NotSupported(f"net {net.name!r} needs the conditions {sorted(missing)}")
    return values


class GmmConfig(BaseModel):
    """The world has no settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Gmm(Backbone):
    """The exact teacher, and small networks warm-started from its score as students.

    Its schedule is Stable Diffusion's with a clean end. A planar network has no use for adapters,
    so a "lora" role is a full copy too and the options of adapters do not apply.
    """

    Config = GmmConfig
    name = "gmm"
    modality = "point"
    train_prompts = "gmm-train"
    eval_prompts = "gmm-eval"
    forward_mode = True
    blocks = ("layers", "shifts")
    latent_shape = (2,)
    prediction_type = "v_prediction"
    warm_start: ClassVar[str] = WEIGHTS

    exact: ExactMixture

    def revision(self) -> str:
        """Hash of the world's numbers and of the warm-start weights."""
        world = hashlib.sha256(repr(mixture()).encode()).hexdigest()
        return f"{world[:16]}-{weights.revision(self.warm_start)[:16]}"

    def load(self, device: str = "cpu", *, dtype: str = "float32") -> None:
        """Read the warm-start network; a `dtype` below float32 runs networks under autocast."""
        from distillbench.api.nets import NetHandle
        from distillbench.backbones import _gmm

        self.device, self.dtype = device, dtype
        self.exact = _gmm.ExactMixture(device)
        self.process = _gmm.process(self.process_kind)
        self._warm_start = _gmm.load_warm_start(weights.folder(self.warm_start), device)
        self._reader = NetHandle("teacher", self._warm_start)
        self._teacher: NetHandle | None = None

    @property
    def frozen(self) -> torch.nn.Module:
        """The warm-start network, whose layers stand for the exact teacher's."""
        return self._warm_start

    def encode(self, prompts: Sequence[str]) -> Cond:
        """Labels, (B,); the empty prompt is the mixture of all conditions."""
        return Cond({"label": torch.tensor(labels_of(prompts), device=self.device)})

    def predict(
        self,
        net: NetHandle | None,
        x_t: torch.Tensor,
        t: torch.Tensor,
        cond: Cond,
        *,
        guidance_scale: float | torch.Tensor = 1.0,
        uncond: Cond | None = None,
        end_t: torch.Tensor | None = None,
        steps_k: torch.Tensor | None = None,
        embed_scale: torch.Tensor | None = None,
    ) -> Prediction:
        """The exact x0 and eps for the teacher (float64 inside), a network's for a role."""
        from distillbench.backbones import _gmm

        kind, branches = self.process_kind, [cond.tensors["label"]]
        if not (isinstance(guidance_scale, (int, float)) and guidance_scale == 1):
            if uncond is None:
                raise NotSupported("guidance needs the unconditional branch")
            branches.append(uncond.expand(len(x_t)).tensors["label"])
        net = self._teacher if net is None else net
        if net is None:
            return _gmm.exact_prediction(self.exact, x_t, t, branches, guidance_scale, kind)
        values = _conditions(net, {"guidance": embed_scale, "end_t": end_t, "steps_k": steps_k})
        return _gmm.net_prediction(self.dtype, net, x_t, t, branches, guidance_scale, values, kind)

    def features(
        self,
        net: NetHandle | None,
        x_t: torch.Tensor,
        t: torch.Tensor,
        cond: Cond,
        layers: Sequence[str],
        *,
        end_t: torch.Tensor | None = None,
        steps_k: torch.Tensor | None = None,
        embed_scale: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """The hidden vector (B, width) at "mid", after the middle layer of a role's network.

        The exact teacher has no layers; for it the warm-start network is read.

        Raises:
            NotSupported: any other layer.
        """
        from distillbench.backbones import _gmm

        if unknown := sorted(set(layers) - {"mid"}):
            raise NotSupported(f"the {self.name} network has no layer {unknown[0]!r}; only mid")
        given = {"guidance": embed_scale, "end_t": end_t, "steps_k": steps_k}
        handle, values = (self._reader, {}) if net is None else (net, _conditions(net, given))
        hidden = _gmm.middle(self.dtype, handle, x_t, t, cond.tensors["label"], values)
        return [hidden for _ in layers]

    def replace_teacher(self, net: NetHandle) -> None:
        """See `Backbone.replace_teacher`; the teacher is a network then, not exact."""
        net.requires_grad_(False)
        self._warm_start = net.module  # type: ignore[assignment]
        self._teacher = self._reader = net

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        """Points are their own samples; float32 (B, 2)."""
        return x0.detach().float().cpu()

    def check_prompts(self, prompts: Sequence[str], *, latents: bool) -> None:
        """See `Backbone.check_prompts`: there are eight, and the empty one."""
        labels_of(prompts)

    def training_latents(self, prompts: Sequence[str], rng: torch.Generator) -> torch.Tensor:
        """Exact draws of each prompt's mixture."""
        return self.exact.sample(torch.tensor(labels_of(prompts)), rng).to(self.device)

    def make_net(self, name: str, kind: Literal["lora", "copy"] = "lora", **opts: Any) -> NetHandle:
        """A copy of the warm-start network, with zero-initialised embeddings of `conditions`."""
        from distillbench.backbones import _gmm

        return _gmm.make_net(name, self._warm_start, tuple(opts.get("conditions", ())))
