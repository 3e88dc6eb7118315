"""What a student of SDXL's size takes, reckoned on outlines: no weights, no GPU, no numbers.

    python benchmarks/outline.py [--methods lcm,dmd2,tdm] [--nets lora,copy] [--json FILE]

One sample of 1024 pixels in bfloat16, adapters of rank 64, with and without
`gradient_checkpointing`. Bytes are those of `plan --memory`. Operations (two of a multiplication
with its addition) are counted by torch at one pass of each kind, and passes at all turns of one
update, in the mean of the numbers of steps that a method may simulate. "before": adapters computed
in float32, as peft does, and DMD2's fake score with samples of its own in each of its turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import torch
from random_sd import word_tokenizer
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig

from distillbench.api import registry
from distillbench.api.method import Batch, Method
from distillbench.backbones import _lora
from distillbench.backbones._folder import Folder
from distillbench.backbones.sdxl import Sdxl, SdxlConfig
from distillbench.outlines import META, Alive
from distillbench.train.estimate import _batch, training_memory

DRAWS = 4
GIB, TERA = 2**30, 1e12
UNET: Mapping[str, Any] = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048, "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "layers_per_block": 2, "latent_channels": 4,
    "scaling_factor": 0.13025,
}  # fmt: skip
TEXT = {
    "text_encoder": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                     "num_attention_heads": 12, "projection_dim": 768},
    "text_encoder_2": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
                       "num_attention_heads": 20, "projection_dim": 1280},
}  # fmt: skip


class OutlinedSdxl(Sdxl):
    """SDXL by its settings alone: its folder holds no weights, and none are looked for."""

    Config = SdxlConfig
    name = "outlined-sdxl"

    def checked(self, path: Path) -> Folder:
        """The networks of the folder."""
        return Folder(variants=dict.fromkeys(("unet", "vae", *TEXT), ""))


def write_settings(folder: Path) -> None:
    """SDXL's settings in diffusers' format, with a tokenizer of four words."""
    with torch.device(META):
        diffusers.UNet2DConditionModel(**UNET).save_config(folder / "unet")
        diffusers.AutoencoderKL(**VAE).save_config(folder / "vae")
    diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        timestep_spacing="leading",
    ).save_config(folder / "scheduler")  # fmt: skip
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
             "scheduler": ["diffusers", "EulerDiscreteScheduler"]}  # fmt: skip
    words = type(word_tokenizer()).__name__
    for number, (name, sizes) in enumerate(TEXT.items()):
        CLIPTextConfig(vocab_size=49408, eos_token_id=2, **sizes).save_pretrained(folder / name)
        tokenizer = f"tokenizer{'_2' * number}"
        word_tokenizer().save_pretrained(folder / tokenizer)
        kind = "CLIPTextModel" + "WithProjection" * number
        parts |= {name: ["transformers", kind], tokenizer: ["transformers", words]}
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    (folder / "model_index.json").write_text(json.dumps({**index, **parts}))


# ---- as it was ------------------------------------------------------------------------------


def _in_float32(layer: Any, name: str) -> None:
    for part in (layer.lora_A, layer.lora_B):
        if name in part:
            part[name].to(torch.float32)


_once = Batch.once


def _anew(batch: Batch, name: str, make: Any) -> Any:
    return make() if name == "sample" else _once(batch, name, make)


@contextmanager
def as_before() -> Iterator[None]:
    """Adapters in float32, and no sample that serves two turns."""
    with patch.object(_lora, "compute_in_input_dtype", _in_float32), \
            patch.object(Batch, "once", _anew):  # fmt: skip
        yield


# ---- counting -------------------------------------------------------------------------------


def method_of(name: str, nets: str, backbone: str, **params: Any) -> Method:
    """A method with roles of a kind, which has no numbers."""
    own = {"nets": nets, **({"rank": 64} if nets == "lora" else {})}
    return registry.build_method(name, own, registry.build_backbone(backbone, params))


def bound(method: Method) -> Method:
    """The same on its outline, its roles made."""
    method.backbone.load(META, dtype="bfloat16")
    method.total_steps = 1000
    with torch.device(META):
        method.bind({name: method.backbone.make_net(name, spec.kind, **spec.opts)  # type: ignore[arg-type]
                     for name, spec in method.nets().items()})  # fmt: skip
    return method


def passes(method: Method) -> Counter[str]:
    """Samples that go through a network in an update, by kind of pass; of a tiny backbone."""
    found, inner = Counter[str](), method.backbone.predict

    def predict(net: Any, x: Any, *args: Any, **options: Any) -> Any:
        twice = not isinstance(scale := options.get("guidance_scale", 1.0), float) or scale != 1.0
        kind = "trained" if torch.is_grad_enabled() else "role" if net else "teacher"
        found[kind] += len(x) * (2 if twice else 1)
        return inner(net, x, *args, **options)

    with patch.object(method.backbone, "predict", predict), Alive([]):
        for draw in range(DRAWS):
            drawn = patch.object(Batch, "shared_randint", _drawn(draw))
            batches: dict[int, Batch] = {}
            seen: Counter[str] = Counter()
            for turn in method.turns(0):
                batch = batches.setdefault(seen[turn], _batch(method, 1))
                seen[turn] += 1
                with drawn, method.net[turn].active():
                    method.loss(turn, batch, 0)
    return found


def _drawn(share: int) -> Any:
    def shared_randint(batch: Batch, low: int, high: int, *stream: Any) -> int:
        return low + share * (high - low) // DRAWS

    return shared_randint


def operations(method: Method) -> dict[str, float]:
    """Of one sample in each kind of pass: teacher's, role's without gradient, and with it."""
    batch, net = _batch(method, 1), method.net[method.student]
    x = torch.empty((1, *method.backbone.latent_shape), device=META)
    t = torch.zeros(1, dtype=torch.long, device=META)
    found = {}
    for kind, role in (("teacher", None), ("role", net), ("trained", net)):
        count = FlopCounterMode(display=False)
        acting = role.active() if role else nullcontext()
        with torch.set_grad_enabled(kind == "trained"), acting, Alive([]), count:
            made = method.backbone.predict(role, x, t, batch.cond)
            if kind == "trained":
                made.raw.float().mean().backward()
        found[kind] = float(count.get_total_flops())
    return found


# ---- the table ------------------------------------------------------------------------------


def rows_of(name: str, nets: str, folder: Path, *, before: bool, costs: dict[Any, Any]) -> Any:
    """Rows of a method: without and with gradient checkpointing."""
    counted = passes(bound(method_of(name, nets, "tiny-sdxl")))
    for anew in (False, True):
        told = {"model": str(folder), "gradient_checkpointing": anew}
        memory = training_memory(
            method_of(name, nets, OutlinedSdxl.name, **told), precision="bfloat16", batch_size=1
        )
        key = (nets, anew)
        if key not in costs:
            # The network is the same for all; students of LCM take a guidance scale beside.
            costs[key] = operations(bound(method_of("tdm", nets, OutlinedSdxl.name, **told)))
        each = {kind: counted[kind] / DRAWS for kind in ("teacher", "role", "trained")}
        yield {
            "method": name, "nets": nets, "checkpointing": anew, "before": before, "passes": each,
            "operations": sum(each[kind] * costs[key][kind] for kind in each),
            "of_a_pass": costs[key], "bytes": {**vars(memory), "total": memory.total},
        }  # fmt: skip


HEAD = (
    "| method | nets | | recomputed | passes | TFLOP | weights | trained | activations | all, GiB |"
    f"\n|{'---|' * 10}"
)


def line(row: Mapping[str, Any]) -> str:
    """Of the table."""
    sizes, each = row["bytes"], row["passes"]
    own = sizes["trained"] + sizes["optimizer"]
    return " | ".join([
        f"| {row['method']}", row["nets"], "before" if row["before"] else "now",
        "yes" if row["checkpointing"] else "no",
        f"{each['teacher'] + each['role']:g} + {each['trained']:g}",
        f"{row['operations'] / TERA:.1f}",
        *(f"{size / GIB:.1f}" for size in (sizes["weights"], own, sizes["passes"], sizes["total"])),
    ]) + " |" + (f" {sizes['unknown']}" if sizes["unknown"] else "")  # fmt: skip


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--methods", default="lcm,dmd2,tdm")
    parser.add_argument("--nets", default="lora,copy")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    registry.add_plugin(__file__)
    print(HEAD, flush=True)
    rows: list[Any] = []
    with tempfile.TemporaryDirectory() as name:
        write_settings(Path(name))
        for before in (False, True):
            costs: dict[Any, Any] = {}
            for method in told.methods.split(","):
                for nets in told.nets.split(","):
                    if before and nets == "copy" and method != "dmd2":
                        continue  # nothing of it was otherwise
                    with as_before() if before else nullcontext():
                        made = rows_of(method, nets, Path(name), before=before, costs=costs)
                        for row in made:
                            rows.append(row)
                            print(line(row), flush=True)
                            if told.json:
                                told.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
