"""What ICNet's published checkpoint holds: names and shapes, told from its header without torch.

Its names are short for the network's parts: `b1` and `b2` are the detail and the context branch,
whose first part is the stem and the first stage of a ResNet-18, `slam` is an attention, `up1` and
`up2` bring the branches together, `to_score_f` and `head` make the score, `to_map` the map.
"""

from __future__ import annotations

from pathlib import Path

from distillbench.files.pickles import tensors_of_pickle
from distillbench.files.weight_files import Tensors, tensors_of

__all__ = ["CONTEXT", "DETAIL", "HIDDEN", "JOINED", "JOINT_GRID", "mistaken", "ours", "published"]

DETAIL = (32, 32)
CONTEXT = (32, 32, 16, 8)
"""Sides of the grids that a branch's attentions read, one after each of its ResNet stages."""
WIDTHS = (64, 64, 128, 256, 512)  # channels after the stem and after each stage
JOINED = 256  # channels that each branch brings
JOINT_GRID = 32
HIDDEN = 512
BRANCHES = {"b1": ("detail", DETAIL), "b2": ("context", CONTEXT)}
RENAMED = {
    "up1.conv.": "detail_out.0.", "up1.bn.": "detail_out.1.",
    "up2.conv.": "context_out.0.", "up2.bn.": "context_out.1.",
    "to_score_f.conv.": "joint.0.", "to_score_f.bn.": "joint.1.",
    "to_score_f_slam.linear.": "attention.weigh.", "head.": "head.",
}  # fmt: skip
"""Beginning of a published name -> of that in `score.complexity.ICNet`; the branches' apart."""


def published() -> Tensors:
    """Name -> shape of each tensor, those of the map among them."""
    both = 2 * JOINED
    found = _conv("up1.conv", WIDTHS[len(DETAIL)], JOINED) | _norm("up1.bn", JOINED)
    found |= _conv("up2.conv", WIDTHS[len(CONTEXT)], JOINED) | _norm("up2.bn", JOINED)
    for head in ("to_map_f", "to_score_f"):
        found |= _conv(f"{head}.conv", both, both, 3) | _norm(f"{head}.bn", both)
        found |= _attention(f"{head}_slam", JOINT_GRID)
    found |= _conv("to_map.to_map.0", both, 1)
    found |= _linear("head.0", both, HIDDEN) | _linear("head.2", HIDDEN, 1)
    for branch, (_, grids) in BRANCHES.items():
        found |= _conv(f"{branch}_1.0", 3, WIDTHS[0], 7, bias=False)
        found |= _norm(f"{branch}_1.1", WIDTHS[0])
        for stage, grid in enumerate(grids, 1):
            found |= _stage(_place(branch, stage), WIDTHS[stage - 1], WIDTHS[stage])
            found |= _attention(f"{branch}_{stage}_slam", grid)
    return found


def ours(name: str) -> str:
    """A published name as the network here has it; "" for what the map alone needs."""
    for branch, (word, grids) in BRANCHES.items():
        named = {f"{branch}_1.{part}.": f"{word}.stem.{part}." for part in range(2)}
        for stage in range(1, len(grids) + 1):
            named[f"{branch}_{stage}_slam.linear."] = f"{word}.attentions.{stage - 1}.weigh."
            named[f"{_place(branch, stage)}."] = f"{word}.stages.{stage - 1}."
        for start, other in named.items():
            if name.startswith(start):
                return other + name.removeprefix(start)
    renamed = (new + name.removeprefix(old) for old, new in RENAMED.items() if name.startswith(old))
    return next(renamed, "")


def mistaken(file: Path) -> str:
    """Why a file is no checkpoint of ICNet, in one line; "" where it is one.

    Nothing in it is run. A "state_dict" inside and a "module." before every name are allowed.
    """
    try:
        found = tensors_of(file) if file.suffix == ".safetensors" else tensors_of_pickle(file)
    except (OSError, ValueError) as error:
        return f"{file} is no checkpoint of ICNet: {error}"
    if found and all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): shape for name, shape in found.items()}
    wanted = published()
    what = [
        *(f"lacks {name}" for name in wanted if name not in found),
        *(f"has {name}" for name in found if name not in wanted),
        *(f"has {name} of shape {_text(found[name])}, not {_text(shape)}"
          for name, shape in wanted.items() if found.get(name, shape) != shape),
    ]  # fmt: skip
    more = f", and {len(what) - 1} more" if len(what) > 1 else ""
    return f"{file} is no checkpoint of ICNet: it {what[0]}{more}" if what else ""


def _place(branch: str, stage: int) -> str:
    """Where a stage of the ResNet lies: the first behind the stem, the others alone."""
    return f"{branch}_1.4" if stage == 1 else f"{branch}_{stage}"


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _stage(name: str, inputs: int, outputs: int) -> Tensors:
    """A stage of two residual blocks, the first of which may change the channels."""
    found: Tensors = {}
    for block, width in enumerate((inputs, outputs)):
        for layer, before in ((1, width), (2, outputs)):
            found |= _conv(f"{name}.{block}.conv{layer}", before, outputs, 3, bias=False)
            found |= _norm(f"{name}.{block}.bn{layer}", outputs)
    if inputs != outputs:
        found |= _conv(f"{name}.0.downsample.0", inputs, outputs, bias=False)
        found |= _norm(f"{name}.0.downsample.1", outputs)
    return found


def _attention(name: str, grid: int) -> Tensors:
    return _linear(f"{name}.linear.0", grid**2, HIDDEN) | _linear(f"{name}.linear.2", HIDDEN, 1)


def _conv(name: str, inputs: int, outputs: int, side: int = 1, *, bias: bool = True) -> Tensors:
    own: Tensors = {f"{name}.bias": (outputs,)} if bias else {}
    return {f"{name}.weight": (outputs, inputs, side, side)} | own


def _linear(name: str, inputs: int, outputs: int) -> Tensors:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, channels: int) -> Tensors:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}
