"""What a student is sampled with beside its own weights: another base, adapters, ControlNets.

A sample stage, `sample`, `export` and the Python door all ask for it here, so that a row of an
experiment and a command give the same pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillbench.api.prompts import PromptSet
from distillbench.api.published import Published
from distillbench.api.steering import Made, Steer
from distillbench.data.prompts import load_prompts
from distillbench.data.steering import steering_pictures
from distillbench.errors import BadInput
from distillbench.specs.ontop import ControlSpec, ImagePromptSpec, OnTopSpec
from distillbench.specs.stages import BackboneSpec
from distillbench.specs.stored import Told
from distillbench.store.runs import placed_part

__all__ = ["AS_TRAINED", "Placed"]

KINDS = ("control", "image_prompts")


@dataclass(frozen=True)
class Placed:
    """The default is the student as it was trained.

    Attributes:
        on: another backbone that it is carried over to: name, params, revision.
        onto: folder of a training of the same backbone that it is carried over to.
        adapters: LoRAs of others that are added to whatever is sampled.
        steers: ControlNets and IP-Adapters.
        prompts, n: name of the prompt set, and the number of its samples, that the pictures of
            `steers` are of; "" takes them as being of the prompts that are asked for.
        spec: the fields of a sample's spec that it was made of.
    """

    on: Mapping[str, Any] | None = None
    onto: Path | None = None
    adapters: tuple[Published, ...] = ()
    steers: tuple[Steer, ...] = ()
    prompts: str = field(default="", compare=False)
    n: int = field(default=0, compare=False)
    spec: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, spec: Mapping[str, Any], told: Mapping[str, Any], runs: Path) -> Placed:
        """What a sample stage says of it.

        Args:
            spec: of the stage, or no more than the fields `stages.PLACED` of it.
            told: what the stage is told beside it: where weights lie.
            runs: the folder that trainings lie in.

        Raises:
            BadInput: these are no fields of this version.
        """
        where = Told.model_validate(dict(told))
        there, onto = spec.get("sample_on"), spec.get("onto")
        on = None
        if there is not None:
            its = BackboneSpec.read(there, of="sample_on").plain()
            on = {**its, "params": {**its["params"], **where.settings.get("sample_on", {})}}
        on_top = [OnTopSpec.read(given, of="adapters") for given in spec.get("adapters", ())]
        return cls(
            on,
            None if onto is None else runs / onto,
            tuple(
                Published(place, "lora", its.scale, "", its.weights)
                for place, its in zip(where.adapters, on_top, strict=True)
            ),
            tuple(_steers(spec, where.places)),
            where.prompts if "control" in spec or "image_prompts" in spec else "",
            where.n,
            placed_part(spec),
        )

    def __bool__(self) -> bool:
        """Whether anything is else than as it was trained."""
        return self != AS_TRAINED

    def pictures(self, prompts: Sequence[str]) -> list[tuple[Path, ...]]:
        """For each of `steers` the picture of each prompt.

        Raises:
            BadInput: prompts have none, or files cannot be read.
        """
        if not self.steers:
            return []
        known = load_prompts(self.prompts) if self.prompts else None
        if known is not None and set(prompts) <= set(known.prompts):
            return [_of_set(steer.images, known, self.n, prompts) for steer in self.steers]
        asked = PromptSet("asked", tuple(prompts), ("",) * len(prompts))
        found = [steering_pictures(Path(s.images), asked, len(prompts)) for s in self.steers]
        return [tuple(one.of(i) for i in range(len(prompts))) for one in found]

    def planned_pictures(self, prompts: PromptSet, n: int) -> list[tuple[Path, ...]]:
        """The same for all samples of a stage.

        Raises:
            BadInput: pictures are others than those that were planned with.
        """
        planned = [its["images"] for kind in KINDS for its in self.spec.get(kind, ())]
        found = [steering_pictures(Path(steer.images), prompts, n) for steer in self.steers]
        for steer, now, before in zip(self.steers, found, planned, strict=True):
            if now.sha256 != before:
                raise BadInput(
                    f"{steer.images}: not the pictures that this run was planned with",
                    hint="plan again, and leave them as they are meanwhile",
                )
        return [tuple(one.of(i) for i in range(n)) for one in found]

    @property
    def whole(self) -> bool:
        """Whether the base is one that nobody else has, so that no adapter carries the student."""
        return self.onto is not None or bool(self.adapters)


AS_TRAINED = Placed()


def _of_set(images: str, known: PromptSet, n: int, prompts: Sequence[str]) -> tuple[Path, ...]:
    """The pictures of prompts of a set; of one that stands there twice the first."""
    found, places = steering_pictures(Path(images), known, n or len(known)), dict[str, Path]()
    for i, prompt in enumerate(known.prompts[: n or len(known)]):
        places.setdefault(prompt, found.of(i))
    if lacking := [prompt for prompt in prompts if prompt not in places]:
        raise BadInput(
            f"{images}: no picture for the prompt {lacking[0]!r}, which the row did not sample",
            hint="name pictures of your own prompts with `images`",
        )
    return tuple(places[prompt] for prompt in prompts)


def _steers(
    spec: Mapping[str, Any], places: Mapping[str, Sequence[Mapping[str, str]]]
) -> Iterator[Steer]:
    """ControlNets before IP-Adapters, each with the place of its files."""
    for raw, at in zip(spec.get("control", ()), places.get("control", ()), strict=True):
        its = ControlSpec.read(raw, of="control")
        weights = Published(at["weights"], "network", sha256=_pinned(its.weights))
        made = Made(its.make, its.low, its.high)
        yield Steer("control", weights, at["images"], its.scale, made)
    prompts = places.get("image_prompts", ())
    for raw, at in zip(spec.get("image_prompts", ()), prompts, strict=True):
        given = ImagePromptSpec.read(raw, of="image_prompts")
        weights = Published(at["weights"], "network", sha256=_pinned(given.weights))
        encoder = Published(at["encoder"], "pipeline", sha256=_pinned(given.encoder))
        yield Steer("image_prompts", weights, at["images"], given.scale, encoder=encoder)


def _pinned(identity: str) -> str:
    return "" if identity.startswith("missing:") else identity
