"""How much memory sampling takes, reckoned before it starts: a network call and a decoding.

The sampler itself makes the first call of the network on an outline, with the batch, guidance and
conditions that it would have; every later call is as large. Then the latents of the batch are
decoded, in the autoencoder's own chunks of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from distillbench.api.backbone import Backbone, Prediction
from distillbench.api.method import Method
from distillbench.api.sampler import Sampler
from distillbench.outlines import META, Alive, Memory, bytes_of, kernels, tensors_of
from distillbench.sample.generate import BoundDenoiser, SampleWork, new_net
from distillbench.student.files import put_on, steer
from distillbench.student.placed import AS_TRAINED, Placed

__all__ = ["sampling_memory"]


class _Seen(Exception):
    """The network was called once."""


def sampling_memory(
    method: Method, sampler: Sampler, *, precision: str, batch_size: int,
    on: Backbone | None = None, placed: Placed = AS_TRAINED,
) -> Memory:  # fmt: skip
    """Reckon sampling of a method's student, or of the teacher where it has none.

    Args:
        method: on its backbone, neither of them loaded yet.
        sampler: its recipe.
        precision: that of the training, in which networks are loaded.
        batch_size: samples of a network call.
        on: the backbone that the student is carried over to.
        placed: the adapters of others that are put on the network, which leave nothing beside it,
            and what steers it; all of it is on this disk.
    """
    loaded = _load([method.backbone] if on is None else [*_base(method), on], precision)
    backbone = on or method.backbone
    adding = Alive(loaded)
    with adding:
        put_on(backbone, placed.adapters)
    with torch.device(META):
        net = new_net(method, backbone)
    if net is not None:
        loaded += [*net.parameters(), *net.module.parameters(), *net.module.buffers()]
    steer(backbone, net, placed.steers)
    loaded += tensors_of(backbone)
    work = SampleWork(sampler, [""] * batch_size, 0, batch_size)
    x = torch.empty((batch_size, *backbone.latent_shape), device=META)

    def call() -> None:
        denoise = BoundDenoiser(backbone, net, work, work.prompts)
        denoise.steer_by(_blank(backbone, placed, batch_size))

        def once(x_t: Tensor, t: Tensor, **more: Any) -> Prediction:
            denoise(x_t, t, **more)
            raise _Seen

        process = backbone.process_of(net)
        sampler.sample(once, x, process, lambda step: torch.empty_like(x))

    turns = {"the network": call, "decoding": lambda: backbone.decode(x)}
    return _largest(turns, [*loaded, x], bytes_of(loaded), _apart(method), adding.peak)


def _blank(backbone: Backbone, placed: Placed, count: int) -> list[list[Image.Image]]:
    """A picture a sample for each of what steers, of the samples' size."""
    height, width = backbone.image_size() or (1, 1)
    return [[Image.new("RGB", (width, height))] * count for _ in placed.steers]


def _base(method: Method) -> list[Backbone]:
    """The teacher's own network, which a full copy is compared with when it is carried over."""
    spec = method.nets().get(method.student)
    return [method.backbone] if spec is not None and spec.kind == "copy" else []


def _load(backbones: Iterable[Backbone], precision: str) -> list[Tensor]:
    loaded = []
    for backbone in backbones:
        backbone.load(META, dtype=precision)
        loaded += tensors_of(backbone)
    return loaded


def _apart(method: Method) -> str:
    """What is not in the sum."""
    published = method.published()
    if published is None or published.kind in ("pipeline", "lora"):
        return ""
    return "published weights are not in it"


def _largest(
    turns: dict[str, Callable[[], Any]], there: list[Tensor], weights: int, unknown: str,
    adding: int,
) -> Memory:  # fmt: skip
    """Bytes of the turn that takes most; `adding` are those of putting adapters on."""
    most, found = adding, "adapters" if adding else ""
    for name, run in turns.items():
        tally = Alive(there)
        try:
            with torch.no_grad(), kernels(), tally:
                run()
        except _Seen:
            pass
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            unknown = f"{name}: {' '.join(str(error).split())[:100]}"
        if tally.peak > most:
            most, found = tally.peak, name
    return Memory(weights, 0, 0, most, found, unknown)
