"""What updates, samples and scores take on this machine, kept beside the results; then hours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distillbench.errors import BadInput, DistillbenchError
from distillbench.files.io import read_json, write_json
from distillbench.plan.devices import device_name
from distillbench.plan.identity import content_key
from distillbench.plan.provenance import package_versions
from distillbench.plan.stage import Plan, Stage, lineage
from distillbench.specs.stages import Kind, SampledSpec, SampleSpec, ScoreSpec, TrainSpec

__all__ = ["FILE", "Calibration", "Pace", "calibrate", "hours_line", "read_calibration"]

FILE = "calibration.json"
_KINDS: Mapping[Kind, str] = {"train": "training", "sample": "sampling", "score": "scoring"}
_ALIKE = ("batch_size", "accumulate", "precision")
_SAMPLED = (
    "backbone", "method", "sampler", "batch_size", "sample_on", "control", "image_prompts",
)  # fmt: skip
_STEERED = {kind: {"__all__": {"images", "scale"}} for kind in ("control", "image_prompts")}
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pace(_Kept):
    """One kind of training, sampling or scoring.

    Attributes:
        label: of a stage that it was measured with.
        seconds: of an update in one process, or of a sample.
        updates: so many, or so many samples, were measured.
        peak_memory_bytes: of the device.
    """

    label: str
    seconds: Positive
    updates: int
    peak_memory_bytes: int


class Calibration(_Kept):
    """Measured on one device.

    Attributes:
        device: its name.
        versions: package -> version.
        paces: digest of what decides the cost of an update or a sample -> how long one takes.
    """

    device: str
    versions: dict[str, str]
    paces: dict[str, Pace] = Field(default_factory=dict)


def read_calibration(path: Path) -> Calibration:
    """A calibration file. Raises BadInput where it is none."""
    try:
        return Calibration.model_validate(read_json(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "all of it"
        what = f"{path}: no calibration ({where}: {error.errors()[0]['msg']})"
        raise BadInput(what, hint="`distillbench calibrate FILE` makes one") from None
    except DistillbenchError as error:
        raise BadInput(error.line, hint="`distillbench calibrate FILE` makes one") from None


def calibrate(
    plan: Plan, path: Path, *, device: str, updates: int, tell: Callable[[str], None]
) -> Calibration:
    """Measure each kind of stage of a plan, one after another, each in a process of its own.

    What was measured earlier on the same device with the same packages is kept. The file is
    written after each, so that an interruption loses none.

    Raises:
        BadInput: a stage cannot be measured.
    """
    here = Calibration(device=device_name(device != "cpu"), versions=dict(package_versions()))
    if path.exists():
        known = read_calibration(path)
        if (known.device, known.versions) == (here.device, here.versions):
            here = known
        else:
            tell(f"{path}: of {known.device} or of other packages; begun anew")
    for digest, stage in _kinds(plan).items():
        if digest in here.paces:
            tell(f"known  {stage.name}: {here.paces[digest].seconds:.3g} s {_unit(stage)}")
            continue
        found = _measured(plan, stage, device, updates)
        here = here.model_copy(update={"paces": {**here.paces, digest: found}})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, here.model_dump(mode="json"))
        tell(f"timed  {stage.name}: {found.seconds:.3g} s {_unit(stage)} of {found.updates}")
    return here


def _kinds(plan: Plan) -> dict[str, Stage]:
    """Digest of each kind of stage -> one of it: trainings, then samplings, then scorings."""
    found: dict[str, Stage] = {}
    stages = plan.stages.values()
    for stage in [s for kind in _KINDS for s in stages if s.kind == kind]:
        if digest := _digest(plan, stage):
            found.setdefault(digest, stage)
    return found


def _digest(plan: Plan, stage: Stage) -> str:
    """Of what decides what an update or a sample costs; "" for what is not timed."""
    spec, parts = stage.record, dict[str, Any]()
    if isinstance(spec, TrainSpec) and spec.trains:
        train = spec.train.model_dump(mode="json", include=set(_ALIKE))
        parts = {"backbone": spec.backbone.plain(), "method": spec.method.plain(), "train": train}
    elif isinstance(spec, SampleSpec):
        parts = spec.model_dump(mode="json", include=set(_SAMPLED), exclude=_STEERED)
        parts["precision"] = _precision(plan, spec)
    elif isinstance(spec, ScoreSpec) and isinstance(plan.stages[spec.sample].record, SampleSpec):
        sampled = plan.stages[spec.sample].read(SampleSpec)
        parts = {
            "metric": spec.metric.plain(),
            "of": (sampled.sample_on or sampled.backbone).plain(),
        }
    else:
        return ""
    return content_key({**parts, "settings": {r: dict(s) for r, s in _settings(stage).items()}})


def _precision(plan: Plan, spec: SampleSpec) -> str:
    """Of the networks: that of the training."""
    return plan.stages[spec.train].read(TrainSpec).train.precision


def _settings(stage: Stage) -> Mapping[str, Mapping[str, Any]]:
    """How its networks are run (checkpointing), without where their files lie."""
    told = stage.options.settings.get("backbone", {})
    return {"backbone": {n: v for n, v in told.items() if isinstance(v, bool)}}


def _unit(stage: Stage) -> str:
    return "an update" if stage.kind == "train" else "a sample"


def _beside(plan: Plan, stage: Stage) -> dict[str, Any]:
    """What is to be known of the stages that it stands on."""
    spec = stage.record
    if isinstance(spec, SampleSpec):
        return {"precision": _precision(plan, spec)}
    if isinstance(spec, ScoreSpec):
        sampled = plan.stages[spec.sample]
        return {"sample": sampled.spec, "beside": sampled.runtime}
    return {}


def _measured(plan: Plan, stage: Stage, device: str, updates: int) -> Pace:
    told = {"kind": stage.kind, "spec": stage.spec, "runtime": stage.runtime, "device": device,
            "updates": updates, "beside": _beside(plan, stage)}  # fmt: skip
    command = [sys.executable, "-c", "from distillbench.run.pace import main; main()"]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        found = {"error": (done.stderr.strip().splitlines() or ["its process died"])[-1]}
    if "error" in found:
        raise BadInput(f"{stage.name}: cannot be timed: {found['error']}")
    return Pace(label=stage.name, **found)


# ---- hours ----------------------------------------------------------------------------------


def hours_line(plan: Plan, keys: Iterable[str], path: Path, *, asked: bool) -> str:
    """What the stages among `keys` will take by a calibration, in one line; "" without one.

    Args:
        path: of the calibration.
        asked: it was named, so that one of another device is used, and said to be.

    Raises:
        BadInput: a file that was named is none; one that was not is told of in the line.
    """
    if not asked and not path.exists():
        return ""
    try:
        found = read_calibration(path)
    except BadInput as error:
        if asked:
            raise
        return f"time: {error.line}"
    devices = {device_name(True), device_name(False)}
    other = "" if found.device in devices else f"{path} is of {found.device}, not of this machine"
    if other and not asked:
        return f"time: {other}: not used; --calibration {path} uses it as it is"
    return f"{_told(plan, keys, found)}{f' ({other})' if other else ''}"


def _told(plan: Plan, keys: Iterable[str], found: Calibration) -> str:
    """Hours of each kind of stage, and how many of them are calibrated."""
    seconds: dict[Kind, list[float | None]] = {}
    for stage in (plan.stages[key] for key in keys):
        if digest := _digest(plan, stage):
            pace = found.paces.get(digest)
            took = pace.seconds * _times(plan, stage) if pace else None
            seconds.setdefault(stage.kind, []).append(took)
    known = {kind: [s for s in all_ if s is not None] for kind, all_ in seconds.items()}
    of = ", ".join(f"{_hours(sum(k))} of {_KINDS[kind]}" for kind, k in known.items()) or "no time"
    lacking = [f"{len(known[kind])} of {len(all_)} {_KINDS[kind]}s" for kind, all_ in
               seconds.items() if len(known[kind]) < len(all_)]  # fmt: skip
    rest = f"; {', '.join(lacking)} are calibrated" if lacking else ""
    return f"time: about {of} on one {found.device}{rest}"


def _times(plan: Plan, stage: Stage) -> int:
    """How often a stage does what its pace is of."""
    spec = stage.record
    if isinstance(spec, TrainSpec):
        return _updates(plan, stage) * spec.train.processes
    sampled = plan.stages[spec.sample] if isinstance(spec, ScoreSpec) else stage
    return sampled.read(SampledSpec).prompts.n


def _updates(plan: Plan, stage: Stage) -> int:
    """Those a stage makes itself: another may bring the training to a snapshot before."""
    before = [plan.stages[key] for key in stage.needs if key in plan.stages]
    own = [s.read(TrainSpec).train.last for s in before if lineage(s) == lineage(stage)]
    return stage.read(TrainSpec).train.last - max(own, default=0)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} device-hours" if seconds >= 360 else f"{seconds:.3g} s"
