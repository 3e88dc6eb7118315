"""The networks of a pipeline read one by one, so that none is loaded partially without a word."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from distillbench.backbones._folder import Folder
from distillbench.backbones._layouts import Layout
from distillbench.errors import MissingWeights
from distillbench.files.source import Source

__all__ = ["fetched", "load_parts", "readable"]

# What a file may hold beside the network: a table that every text encoder makes anew.
_MADE_ANEW = ("position_ids",)


@contextmanager
def readable(what: str, place: str) -> Iterator[None]:
    """One line for whatever the libraries raise over files that they cannot read."""
    try:
        # Its newer name, dtype, would be ignored without a word by the releases before it.
        warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
        yield
    except MissingWeights:
        raise
    except Exception as error:
        reason = textwrap.shorten(str(error) or type(error).__name__, 120, placeholder=" ...")
        raise MissingWeights(
            f"no {what} in {place} ({reason})",
            hint="name a folder with the parameter `model`, or fetch the weights beforehand",
        ) from None


def fetched(pipeline: str, source: Source, variant: str) -> Path:
    """The folder of a pipeline, downloaded where the hub can be reached."""
    if source.folder is not None:
        return source.folder
    with readable(f"{pipeline} weights {source}", "the hub's local cache, and it is not reachable"):
        return Path(
            diffusers.DiffusionPipeline.download(
                source.model, revision=source.held or source.commit or None, variant=variant or None
            )
        )


def load_parts(
    path: Path, folder: Folder, layout: Layout, dtypes: Mapping[str, torch.dtype], *, device: str
) -> dict[str, torch.nn.Module]:
    """Every network of the pipeline; `dtypes` by part, and under "default".

    On the device "meta" they are outlines: shapes by their settings, and no weights are read.

    Raises:
        MissingWeights: weights are missing or are not the network's.
    """
    made: dict[str, torch.nn.Module] = {}
    for name, variant in folder.variants.items():
        kind = layout.parts[name].classes[0]
        network = getattr(diffusers, kind, None) or getattr(transformers, kind)
        if device == "meta":
            made[name] = _outline(path / name, network, dtypes.get(name, dtypes["default"]))
            continue
        made[name], info = network.from_pretrained(
            path / name, torch_dtype=dtypes.get(name, dtypes["default"]),
            variant=variant or None, output_loading_info=True, local_files_only=True,
        )  # fmt: skip
        _whole(f"{path / name}", info)
    return made


def _outline(path: Path, network: Any, dtype: torch.dtype) -> torch.nn.Module:
    with torch.device("meta"):
        if issubclass(network, diffusers.ModelMixin):
            made: torch.nn.Module = network.from_config(network.load_config(path))
        else:
            made = network(network.config_class.from_pretrained(path))
    return torch.nn.Module.to(made, dtype)  # diffusers' own warns of an outline


def _whole(name: str, info: Mapping[str, Any]) -> None:
    missing = sorted(map(str, info["missing_keys"]))
    extra = sorted(k for k in map(str, info["unexpected_keys"]) if not k.endswith(_MADE_ANEW))
    changed = sorted(str(entry[0]) for entry in info["mismatched_keys"])
    sides = {"missing": missing, "not known": extra, "of another shape": changed}
    told = [f"keys {side}: {', '.join(keys[:3])}" for side, keys in sides.items() if keys]
    if told:
        raise MissingWeights(f"weights in {name} are not the network's: {'; '.join(told)}")
