"""The whole plug-in surface of a distillation method, and the small records it speaks in.

A method holds mathematics only. The loop owns optimizers, freezing per turn, accumulation,
clipping, precision, EMA, logging, checkpoints, resume and cost accounting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from distillbench.core.lazy import torch
from distillbench.core.noise import generator
from distillbench.errors import NotSupported
from distillbench.files.places import Need

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone, Cond, Prediction
    from distillbench.api.nets import NetHandle
    from distillbench.api.published import Published
    from distillbench.api.sampler import Sampler

__all__ = ["Batch", "Losses", "Method", "NetSpec", "Optim", "check_recomputation"]


@dataclass(frozen=True)
class Optim:
    """AdamW settings of one role; `clip_norm` None leaves gradients as they are."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    eps: float = 1e-8
    clip_norm: float | None = 1.0
    warmup_steps: int = 0


@dataclass(frozen=True)
class NetSpec:
    """One trainable role a method asks for.

    Attributes:
        optim: its optimizer.
        kind: "lora" (adapter on the shared frozen base), "copy" (full copy of the teacher) or
            "head" (the module that `Method.make_head` returns).
        opts: passed on to `Backbone.make_net`.
        ema: decay of an exponential moving average kept as `NetHandle.ema`; None keeps none.
    """

    optim: Optim
    kind: Literal["lora", "copy", "head"] = "lora"
    opts: Mapping[str, Any] = field(default_factory=dict)
    ema: float | None = None


@dataclass(frozen=True)
class Losses:
    """What a turn returns: the scalar to minimise and the named scalars worth logging."""

    total: torch.Tensor
    scalars: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class Batch:
    """One micro-batch of conditions (and latents where the method needs them) with its own noise.

    Every draw comes from a generator keyed by (run seed, step, micro-batch over all processes,
    repeat of the turn) and a stream name, so a resumed run draws what the straight run would have
    drawn and two draws never share a stream by accident.

    Attributes:
        prompts: B prompts.
        cond, uncond: their encodings and the unconditional one (batch of one).
        latents: (B, *latent_shape) real latents, or None.
        latent_shape: shape of one latent.
        key: what the generators are keyed by.
        device: where draws are put.
        shared_key: what is drawn alike in all micro-batches of an update is keyed by; default: key.
        anywhere: whether a condition holds in any rank, where ranks must call the same networks
            (`train.shard`); else the condition itself. Ask it before a call that hangs on numbers.
    """

    prompts: Sequence[str]
    cond: Cond
    uncond: Cond
    latents: torch.Tensor | None
    latent_shape: tuple[int, ...]
    key: tuple[int | str, ...]
    device: torch.device | str = "cpu"
    shared_key: tuple[int | str, ...] = ()
    anywhere: Callable[[bool], bool] = bool
    _memo: dict[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.prompts)

    def rng(self, *stream: str | int) -> torch.Generator:
        """The CPU generator of a named stream; asking twice starts it again."""
        return generator(*self.key, *stream)

    def randn(self, *stream: str | int) -> torch.Tensor:
        """Standard normal (B, *latent_shape)."""
        shape = (len(self), *self.latent_shape)
        return torch.randn(shape, generator=self.rng(*stream)).to(self.device)

    def rand(self, *stream: str | int) -> torch.Tensor:
        """Uniform [0, 1) of shape (B,)."""
        return torch.rand(len(self), generator=self.rng(*stream)).to(self.device)

    def randint(self, low: int, high: int, *stream: str | int) -> torch.Tensor:
        """Integers in [low, high) of shape (B,)."""
        return torch.randint(low, high, (len(self),), generator=self.rng(*stream)).to(self.device)

    def shared_randint(self, low: int, high: int, *stream: str | int) -> int:
        """One integer in [low, high), the same for all micro-batches and ranks of an update.

        For what sets the cost of an update, so that no rank waits for another.
        """
        rng = generator(*(self.shared_key or self.key), "shared", *stream)
        return int(torch.randint(low, high, (), generator=rng))

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Compute a value at its first use in this step and keep it for the later turns."""
        if name not in self._memo:
            self._memo[name] = make()
        return self._memo[name]


class Method(ABC):
    """One distillation algorithm.

    Attributes:
        Config: its hyper-parameters; unknown keys in an experiment file are errors.
        version: raise it whenever a change may alter numbers; it is part of every key. May depend
            on the config, where a change concerns some settings alone.
        needs: {"prompts"} or {"prompts", "latents"}; may depend on the config.
        title, paper: display name, and "Name (arXiv number)".
        backbone: what it is trained and sampled on; a method that brings its own puts it here.
        base: the backbone of its row.
        student: the role that is sampled from and exported; the method without nets has none.
        denoises: whether the trained student is still a score network, and so may be a teacher.
        total_steps: steps of the training under way, set by the loop; 0 outside one.
    """

    Config: ClassVar[type[BaseModel]]
    version: int = 1
    needs: frozenset[str] = frozenset({"prompts"})
    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    student: ClassVar[str] = "student"
    denoises: ClassVar[bool] = False

    name: str = ""
    total_steps: int = 0
    net: Mapping[str, NetHandle]

    def __init__(self, config: BaseModel, backbone: Backbone) -> None:
        self.config: Any = config
        self.backbone = self.base = backbone

    # ---- known without torch ------------------------------------------------------------

    @abstractmethod
    def nets(self) -> Mapping[str, NetSpec]:
        """The trainable roles; empty for a method that trains nothing."""

    def published(self) -> Published | None:
        """Weights that others trained, of which the student is made in place of a training."""
        return None

    @property
    def has_student(self) -> bool:
        """Whether a net is sampled that was trained, here or by others; else the teacher is."""
        return bool(self.nets()) or self.published() is not None

    def requirements(self) -> Sequence[Need]:
        """What it takes beside its backbone (a package, a file), met or not; no torch."""
        return ()

    @abstractmethod
    def sampler(self, nfe: int) -> Sampler:
        """The recipe that turns noise into a sample with `nfe` network evaluations.

        Raises:
            NotSupported: this method, as configured, cannot be sampled with `nfe` evaluations.
        """

    def check_recipe(self, recipe: Sampler) -> None:
        """Refuse a recipe, the method's own or a row's, that makes no sense on its backbone.

        Raises:
            NotSupported: times that its process has not, or a sampler of another process.
        """
        kind = self.backbone.process_kind
        if kind not in recipe.processes:
            raise NotSupported(
                f"the {recipe.kind} sampler is of diffusion, backbone {self.backbone.name} is a "
                "flow model; use ode or renoise"
            )
        self.backbone.check_times([t - recipe.offset for t in recipe.timesteps])

    def turns(self, step: int) -> Sequence[str]:
        """The roles updated in this step, in order (TDM: fake, student)."""
        return tuple(self.nets())

    def trains(self, turn: str) -> Sequence[str]:
        """The roles that a turn updates by one loss; the role it is named after unless they share.

        Each has its own optimizer, and the gradients of all of them come from one backward pass.
        """
        return (turn,)

    @property
    def crosses_roles(self) -> str:
        """What in this method takes a loss's gradient through other networks than the turn's.

        Empty where nothing does. `check_recomputation` refuses it on a base that recomputes its
        activations: in backward a shared base acts as the role being trained, whatever it was.
        """
        return ""

    def warnings(self, log: Sequence[Mapping[str, float]]) -> Sequence[str]:
        """What of a training's logged scalars ("<turn>/<name>", a mapping a row) needs a warning.

        Asked for half way and at the end; told to the user and kept in the log.
        """
        return ()

    # ---- training -----------------------------------------------------------------------

    def bind(self, nets: Mapping[str, NetHandle]) -> None:
        """Receive the nets that `nets()` asked for; the backbone is loaded by now."""
        self.net = nets

    # ---- evaluating networks ------------------------------------------------------------

    def conditions(self, batch: Batch) -> Mapping[str, Any]:
        """Extra inputs that the trained roles are told in `predict`: `steps_k`, `embed_scale`."""
        return {}

    def predict(self, role: str, x: torch.Tensor, t: torch.Tensor, batch: Batch) -> Prediction:
        """The prediction of a trained role at x (B, ...) and times t (B,); never guided."""
        net = self.net[role]
        return self.backbone.predict(net, x, t, batch.cond, **self.conditions(batch))

    def teacher(
        self, x: torch.Tensor, t: torch.Tensor, batch: Batch, scale: float | torch.Tensor = 1.0
    ) -> Prediction:
        """The frozen teacher's prediction at (x, t), guided by `scale`, one or (B,); 1 = none."""
        return self.backbone.predict(
            None, x, t, batch.cond, guidance_scale=scale, uncond=batch.uncond
        )

    # ---- the algorithm ------------------------------------------------------------------

    def make_head(self, name: str) -> torch.nn.Module:
        """Build the module of a role of kind "head"."""
        raise NotImplementedError(f"{self.name} builds no head {name!r}")

    @abstractmethod
    def loss(self, turn: str, batch: Batch, step: int) -> Losses:
        """The loss of one turn on one micro-batch; only the nets it trains require gradients."""


def check_recomputation(method: Method) -> None:
    """Refuse gradients through other roles of a shared base whose activations are recomputed.

    Raises:
        NotSupported: a role is an adapter, the backbone checkpoints its layers, and the method
            `crosses_roles`.
    """
    adapters = any(spec.kind == "lora" for spec in method.nets().values())
    recomputes = getattr(method.backbone.config, "gradient_checkpointing", False)
    if method.crosses_roles and adapters and recomputes:
        raise NotSupported(
            f"{method.crosses_roles} needs gradients through other roles, which "
            "gradient_checkpointing of a shared base would compute with the wrong adapter",
            hint="set nets: copy, or gradient_checkpointing: false on the backbone",
        )
