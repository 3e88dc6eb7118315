"""What the folder of each family holds: parts, their classes, settings and anchor weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distillbench.backbones import _honoured as honoured
from distillbench.backbones._honoured_text import CLIP, T5, TOKENIZER
from distillbench.backbones._rules import Rule, Rules, flag, one_of, only, unread, whole

__all__ = [
    "ATTENTION_AND_MLP",
    "BLOCKS",
    "BY_PIPELINE",
    "COGVIDEOX",
    "PIXART",
    "SD",
    "SD3",
    "SDXL",
    "UNET_LAYERS",
    "Component",
    "Layout",
    "Shape",
]


Shape = tuple[str | None, ...]

ATTENTION_AND_MLP = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
BLOCKS = ("transformer_blocks", "resnets")
"""Lists of blocks in the families' networks: what is compiled, or sharded, one by one."""
# The layers LCM-LoRA adapts (arXiv 2311.05556): attention, MLPs, residual convolutions, time
# projections; not the first and last convolution, not the time MLP.
UNET_LAYERS = (
    *ATTENTION_AND_MLP, "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut",
    "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
)  # fmt: skip


@dataclass(frozen=True)
class Component:
    """One folder of a pipeline.

    Attributes:
        classes: class names it may have in model_index.json; a network is loaded as the first.
        rules: settings of its JSON file that are honoured.
        anchors: weights that must be there under these names; a part without has none.
        shapes: name of a weight (".name": the end of names) -> settings that say its shape, None
            for a side that none says, "a*b" for a product; of a list, the first number counts.
        stacks: start of names before a layer's number -> the setting that counts the layers.
        file: its JSON file.
    """

    classes: tuple[str, ...]
    rules: Rules
    anchors: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    stacks: Mapping[str, str] = field(default_factory=dict)
    file: str = "config.json"


@dataclass(frozen=True)
class Layout:
    """The folder of one family.

    Attributes:
        pipelines: class names that model_index.json may state.
        parts: name -> part, all needed.
        index: further keys of model_index.json.
        default_scale: latent channels of the autoencoder whose scaling factor may be left out.
    """

    pipelines: tuple[str, ...]
    parts: Mapping[str, Component]
    index: Rules = field(default_factory=dict)
    default_scale: int | None = None


_ABSENT = Rule(lambda v: v is None or isinstance(v, list), "a part")
_INDEX: Rules = {
    name: unread(_ABSENT, "judges or reads pictures; not part of the teacher")
    for name in ("safety_checker", "feature_extractor", "image_encoder")
} | {
    "requires_safety_checker": unread(flag, "no checker is loaded"),
    "add_watermarker": unread(flag, "no watermark is drawn"),
    "requires_aesthetics_score": only(False, "the refiner is no text-to-image teacher"),
}  # fmt: skip

_UNET = (
    "conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight",
    "mid_block.resnets.0.conv1.weight",
)  # fmt: skip
_UNET_SHAPES: Mapping[str, Shape] = {
    "conv_in.weight": ("block_out_channels", "in_channels", "conv_in_kernel", "conv_in_kernel"),
    "conv_out.weight": ("out_channels", "block_out_channels", "conv_out_kernel", "conv_out_kernel"),
    ".attn2.to_k.weight": (None, "cross_attention_dim"),
    "time_embedding.cond_proj.weight": (None, "time_cond_proj_dim"),
    "add_embedding.linear_1.weight": (None, "projection_class_embeddings_input_dim"),
}
_RESNETS = {"down_blocks.0.resnets.": "layers_per_block", "down_blocks.": "block_out_channels"}
_BLOCKS = {"transformer_blocks.": "num_layers"}
_WIDTH = "num_attention_heads*attention_head_dim"


def _scheduler(rules: Rules, *classes: str) -> Component:
    rules = {**rules, "_class_name": one_of(*classes)}
    return Component(classes, rules, file="scheduler_config.json")


def _network(
    name: str, rules: Rules, anchors: tuple[str, ...], shapes: Mapping[str, Shape],
    stacks: Mapping[str, str], *older: str,
) -> Component:  # fmt: skip
    rules = {**rules, "_class_name": one_of(name, *older)}
    return Component((name, *older), rules, anchors, shapes, stacks)


def _autoencoder(name: str, rules: Rules, convolution: str) -> Component:
    shapes: dict[str, Shape] = {
        f"encoder.conv_in{convolution}.weight": ("block_out_channels", "in_channels"),
        f"decoder.conv_in{convolution}.weight": (None, "latent_channels"),
    }
    stacks = {f"encoder.{start}": key for start, key in _RESNETS.items()}
    return _network(name, rules, tuple(shapes), shapes, stacks)


def _transformer(
    name: str, rules: Rules, stem: str, shapes: Mapping[str, Shape], *older: str
) -> Component:
    shapes = {
        f"{stem}.proj.weight": (_WIDTH, "in_channels", "patch_size", "patch_size"),
        "proj_out.weight": ("patch_size*patch_size*out_channels", _WIDTH),
        **shapes,
    }
    return _network(name, rules, tuple(shapes), shapes, _BLOCKS, *older)


_vae = _autoencoder("AutoencoderKL", honoured.AUTOENCODER, "")
_vp = _scheduler(honoured.VP_SCHEDULER, *honoured.VP_SCHEDULERS)
_CLIP_SHAPES: Mapping[str, Shape] = {
    "embeddings.token_embedding.weight": ("vocab_size", "hidden_size"),
    "embeddings.position_embedding.weight": ("max_position_embeddings", "hidden_size"),
    ".mlp.fc1.weight": ("intermediate_size", "hidden_size"),
}
_CLIP = ("embeddings.token_embedding.weight",)
_LAYERS = {"encoder.layers.": "num_hidden_layers"}
_clip = Component(("CLIPTextModel",), CLIP, _CLIP, _CLIP_SHAPES, _LAYERS)
_projected = Component(
    ("CLIPTextModelWithProjection",), {**CLIP, "projection_dim": whole().must()},
    ("text_projection.weight", *_CLIP),
    {**_CLIP_SHAPES, "text_projection.weight": ("projection_dim", "hidden_size")}, _LAYERS,
)  # fmt: skip
_t5 = Component(
    ("T5EncoderModel",), T5, ("encoder.block.0.layer.0.SelfAttention.q.weight",),
    {
        "shared.weight": ("vocab_size", "d_model"),
        ".SelfAttention.q.weight": ("num_heads*d_kv", "d_model"),
        ".relative_attention_bias.weight": ("relative_attention_num_buckets", "num_heads"),
        ".DenseReluDense.wi.weight": ("d_ff", "d_model"),
        ".DenseReluDense.wi_0.weight": ("d_ff", "d_model"),
    },
    {"encoder.block.": "num_layers"},
)  # fmt: skip
_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
_clip_words = Component(
    ("CLIPTokenizer", "CLIPTokenizerFast", *_TOKENIZERS),
    {**TOKENIZER, "model_max_length": whole(3).must()}, file="tokenizer_config.json",
)  # fmt: skip
_t5_words = Component(
    ("T5Tokenizer", "T5TokenizerFast", *_TOKENIZERS), TOKENIZER, file="tokenizer_config.json"
)

SD = Layout(
    ("StableDiffusionPipeline", "LatentConsistencyModelPipeline"),
    {
        "scheduler": _vp,
        "unet": _network("UNet2DConditionModel", honoured.UNET, _UNET, _UNET_SHAPES, _RESNETS),
        "vae": _vae,
        "text_encoder": _clip,
        "tokenizer": _clip_words,
    },
    _INDEX,
    default_scale=4,
)
_XL_UNET: Rules = {
    **honoured.UNET,
    "addition_embed_type": only("text_time", "size conditions are always passed").must(),
    "addition_time_embed_dim": whole().must(),
    "projection_class_embeddings_input_dim": whole().must(),
}
_XL_ANCHORS = (*_UNET, "add_embedding.linear_1.weight")
SDXL = Layout(
    ("StableDiffusionXLPipeline",),
    {
        "scheduler": _vp,
        "unet": _network("UNet2DConditionModel", _XL_UNET, _XL_ANCHORS, _UNET_SHAPES, _RESNETS),
        "vae": _vae,
        "text_encoder": _clip,
        "text_encoder_2": _projected,
        "tokenizer": _clip_words,
        "tokenizer_2": _clip_words,
    },
    {**_INDEX, "force_zeros_for_empty_prompt": flag},
)
SD3 = Layout(
    ("StableDiffusion3Pipeline",),
    {
        "scheduler": _scheduler(
            honoured.FLOW_SCHEDULER, "FlowMatchEulerDiscreteScheduler",
            "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler",
        ),
        "transformer": _transformer(
            "SD3Transformer2DModel", honoured.SD3, "pos_embed",
            {
                "context_embedder.weight": ("caption_projection_dim", "joint_attention_dim"),
                "time_text_embed.text_embedder.linear_1.weight": (_WIDTH, "pooled_projection_dim"),
            },
        ),
        "vae": _vae,
        "text_encoder": _projected,
        "text_encoder_2": _projected,
        "text_encoder_3": _t5,
        "tokenizer": _clip_words,
        "tokenizer_2": _clip_words,
        "tokenizer_3": _t5_words,
    },
    _INDEX,
)  # fmt: skip
PIXART = Layout(
    ("PixArtAlphaPipeline",),
    {
        "scheduler": _vp,
        "transformer": _transformer(
            "PixArtTransformer2DModel", honoured.PIXART, "pos_embed",
            {
                "caption_projection.linear_1.weight": (_WIDTH, "caption_channels"),
                "adaln_single.linear.weight": (None, _WIDTH),
            },
            "Transformer2DModel",
        ),
        "vae": _vae,
        "text_encoder": _t5,
        "tokenizer": _t5_words,
    },
    _INDEX,
    default_scale=4,
)  # fmt: skip
COGVIDEOX = Layout(
    ("CogVideoXPipeline",),
    {
        "scheduler": _scheduler(
            honoured.VIDEO_SCHEDULER, "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"
        ),
        "transformer": _transformer(
            "CogVideoXTransformer3DModel", honoured.COGVIDEOX, "patch_embed",
            {
                "patch_embed.text_proj.weight": (_WIDTH, "text_embed_dim"),
                "time_embedding.linear_1.weight": ("time_embed_dim", _WIDTH),
            },
        ),
        "vae": _autoencoder("AutoencoderKLCogVideoX", honoured.VIDEO_AUTOENCODER, ".conv"),
        "text_encoder": _t5,
        "tokenizer": _t5_words,
    },
    _INDEX,
)  # fmt: skip
BY_PIPELINE = {
    name: family
    for family, layout in {
        "sd": SD, "sdxl": SDXL, "sd3": SD3, "pixart": PIXART, "cogvideox": COGVIDEOX
    }.items()
    for name in layout.pipelines
}  # fmt: skip
