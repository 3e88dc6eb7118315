"""Which settings of a pipeline's JSON files are honoured, part by part.

"Honoured" means that the value does here what it does in the library, so that a teacher is the
teacher its files describe. What a network's own class builds from its configuration counts; so does
what only tells diffusers' samplers how to step, which rows of an experiment say themselves
(`unread`, with the reason). Everything else is refused at planning.
"""

from __future__ import annotations

from distillbench.backbones._rules import (
    Rule,
    Rules,
    either,
    flag,
    listed,
    number,
    one_of,
    only,
    optional,
    text,
    unread,
    whole,
)  # fmt: skip

__all__ = [
    "AUTOENCODER", "COGVIDEOX", "FLOW_SCHEDULER", "PIXART", "SD3", "UNET", "VIDEO_AUTOENCODER",
    "VIDEO_SCHEDULER", "VP_SCHEDULER", "VP_SCHEDULERS",
]  # fmt: skip

TIMES = 1000

# ---- schedulers: the noise process is read, the steps are not --------------------------------

_STEPS = "how diffusers' sampler steps; a row's sampler says that here"
_CLIPS = "bounds pixels inside diffusers' sampler; pipelines over latents switch it off"
_UNREAD: Rules = {
    "timestep_spacing": unread(one_of("leading", "trailing", "linspace"), _STEPS),
    "steps_offset": unread(whole(0), _STEPS),
    "clip_sample": unread(flag, _CLIPS),
    "clip_sample_range": unread(number(), _CLIPS),
    "sample_max_value": unread(number(), _CLIPS),
    "dynamic_thresholding_ratio": unread(number(), _CLIPS),
    "variance_type": unread(optional(text), _STEPS),
    "final_sigmas_type": unread(one_of("zero", "sigma_min"), _STEPS),
    "interpolation_type": unread(one_of("linear", "log_linear"), _STEPS),
    "algorithm_type": unread(text, _STEPS),
    "solver_type": unread(text, _STEPS),
    "solver_order": unread(whole(), _STEPS),
    "solver_p": unread(only(None), _STEPS),
    "disable_corrector": unread(Rule(lambda v: isinstance(v, list), "a list"), _STEPS),
    "lambda_min_clipped": unread(either(number(), text), _STEPS),
    "flow_shift": unread(number(0), _STEPS),
    "time_shift_type": unread(one_of("exponential", "linear"), _STEPS),
    "original_inference_steps": unread(whole(), _STEPS),
    "timestep_scaling": unread(number(), _STEPS),
    "noise_sampler_seed": unread(optional(whole(0)), _STEPS),
    "s_noise": unread(number(), _STEPS),
} | {
    name: unread(flag, _STEPS)
    for name in (
        "skip_prk_steps", "lower_order_final", "euler_at_final", "use_karras_sigmas",
        "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "predict_x0",
        "stochastic_sampling",
    )
}  # fmt: skip

VP_SCHEDULERS = (
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler",
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "LCMScheduler", "TCDScheduler",
)  # fmt: skip
_NO_EDM = "schedules over continuous noise levels (EDM) are not read; use weights trained on betas"

_BETAS: Rules = {
    **_UNREAD,
    "num_train_timesteps": only(TIMES, "times are planned from 999 down").must(),
    "beta_start": number(0, 1).must(),
    "beta_end": number(0, 1).must(),
    "beta_schedule": one_of("linear", "scaled_linear", "squaredcos_cap_v2").must(),
    "trained_betas": optional(listed(number(0, 1), TIMES)),
    "set_alpha_to_one": flag,
    "rescale_betas_zero_snr": flag,
    "thresholding": only(False, "made for pixels, not for latents"),
    "timestep_type": only("discrete", _NO_EDM),
    "sigma_min": only(None, _NO_EDM),
    "sigma_max": only(None, _NO_EDM),
    "sigma_data": only(None, _NO_EDM),
    "sigma_schedule": only(None, _NO_EDM),
    "rho": only(None, _NO_EDM),
    "use_flow_sigmas": only(False, "a flow model belongs under sd3"),
    "use_dynamic_shifting": only(False),
    "shift_terminal": only(None),
}
VP_SCHEDULER: Rules = {
    **_BETAS,
    "prediction_type": one_of("epsilon", "v_prediction", "sample"),
    "snr_shift_scale": only(None, "a shift of the SNR belongs to cogvideox"),
}
VIDEO_SCHEDULER: Rules = {
    **_BETAS,
    "prediction_type": one_of("epsilon", "v_prediction", "sample").must(),
    "snr_shift_scale": number(0).must(),
}
FLOW_SCHEDULER: Rules = {
    **_UNREAD,
    "num_train_timesteps": only(TIMES, "times are planned from 1000 down").must(),
    "shift": number(0).must(),
    "use_dynamic_shifting": only(False, "one shift for all sizes is read"),
    "invert_sigmas": only(False),
    "shift_terminal": only(None),
    **{
        name: unread(number(), "read under use_dynamic_shifting alone, which is refused")
        for name in ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len")
    },
}

# ---- networks: their class builds what they say, as far as we call it rightly ------------------

_side = either(whole(), listed(whole(), 2))
_count = whole(1, 1000)
_one_or_each = either(_count, listed(_count))
_RATE = unread(number(-1e-9, 1), "nothing is dropped: networks run in evaluation mode")
_DOWN = listed(one_of("DownBlock2D", "CrossAttnDownBlock2D", "AttnDownBlock2D"))
_UP = listed(one_of("UpBlock2D", "CrossAttnUpBlock2D", "AttnUpBlock2D"))
_ACTIVATIONS = one_of("silu", "swish", "mish", "gelu", "relu")
_NO_CLASSES = "networks conditioned on classes are not called rightly here"
_NO_IMAGES = "networks conditioned on images are not called rightly here"

UNET: Rules = {
    "sample_size": optional(_side),
    "in_channels": whole().must(),
    "out_channels": whole().must(),
    "center_input_sample": only(False),
    "flip_sin_to_cos": flag,
    "freq_shift": number(),
    "down_block_types": _DOWN.must(),
    "mid_block_type": optional(one_of("UNetMidBlock2DCrossAttn", "UNetMidBlock2D")),
    "up_block_types": _UP.must(),
    "only_cross_attention": either(flag, listed(flag)),
    "block_out_channels": listed(whole()).must(),
    "layers_per_block": _one_or_each.must(),
    "downsample_padding": whole(0),
    "mid_block_scale_factor": number(),
    "dropout": _RATE,
    "act_fn": _ACTIVATIONS,
    "norm_num_groups": whole(),
    "norm_eps": number(0, 1),
    "cross_attention_dim": whole().must(),
    "transformer_layers_per_block": either(_one_or_each, listed(_one_or_each)),
    "reverse_transformer_layers_per_block": optional(either(_one_or_each, listed(_one_or_each))),
    "encoder_hid_dim": only(None, "text through another projection is not called rightly here"),
    "encoder_hid_dim_type": only(None, _NO_IMAGES),
    "attention_head_dim": _one_or_each.must(),
    "num_attention_heads": optional(_one_or_each),
    "dual_cross_attention": only(False),
    "use_linear_projection": flag,
    "class_embed_type": only(None, _NO_CLASSES),
    "addition_embed_type": only(None, "size conditions belong to sdxl"),
    "addition_time_embed_dim": only(None, "size conditions belong to sdxl"),
    "num_class_embeds": only(None, _NO_CLASSES),
    "upcast_attention": flag,
    "resnet_time_scale_shift": one_of("default", "scale_shift"),
    "resnet_skip_time_act": flag,
    "resnet_out_scale_factor": number(0),
    "time_embedding_type": only("positional"),
    "time_embedding_dim": optional(whole()),
    "time_embedding_act_fn": optional(_ACTIVATIONS),
    "timestep_post_act": optional(_ACTIVATIONS),
    "time_cond_proj_dim": optional(whole(2)),
    "conv_in_kernel": whole(),
    "conv_out_kernel": whole(),
    "projection_class_embeddings_input_dim": only(None, _NO_CLASSES),
    "attention_type": only("default", "boxes and the like are not passed"),
    "class_embeddings_concat": only(False, _NO_CLASSES),
    "mid_block_only_cross_attention": optional(flag),
    "cross_attention_norm": optional(one_of("layer_norm", "group_norm")),
    "addition_embed_type_num_heads": unread(whole(), "read by other added embeddings alone"),
}

_HEADS: Rules = {
    "num_attention_heads": whole().must(),
    "attention_head_dim": whole().must(),
    "num_layers": whole().must(),
    "in_channels": whole().must(),
    "out_channels": whole().must(),
    "patch_size": whole().must(),
}
SD3: Rules = {
    **_HEADS,
    "sample_size": whole().must(),
    "joint_attention_dim": whole().must(),
    "caption_projection_dim": whole().must(),
    "pooled_projection_dim": whole().must(),
    "pos_embed_max_size": whole().must(),
    "dual_attention_layers": Rule(
        lambda v: isinstance(v, list) and all(map(whole(0).fits, v)), "a list of layer numbers"
    ),
    "qk_norm": optional(one_of("rms_norm", "layer_norm")),
}
PIXART: Rules = {
    **_HEADS,
    "sample_size": whole().must(),
    "dropout": _RATE,
    "norm_num_groups": unread(whole(), "the class has no group norm"),
    "cross_attention_dim": whole().must(),
    "attention_bias": flag,
    "activation_fn": one_of("gelu-approximate", "gelu", "geglu"),
    "num_embeds_ada_norm": unread(only(TIMES), "times are embedded as numbers"),
    "upcast_attention": flag,
    "norm_type": only("ada_norm_single"),
    "norm_elementwise_affine": flag,
    "norm_eps": number(0, 1),
    "interpolation_scale": optional(number(0)),
    "use_additional_conditions": optional(flag),
    "caption_channels": whole().must(),
    "attention_type": only("default"),
    "double_self_attention": only(False),
    "only_cross_attention": only(False),
    "use_linear_projection": only(False),
    "num_vector_embeds": only(None),
}
_SIZE = unread(whole(), "the clip's size is what the backbone's parameters say")
COGVIDEOX: Rules = {
    **_HEADS,
    "flip_sin_to_cos": flag,
    "freq_shift": number(),
    "time_embed_dim": whole().must(),
    "ofs_embed_dim": only(None, _NO_IMAGES),
    "text_embed_dim": whole().must(),
    "dropout": _RATE,
    "attention_bias": flag,
    "sample_width": _SIZE,
    "sample_height": _SIZE,
    "sample_frames": _SIZE,
    "patch_size_t": only(None, "patches over time (CogVideoX 1.5) are not cut here"),
    "temporal_compression_ratio": whole(),
    "max_text_seq_length": whole().must(),
    "activation_fn": one_of("gelu-approximate", "gelu", "geglu"),
    "timestep_activation_fn": _ACTIVATIONS,
    "norm_elementwise_affine": flag,
    "norm_eps": number(0, 1),
    "spatial_interpolation_scale": number(0),
    "temporal_interpolation_scale": number(0),
    "use_rotary_positional_embeddings": flag,
    "use_learned_positional_embeddings": only(False, "they fix the clip's size"),
    "patch_bias": flag,
}

# ---- autoencoders ------------------------------------------------------------------------------

_LATENTS: Rules = {
    "in_channels": only(3),
    "out_channels": only(3),
    "block_out_channels": listed(whole()).must(),
    "layers_per_block": whole().must(),
    "latent_channels": whole().must(),
    "norm_num_groups": whole(),
    "act_fn": _ACTIVATIONS,
    "scaling_factor": number(0),
    "shift_factor": optional(number()),
    "latents_mean": optional(listed(number())),
    "latents_std": optional(listed(number(0))),
    "force_upcast": unread(flag, "the autoencoder always runs in float32"),
    "use_quant_conv": flag,
    "use_post_quant_conv": flag,
}
AUTOENCODER: Rules = {
    **_LATENTS,
    "down_block_types": listed(one_of("DownEncoderBlock2D", "AttnDownEncoderBlock2D")).must(),
    "up_block_types": listed(one_of("UpDecoderBlock2D", "AttnUpDecoderBlock2D")).must(),
    "sample_size": unread(_side, "sizes tiles, which pictures are not cut into"),
    "mid_block_add_attention": flag,
}
VIDEO_AUTOENCODER: Rules = {
    **_LATENTS,
    "down_block_types": listed(one_of("CogVideoXDownBlock3D")).must(),
    "up_block_types": listed(one_of("CogVideoXUpBlock3D")).must(),
    "norm_eps": number(0, 1),
    "temporal_compression_ratio": whole().must(),
    "sample_size": unread(_side, "sizes tiles alone"),
    "mid_block_add_attention": unread(flag, "the class has no such layer to add"),
    "sample_height": unread(whole(), "sizes tiles alone"),
    "sample_width": unread(whole(), "sizes tiles alone"),
    "invert_scale_latents": unread(flag, "read by pipelines that start from a picture"),
}
