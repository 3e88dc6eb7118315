"""Random pipelines of a few thousand weights, one of each family, saved as real folders."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distillbench.api import registry
from distillbench.api.backbone import Backbone
from distillbench.api.method import NetSpec, Optim
from distillbench.api.nets import NetHandle
from distillbench.core.noise import sample_noise
from distillbench.student import files as export

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "blue", "car", "square", "video"]
FAMILIES = ("sd", "sdxl", "sd3", "pixart", "cogvideox")


def tokenizer(length: int = 8) -> Any:
    """A word-level tokenizer over `WORDS`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=length, pad_token="<pad>", bos_token="<start>",
        eos_token="<end>", unk_token="<unk>",
    )  # fmt: skip


def _clip(projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=8, projection_dim=16, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _t5(width: int = 16) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=len(WORDS), d_model=width, d_kv=8, d_ff=16,
                                   num_layers=1, num_heads=2))  # fmt: skip


def _vae(**extra: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
        layers_per_block=1, sample_size=16, **extra,
    )  # fmt: skip


def _unet(**extra: Any) -> Any:
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 1,
        "cross_attention_dim": 16, "attention_head_dim": 2, "norm_num_groups": 4,
    }  # fmt: skip
    return UNet2DConditionModel(**(settings | extra))


def _scheduler(**extra: Any) -> Any:
    from diffusers import DDIMScheduler

    settings: dict[str, Any] = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False, "timestep_spacing": "trailing",
    }  # fmt: skip
    return DDIMScheduler(**(settings | extra))


def _sd() -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=_vae(), text_encoder=_clip(), tokenizer=tokenizer(), unet=_unet(),
        scheduler=_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def _sdxl() -> Any:
    from diffusers import StableDiffusionXLPipeline

    unet = _unet(
        cross_attention_dim=32, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=_vae(), text_encoder=_clip(), text_encoder_2=_clip(projected=True),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), unet=unet, scheduler=_scheduler(),
        add_watermarker=False,
    )  # fmt: skip


def _sd3() -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=3, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16,
        pooled_projection_dim=32, out_channels=4, pos_embed_max_size=8,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(shift_factor=0.1), text_encoder=_clip(projected=True), tokenizer=tokenizer(),
        text_encoder_2=_clip(projected=True), tokenizer_2=tokenizer(), text_encoder_3=_t5(32),
        tokenizer_3=tokenizer(),
    )  # fmt: skip


def _pixart() -> Any:
    from diffusers import PixArtAlphaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2,
        cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=16,
        use_additional_conditions=False,
    )  # fmt: skip
    return PixArtAlphaPipeline(
        tokenizer=tokenizer(), text_encoder=_t5(), vae=_vae(), transformer=transformer,
        scheduler=_scheduler(
            beta_schedule="linear", beta_start=1e-4, beta_end=0.02, set_alpha_to_one=True
        ),
    )  # fmt: skip


def _cogvideox() -> Any:
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4,
        time_embed_dim=8, text_embed_dim=16, num_layers=2, sample_width=8, sample_height=8,
        sample_frames=9, patch_size=2, max_text_seq_length=8,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4, sample_height=64, sample_width=64,
    )  # fmt: skip
    return CogVideoXPipeline(
        tokenizer=tokenizer(), text_encoder=_t5(), vae=vae, transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=3.0
        ),
    )  # fmt: skip


MAKERS: dict[str, Callable[[], Any]] = {
    "sd": _sd, "sdxl": _sdxl, "sd3": _sd3, "pixart": _pixart, "cogvideox": _cogvideox
}  # fmt: skip
PARAMS: dict[str, dict[str, Any]] = {
    "sd3": {"text_length": 8}, "pixart": {"text_length": 8},
    "cogvideox": {"frames": 9, "height": 64, "width": 64}
}  # fmt: skip


def jitter(module: torch.nn.Module) -> None:
    """Move every weight off its initial value: several start at zero and would hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family -> folder of a random pipeline, made on first use."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            torch.manual_seed(sum(map(ord, family)))
            pipe = MAKERS[family]()
            jitter(getattr(pipe, "unet", None) or pipe.transformer)
            made[family] = tmp_path_factory.mktemp(family)
            pipe.save_pretrained(made[family])
        return made[family]

    return make


@pytest.fixture(scope="session")
def build(folders: Callable[[str], Path]) -> Callable[..., Backbone]:
    """Family (and settings) -> a newly loaded backbone."""

    def make(family: str, *, dtype: str = "float32", **params: Any) -> Backbone:
        settings = {"model": str(folders(family)), **PARAMS.get(family, {}), **params}
        backbone = registry.build_backbone(family, settings)
        backbone.load(dtype=dtype)
        return backbone

    return make


@pytest.fixture(scope="session")
def ready(build: Callable[..., Backbone]) -> Callable[[str], Backbone]:
    """Family -> a loaded backbone that all tests share; make no roles on it."""
    return functools.cache(build)


@pytest.fixture(params=FAMILIES)
def shared(request: pytest.FixtureRequest, ready: Callable[[str], Backbone]) -> Backbone:
    """Each family's shared backbone in turn."""
    return ready(request.param)


@pytest.fixture(params=FAMILIES)
def loaded(request: pytest.FixtureRequest, build: Callable[..., Backbone]) -> Backbone:
    """Each family in turn, newly loaded."""
    return build(request.param)


# ---- trained students ------------------------------------------------------------------

RENOISE = {"kind": "renoise", "timesteps": [999], "guidance_scale": 1.0, "embed_scale": None,
           "steps_k": None, "boundary": False}  # fmt: skip


class Finished:
    """A training's output folder with a student whose every weight was moved."""

    def __init__(self, backbone: Any, root: Path, kind: Any, opts: dict[str, Any],
                 sampler: dict[str, Any], teacher: str | None = None) -> None:  # fmt: skip
        self.backbone, self.root = backbone, root
        self.net: NetHandle = backbone.make_net("student", kind, **opts)
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        root.mkdir()
        export.write_student(root, self.net, NetSpec(Optim(1e-4), kind, opts))
        record = {
            "default": sampler, "method": {"name": "dmd2", "params": {}}, "precision": "float32",
            "backbone": {"name": backbone.name, "params": dict(backbone.config)},
            "teacher": teacher,
        }  # fmt: skip
        (root / "recipe.json").write_text(json.dumps(record))

    def raw(self, **extra: Any) -> torch.Tensor:
        return self.predict(**extra).raw

    def predict(self, **extra: Any) -> Any:
        x, t, cond = self.inputs()
        with torch.no_grad():
            return self.backbone.predict(self.net, x, t, cond, **extra)

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor, Any]:
        rng = torch.Generator().manual_seed(0)
        x = torch.randn(1, *self.backbone.latent_shape, generator=rng)
        return x, torch.tensor([999]), self.backbone.encode(["a red car"])

    def call(self, module: torch.nn.Module) -> torch.Tensor:
        """Our way of calling a foreign network of this family."""
        x, t, cond = self.inputs()
        with torch.no_grad():
            output: torch.Tensor = self.backbone._forward(module, x, t, cond.tensors)
        return output


@pytest.fixture
def trained() -> type[Finished]:
    """Makes the output folder of a training: see `Finished`."""
    return Finished


@pytest.fixture
def finish(build: Callable[..., Any], tmp_path: Path) -> Callable[..., Finished]:
    def make(family: str, kind: str = "lora", sampler: Any = None, **opts: Any) -> Finished:
        return Finished(build(family), tmp_path / "run", kind, opts, sampler or RENOISE)

    return make


# ---- stock pipelines -------------------------------------------------------------------


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, int], None]:
    """Let pipelines and schedulers draw what our samplers draw, in the next call of one."""

    def begin(backbone: Any, number: int) -> None:
        calls = iter(["start", *(f"step {i}" for i in range(100))])

        def drawn(*_: Any, dtype: Any = None, **__: Any) -> torch.Tensor:
            noise = sample_noise(0, range(number), backbone.latent_shape, next(calls))
            return noise.to(dtype)

        for name, module in list(sys.modules.items()):
            theirs = name.startswith(("diffusers.pipelines.", "diffusers.schedulers."))
            if theirs and hasattr(module, "randn_tensor"):
                monkeypatch.setattr(module, "randn_tensor", drawn)

    return begin
