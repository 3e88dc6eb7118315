"""An adapter under the names of kohya's scripts, which ComfyUI and most other tools read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft.utils.other import get_pattern_key
from torch import Tensor

__all__ = ["as_kohya"]


def as_kohya(tensors: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """Factors and alpha of each layer.

    One alpha for all: what a layer's own makes of it is part of its second factor, because
    diffusers' reader (0.42) drops alphas that differ among the layers of attention.

    Args:
        tensors: "<layer>.lora_A.weight" and "<layer>.lora_B.weight".
        config: peft's settings of the adapter.
    """
    out: dict[str, Tensor] = {}
    common, patterns = float(config.lora_alpha), dict(config.alpha_pattern or {})
    for name, value in tensors.items():
        layer, _, factor = name.partition(".lora_")
        own = float(patterns.get(get_pattern_key(list(patterns), layer), common))
        flat = f"lora_unet_{layer.replace('.', '_')}"
        if factor.startswith("A"):
            out[f"{flat}.lora_down.weight"] = value.contiguous()
            out[f"{flat}.alpha"] = value.new_tensor(common)
        else:
            out[f"{flat}.lora_up.weight"] = (value * (own / common)).contiguous()
    return out
