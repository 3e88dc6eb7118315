"""A trained student on disk: its own tensors, how to rebuild its net, and how to sample it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from distillbench.api import registry
from distillbench.errors import ArtifactError, NotSupported
from distillbench.specs.stages import TrainSpec
from distillbench.specs.trained import NetRecord, TrainedBackbone, TrainedMethod, TrainingRecipe
from distillbench.store.record import check_folder
from distillbench.store.runs import teacher_runs

if TYPE_CHECKING:
    from torch import Tensor

    from distillbench.api.backbone import Backbone
    from distillbench.api.method import Method, NetSpec
    from distillbench.api.nets import NetHandle
    from distillbench.api.sampler import Sampler

__all__ = [
    "Student",
    "default_sampler",
    "load_student",
    "read_tensors",
    "replace_teacher_by_run",
    "write_net",
    "write_recipe",
    "write_student",
]  # fmt: skip

DEFAULT_NFE = (4, 2, 1, 8)


@dataclass(frozen=True)
class Student:
    """A sampled-from method: `net` is None for the teacher itself.

    Attributes:
        method: with its loaded backbone; `method.sampler(nfe)` is its recipe.
        net: the student.
    """

    method: Method
    net: NetHandle | None


def write_student(out: Path, net: NetHandle, spec: NetSpec) -> None:
    """Write student.safetensors and net.json; the average where one is kept."""
    write_net(out, net if net.ema is None else net.ema, net.name, spec.kind, spec.opts)


def write_net(out: Path, net: NetHandle, role: str, kind: str, opts: Mapping[str, Any]) -> None:
    """Write a net's tensors, and how `make_net` makes it again."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in net.tensors().items()}
    save_file(tensors, out / "student.safetensors")
    NetRecord.model_validate({"role": role, "kind": kind, "opts": dict(opts)}).write(out)


def write_recipe(out: Path, spec: TrainSpec, method: Method) -> None:
    """Write recipe.json: the default sampling recipe, and what rebuilds any other."""
    of_method = {**spec.method.plain(), "params": method.config.model_dump(mode="json")}
    of_backbone = {**spec.backbone.plain(), "params": method.base.config.model_dump(mode="json")}
    TrainingRecipe(
        default=default_sampler(method).model_dump(mode="json"),
        method=TrainedMethod(**of_method),
        backbone=TrainedBackbone(**of_backbone),
        precision=spec.train.precision,
        teacher=spec.teacher,
    ).write(out)


def default_sampler(method: Method) -> Sampler:
    """The sampler of a usual number of evaluations, else of the fewest that the method takes.

    Raises:
        NotSupported: it takes none.
    """
    most = method.backbone.num_timesteps
    for nfe in (*DEFAULT_NFE, *range(1, most + 1)):
        try:
            return method.sampler(nfe)
        except NotSupported:
            continue
    raise NotSupported(f"{method.name} can be sampled with no number of evaluations up to {most}")


def load_student(
    train_dir: Path,
    device: str = "cpu",
    *,
    settings: Mapping[str, Any] | None = None,
    method_settings: Mapping[str, Any] | None = None,
    on: Mapping[str, Any] | None = None,
    onto: Path | None = None,
) -> Student:
    """Rebuild a trained student from its folder alone, in the precision it was trained in.

    Args:
        train_dir: a finished training.
        device: where networks run.
        settings, method_settings: of backbone and method, where they are others than at training:
            weights may have moved.
        on: name, params and revision of another backbone, to carry the student over to.
        onto: folder of a training of the same backbone, to carry it over to.

    Raises:
        ArtifactError: the folder is not that of a finished training, or not as it was committed.
        BadInput: it is an export for diffusers.
    """
    check_folder(train_dir)
    recipe = TrainingRecipe.read(train_dir)
    given = {**recipe.backbone.params, **(settings or {})}
    backbone = registry.build_backbone(recipe.backbone.name, given)
    theirs = {**recipe.method.params, **(method_settings or {})}
    method = registry.build_method(recipe.method.name, theirs, backbone)
    revision = recipe.backbone.revision
    if revision is not None and revision != backbone.revision():
        raise ArtifactError(
            f"{train_dir}: trained on revision {revision} of {backbone.name}, this disk holds "
            f"{backbone.revision()}"
        )
    if onto is not None:
        on = {"name": recipe.backbone.name, "params": given, "revision": revision}
    place = _Place(on, onto) if on is not None else None
    if place is not None and NetRecord.read(train_dir).kind == "lora":
        return _carried(method, train_dir, place, device, recipe.precision)
    backbone = _own_backbone(method, train_dir, recipe.method.weights)
    backbone.load(device, dtype=recipe.precision)
    if recipe.teacher:
        replace_teacher_by_run(backbone, train_dir.parent / recipe.teacher)
    if place is not None:
        return _carried(method, train_dir, place, device, recipe.precision, base=backbone)
    trained = (train_dir / NetRecord.file).is_file()
    return Student(method, _net(backbone, train_dir) if trained else None)


@dataclass(frozen=True)
class _Place:
    """Where a student is carried over to: a backbone, with the net of a training in its place."""

    on: Mapping[str, Any]
    onto: Path | None


def _carried(
    method: Method, train_dir: Path, place: _Place, device: str, precision: str,
    *, base: Backbone | None = None,
) -> Student:  # fmt: skip
    """A student elsewhere: its adapter, or its difference from a loaded `base`."""
    on = place.on
    backbone = registry.build_backbone(on["name"], on["params"])
    if on.get("revision", backbone.revision()) != backbone.revision():
        raise ArtifactError(
            f"{train_dir}: to be sampled on revision {on['revision']} of {backbone.name}, this "
            f"disk holds {backbone.revision()}"
        )
    backbone.load(device, dtype=precision)
    if place.onto is not None:
        replace_teacher_by_run(backbone, place.onto)
    method.backbone = backbone
    record, tensors = NetRecord.read(train_dir), read_tensors(train_dir)
    net = backbone.make_net(record.role, record.kind, **record.opts)
    if base is not None:
        before = base.make_net("before", record.kind, **record.opts).tensors()
        there = net.tensors()
        tensors = {
            name: value if name.startswith("conditions.") else there[name] + value - before[name]
            for name, value in tensors.items()
        }
    net.load_tensors(tensors)
    return Student(method, net)


def _own_backbone(method: Method, train_dir: Path, weights: str | None) -> Backbone:
    """What a method is sampled on; one it brings along must hold the bytes of its training."""
    published = method.published()
    if published is not None and published.kind == "pipeline" and published.identity() != weights:
        raise ArtifactError(
            f"{train_dir}: made of {published.weights} with sha256 {weights}; this disk holds "
            f"{published.identity()}"
        )
    return method.backbone


def replace_teacher_by_run(backbone: Backbone, train_dir: Path) -> None:
    """Put the trained net of a run, and of the run it took as teacher, in the teacher's place.

    Runs lie side by side in the store, so a run finds its teacher by its key.

    Raises:
        ArtifactError: the folder is not that of a finished training, or not as it was committed.
    """
    for run in reversed([train_dir, *teacher_runs(train_dir)]):
        check_folder(run)
        backbone.replace_teacher(_net(backbone, run, name="adopted"))


def _net(backbone: Backbone, train_dir: Path, *, name: str = "") -> NetHandle:
    record = NetRecord.read(train_dir)
    net = backbone.make_net(name or record.role, record.kind, **record.opts)
    net.load_tensors(read_tensors(train_dir))
    return net


def read_tensors(train_dir: Path) -> dict[str, Tensor]:
    """A trained student's own tensors by name."""
    path = train_dir / "student.safetensors"
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: missing or truncated ({error})") from None
    return tensors
