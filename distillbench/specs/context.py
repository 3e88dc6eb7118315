"""What a stage is told beside its spec: where it runs, whom it tells, what changes no number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, PositiveInt

from distillbench.specs.record import Record

__all__ = ["PluginRole", "Progress", "Runtime", "StageContext"]

PluginRole = Literal["backbone", "method", "metric", "sample_on"]
Progress = Callable[[Mapping[str, Any]], None]


class Runtime(Record):
    """Settings of a stage that change no number, and so are in no key.

    Attributes:
        threads: CPU threads; fixed, as sums depend on them.
        experiment: the experiment that planned it.
        settings: role -> settings of its plug-in that decide nothing, such as where weights lie.
        save_every: updates between checkpoints.
        lineage: key of the whole training whose checkpoints it continues; "" is its own.
        prompts: name of its prompt set, or path of the file.
        images: folder of its training images.
        samples: folder of samples that were made elsewhere.
        adapters: where LoRAs of others lie, in the order of the spec.
        places: the same of ControlNets and IP-Adapters: kind -> one each of `weights`, `images`
            and `encoder`.
    """

    threads: PositiveInt = 1
    experiment: str = ""
    settings: dict[PluginRole, dict[str, Any]] = Field(default_factory=dict)
    save_every: PositiveInt = 200
    lineage: str = ""
    prompts: str = ""
    images: str = ""
    samples: str = ""
    adapters: list[str] = Field(default_factory=list)
    places: dict[str, list[dict[str, str]]] = Field(default_factory=dict)


def _tell_nobody(event: Mapping[str, Any]) -> None:
    """Progress that nobody waits for."""


@dataclass(frozen=True)
class StageContext:
    """What a stage function is given beside its spec and its folders.

    Attributes:
        device: where networks run.
        progress: gets an event as work goes by; `{"note": text}` is for the user.
        should_stop: polled; a stage that is asked to stop raises Interrupted.
        runtime: settings that change no number.
    """

    device: str = "cpu"
    progress: Progress = _tell_nobody
    should_stop: Callable[[], bool] = lambda: False
    runtime: Runtime = field(default_factory=Runtime)
