"""Small plug-ins without torch: what planning sees of methods, metrics and a backbone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from distillbench.api.backbone import Backbone
from distillbench.api.method import Method, NetSpec, Optim
from distillbench.api.metric import Metric, MetricInfo
from distillbench.api.sampler import Sampler
from distillbench.api.samplers import SAMPLERS
from distillbench.errors import NotSupported
from distillbench.files.renamed import renamed


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FakeSampler(Sampler):
    kind: Literal["fake"] = "fake"
    solver: Literal["plain", "fancy"] = "plain"

    def sample(self, *args: Any) -> Any:
        raise NotImplementedError


SAMPLERS["fake"] = FakeSampler


class FakeTeacher(Method):
    class Config(Strict):
        guidance_scale: float = Field(2.0, ge=1)

    name = "fake-teacher"
    title = "Fake teacher"

    def nets(self) -> dict[str, NetSpec]:
        return {}

    def sampler(self, nfe: int) -> Sampler:
        return FakeSampler(
            timesteps=self.backbone.nodes(nfe), guidance_scale=self.config.guidance_scale
        )

    def loss(self, *args: Any) -> Any:
        raise NotImplementedError


class FakeStudent(FakeTeacher):
    class Config(Strict):
        steps: Annotated[int, renamed("depth", note="K of the paper")] = Field(4, gt=0)
        eta: float = 0.5
        loss: Annotated[Literal["huber", "mse"], renamed(l2="mse")] = "huber"
        embed: bool = False

    name = "fake-student"
    title = "FS"

    def nets(self) -> dict[str, NetSpec]:
        return {"student": NetSpec(Optim(lr=1e-3)), "fake": NetSpec(Optim(lr=1e-3))}

    def sampler(self, nfe: int) -> Sampler:
        if nfe > self.config.steps:
            raise NotSupported(f"FS with steps={self.config.steps} has no {nfe}-step sampler")
        scale = 7.0 if self.config.embed else None
        return FakeSampler(timesteps=self.backbone.nodes(nfe), embed_scale=scale)


class FakeReal(FakeStudent):
    """Trains on real latents."""

    name = "fake-real"
    title = "FR"
    needs = frozenset({"prompts", "latents"})


class FakeTuned(FakeStudent):
    """Its student is still a teacher."""

    name = "fake-tuned"
    title = "FT"
    denoises = True


class FakePoints(Backbone):
    class Config(Strict):
        width: int = 8

    name = "fake-points"
    modality = "point"
    train_prompts = "gmm-train"
    eval_prompts = "gmm-eval"
    latent_shape = (2,)
    prediction_type = "epsilon"

    def revision(self) -> str:
        return "r1"

    def load(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    encode = decode = predict = make_net = load  # type: ignore[assignment]


class FakeImages(FakePoints):
    """Encodes images and has no prompts of its own."""

    name = "fake-images"
    modality = "image"
    train_prompts = ""
    eval_prompts = ""

    def encode_images(self, images: Any) -> Any:
        raise NotImplementedError


class FakeSpread(Metric):
    class Config(Strict):
        k: int = 3

    name = "fake-spread"
    info = MetricInfo("Spread", higher_is_better=True, modality=frozenset({"point", "image"}))

    def score(self, *args: Any) -> Any:
        raise NotImplementedError


class FakeDistance(FakeSpread):
    name = "fake-distance"
    info = MetricInfo(
        "Distance",
        higher_is_better=False,
        modality=frozenset({"point", "image"}),
        needs_reference=True,
        per_sample=False,
    )


class FakeSharp(FakeSpread):
    """Images only."""

    name = "fake-sharp"
    info = MetricInfo("Sharp", higher_is_better=True)
