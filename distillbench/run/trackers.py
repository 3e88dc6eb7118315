"""Losses of running trainings sent to TensorBoard or Weights & Biases, through accelerate.

They only watch: a tracker that fails says so once, and the training goes on. What they show is what
`train.jsonl` holds.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from distillbench.errors import BadInput
from distillbench.files.leaves import leaves
from distillbench.plan.stage import Stage

__all__ = ["TRACKERS_VARIABLE", "Trackers", "require_trackers", "use_trackers"]

TRACKERS_VARIABLE: Final = "DISTILLBENCH_TRACKERS"
"""Names of the trackers of a run; worker processes inherit it."""
PACKAGES: Final = {"tensorboard": "tensorboard", "wandb": "wandb"}


def require_trackers(names: Sequence[str]) -> None:
    """Look for the packages of trackers. Raises BadInput with the way to get one."""
    for name in names:
        if name not in PACKAGES:
            raise BadInput(f"tracker {name!r}: there are {', '.join(PACKAGES)}")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            hint = (
                f"pip install {PACKAGES[name]}, or follow it with: distillbench logs RUN --follow"
            )
            raise BadInput(f"--{name}: {PACKAGES[name]} is not installed", hint=hint)


def use_trackers(names: Sequence[str]) -> None:
    """Have the workers that are started from now on use these, and no others."""
    os.environ[TRACKERS_VARIABLE] = ",".join(names)


class Trackers:
    """The trackers of one stage; used as a context around it.

    Args:
        results: the results folder: event files go to `<results>/<experiment>/tensorboard/`.
    """

    def __init__(self, stage: Stage, results: Path) -> None:
        asked = os.environ.get(TRACKERS_VARIABLE, "").split(",")
        self._names = [name for name in asked if name in PACKAGES] if stage.kind == "train" else []
        self._stage, self._results = stage, results
        self._open: dict[str, Any] = {}
        self._state = False
        self._failed: set[str] = set()

    def __enter__(self) -> Trackers:
        return self

    def log(self, event: Mapping[str, Any]) -> None:
        """Pass on the losses of a training's progress event; others have none."""
        losses = event.get("losses")
        for name in self._names if losses else ():
            if name not in self._failed:
                try:
                    self._tracker(name).log(dict(losses or {}), step=event["step"])
                except Exception as error:  # whatever a service or its package does
                    self._failed.add(name)
                    print(f"{name}: {type(error).__name__}: {error}; not used any more", flush=True)

    def __exit__(self, *_: object) -> None:
        for name, tracker in self._open.items():
            try:
                tracker.finish()
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {error}", flush=True)
        if self._state:  # the next training of this process may have several processes
            from accelerate.state import AcceleratorState

            AcceleratorState._reset_state(reset_partial_state=True)

    def _tracker(self, name: str) -> Any:
        """The tracker, started when it first gets something to log."""
        if name not in self._open:
            self._prepare()
            made = _MAKERS[name](self._stage, self._results)
            if hasattr(made, "start"):
                made.start()
            self._open[name] = made
            if name == "wandb":
                made.store_init_configuration(dict(leaves(self._stage.spec)))
            else:
                made.log({"spec": json.dumps(dict(self._stage.spec), sort_keys=True)}, step=0)
        return self._open[name]

    def _prepare(self) -> None:
        """Trackers write to accelerate's log, which wants to know of processes first."""
        from accelerate import PartialState

        if not PartialState._shared_state:
            PartialState(cpu=True)
            self._state = True


def _tensorboard(stage: Stage, results: Path) -> Any:
    from accelerate.tracking import TensorBoardTracker

    class Own(TensorBoardTracker):  # type: ignore[misc]
        main_process_only = False  # it is only made in the process that logs

    folder = results / (stage.options.experiment or "runs") / "tensorboard"
    return Own(_run_name(stage), logging_dir=str(folder))


def _wandb(stage: Stage, results: Path) -> Any:
    """A training that goes on after a stop goes on in its run, which has its key."""
    from accelerate.tracking import WandBTracker

    class Own(WandBTracker):  # type: ignore[misc]
        main_process_only = False

    return Own(
        stage.options.experiment or "distillbench", name=_run_name(stage), id=stage.key,
        resume="allow", dir=str(results),
    )  # fmt: skip


_MAKERS = {"tensorboard": _tensorboard, "wandb": _wandb}


def _run_name(stage: Stage) -> str:
    label = re.sub(r"[^A-Za-z0-9._=-]+", "-", stage.label)[:80].strip("-.")
    return f"{label}-{stage.key[:8]}" if label else stage.key[:8]
