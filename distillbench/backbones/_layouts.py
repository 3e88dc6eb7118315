"""What the folder of each family holds: parts, their classes, settings and anchor weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distillbench.backbones import _honoured as honoured
from distillbench.backbones._honoured_text import CLIP, T5, TOKENIZER
from distillbench.backbones._rules import Rule, Rules, flag, one_of, only, unread, whole

__all__ = ["BY_PIPELINE", "COGVIDEOX", "PIXART", "SD", "SD3", "SDXL", "Layout", "Part"]


@dataclass(frozen=True)
class Part:
    """One folder of a pipeline.

    Attributes:
        classes: class names it may have in model_index.json; a network is loaded as the first.
        rules: settings of its JSON file that are honoured.
        anchors: weights that must be there under these names; a part without has none.
        file: its JSON file.
    """

    classes: tuple[str, ...]
    rules: Rules
    anchors: tuple[str, ...] = ()
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
    parts: Mapping[str, Part]
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
_AUTOENCODER = ("encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
_CLIP = ("embeddings.token_embedding.weight",)


def _scheduler(rules: Rules, *classes: str) -> Part:
    rules = {**rules, "_class_name": one_of(*classes)}
    return Part(classes, rules, file="scheduler_config.json")


def _network(name: str, rules: Rules, anchors: tuple[str, ...], *older: str) -> Part:
    return Part((name, *older), {**rules, "_class_name": one_of(name, *older)}, anchors)


_vae = _network("AutoencoderKL", honoured.AUTOENCODER, _AUTOENCODER)
_vp = _scheduler(honoured.VP_SCHEDULER, *honoured.VP_SCHEDULERS)
_clip = Part(("CLIPTextModel",), CLIP, _CLIP)
_projected = Part(
    ("CLIPTextModelWithProjection",), {**CLIP, "projection_dim": whole().must()},
    ("text_projection.weight", *_CLIP),
)  # fmt: skip
_t5 = Part(("T5EncoderModel",), T5, ("encoder.block.0.layer.0.SelfAttention.q.weight",))
_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
_clip_words = Part(
    ("CLIPTokenizer", "CLIPTokenizerFast", *_TOKENIZERS),
    {**TOKENIZER, "model_max_length": whole(3).must()}, file="tokenizer_config.json",
)  # fmt: skip
_t5_words = Part(
    ("T5Tokenizer", "T5TokenizerFast", *_TOKENIZERS), TOKENIZER, file="tokenizer_config.json"
)

SD = Layout(
    ("StableDiffusionPipeline", "LatentConsistencyModelPipeline"),
    {
        "scheduler": _vp,
        "unet": _network("UNet2DConditionModel", honoured.UNET, _UNET),
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
SDXL = Layout(
    ("StableDiffusionXLPipeline",),
    {
        "scheduler": _vp,
        "unet": _network(
            "UNet2DConditionModel", _XL_UNET, (*_UNET, "add_embedding.linear_1.weight")
        ),
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
        "transformer": _network(
            "SD3Transformer2DModel", honoured.SD3,
            ("pos_embed.proj.weight", "context_embedder.weight", "proj_out.weight",
             "time_text_embed.timestep_embedder.linear_1.weight"),
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
        "transformer": _network(
            "PixArtTransformer2DModel", honoured.PIXART,
            ("pos_embed.proj.weight", "caption_projection.linear_1.weight", "proj_out.weight",
             "adaln_single.linear.weight"),
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
        "transformer": _network(
            "CogVideoXTransformer3DModel", honoured.COGVIDEOX,
            ("patch_embed.proj.weight", "patch_embed.text_proj.weight", "proj_out.weight",
             "time_embedding.linear_1.weight"),
        ),
        "vae": _network(
            "AutoencoderKLCogVideoX", honoured.VIDEO_AUTOENCODER,
            ("encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight"),
        ),
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
