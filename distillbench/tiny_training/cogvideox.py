"""tiny-cogvideox: a CogVideoXPipeline, its transformer trained by v-prediction on moving scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor
from transformers import T5EncoderModel

from distillbench.tiny_training import bank, shared, video
from distillbench.tiny_training.denoise import Family, velocity_of, zeroed
from distillbench.tiny_training.towers import LENGTH, T5_WIDTH
from distillbench.world.clips import FRAMES, clip_batch

__all__ = ["FAMILY", "build", "build_scheduler"]


def build(*, layers: int = 4, heads: int = 3, patch: int = 1) -> CogVideoXTransformer3DModel:
    """The untrained transformer over 3x8x8 latents."""
    net = CogVideoXTransformer3DModel(
        num_attention_heads=heads,
        attention_head_dim=32,
        in_channels=video.CHANNELS,
        out_channels=video.CHANNELS,
        time_embed_dim=96,
        text_embed_dim=T5_WIDTH,
        num_layers=layers,
        sample_width=shared.SIDE,
        sample_height=shared.SIDE,
        sample_frames=FRAMES,
        patch_size=patch,
        temporal_compression_ratio=video.FRAMES_BY_LATENT,
        max_text_seq_length=LENGTH,
    )
    zeroed(net, ".norm1.linear", ".norm2.linear", "norm_out.linear", "proj_out")
    return net


def build_scheduler() -> CogVideoXDDIMScheduler:
    """CogVideoX's schedule (arXiv 2408.06072): shifted to noise, no signal at the last time."""
    return CogVideoXDDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0,
    )


def assemble(out: Path, transformer: Any) -> CogVideoXPipeline:
    """The trained parts of `out` round a denoiser."""
    folder = shared.need(out / "tiny-cogvideox" / "vae", "video-vae")
    return CogVideoXPipeline(
        tokenizer=shared.tokenizer(out),
        text_encoder=shared.part(out, "text-t5", T5EncoderModel),
        vae=AutoencoderKLCogVideoX.from_pretrained(folder).eval().requires_grad_(False),
        transformer=transformer,
        scheduler=build_scheduler(),
    )


def condition(pipe: Any, ids: Tensor) -> dict[str, Any]:
    """T5's tokens, padding seen like words."""
    return {"encoder_hidden_states": pipe.text_encoder(ids[:, :LENGTH])[0]}


def clips(pipe: Any) -> bank.Maker:
    """Encoded clips of the training stream, frames before channels as the transformer has them."""
    vae = pipe.vae

    def make(part: int) -> tuple[Tensor, Sequence[str]]:
        frames, captions = clip_batch(bank.SEED, part, bank.PART)
        mean = vae.encode(video.to_clips(frames, str(vae.device))).latent_dist.mean
        return mean.transpose(1, 2) * vae.config.scaling_factor, captions

    return make


FAMILY: Final = Family(
    name="tiny-cogvideox",
    job="cogvideox",
    needs=("text", "text-t5", "inception", "video-vae"),
    build=build,
    assemble=assemble,
    condition=condition,
    steps=16_000,
    batch=32,
    muon_lr=6e-3,
    mixed=True,
    noise=velocity_of(build_scheduler().alphas_cumprod),
    bank="latents-video",
    shards=4,
    encoded=clips,
)
