"""A trained student on disk: its own tensors, how to rebuild its net, and how to sample it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from distillbench.api import registry
from distillbench.errors import ArtifactError, MissingWeights, NotSupported
from distillbench.files.source import other_weights
from distillbench.specs.stages import TrainSpec
from distillbench.specs.trained import NetRecord, TrainedBackbone, TrainedMethod, TrainingRecipe
from distillbench.store.record import check_folder
from distillbench.store.runs import teacher_runs
from distillbench.student.placed import AS_TRAINED, Placed

if TYPE_CHECKING:
    from torch import Tensor

    from distillbench.api.backbone import Backbone
    from distillbench.api.method import Method, NetSpec
    from distillbench.api.nets import NetHandle
    from distillbench.api.published import Published
    from distillbench.api.sampler import Sampler
    from distillbench.api.steering import Steer

__all__ = [
    "Student",
    "default_sampler",
    "load_student",
    "put_on",
    "read_tensors",
    "replace_teacher_by_run",
    "steer",
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
        placed: what it is sampled with beside its own weights.
    """

    method: Method
    net: NetHandle | None
    placed: Placed = AS_TRAINED


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
    placed: Placed = AS_TRAINED,
) -> Student:
    """Rebuild a trained student from its folder alone, in the precision it was trained in.

    Args:
        train_dir: a finished training.
        device: where networks run.
        settings, method_settings: of backbone and method, where they are others than at training:
            weights may have moved.
        placed: what it is sampled with beside its own weights.

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
    if revision is not None and other_weights(revision, backbone.revision()):
        raise ArtifactError(
            f"{train_dir}: trained on revision {revision} of {backbone.name}, this disk holds "
            f"{backbone.revision()}"
        )
    on, onto = placed.on, placed.onto
    if onto is not None:
        on = {"name": recipe.backbone.name, "params": given, "revision": revision}
    adapter = trained_kind(train_dir) == "lora"
    base = None
    if on is None or not adapter:
        base = _own_backbone(method, train_dir, recipe.method.weights)
        base.load(device, dtype=recipe.precision)
        if recipe.teacher:
            replace_teacher_by_run(base, train_dir.parent / recipe.teacher)
    place = base if on is None else _elsewhere(train_dir, on, onto, device, recipe.precision)
    assert place is not None
    if on is not None:
        method.backbone = place
    before = None
    if base is not None and not adapter and (placed.adapters or on is not None):
        before = _plain_net(base, train_dir)
    put_on(place, placed.adapters)
    net = _net(place, train_dir, before=before)
    steer(place, net, placed.steers)
    return Student(method, net, placed)


def steer(backbone: Backbone, net: NetHandle | None, steers: Sequence[Steer]) -> None:
    """Let ControlNets and IP-Adapters steer what is sampled, if there are any. Raises BadInput."""
    for published in (p for s in steers for p in (s.weights, s.encoder) if p is not None):
        if published.identity().startswith("missing:"):  # other bytes than planned are refused
            raise MissingWeights(published.need().line)
    if steers:
        backbone.steer(net, steers)


def trained_kind(train_dir: Path) -> str:
    """How a student is kept: "lora" or "copy"; "" for a training without nets."""
    there = (train_dir / NetRecord.file).is_file()
    return str(NetRecord.read(train_dir).kind) if there else ""


def _elsewhere(
    train_dir: Path, on: Mapping[str, Any], onto: Path | None, device: str, precision: str
) -> Backbone:
    """The loaded backbone that a student is carried over to."""
    backbone = registry.build_backbone(on["name"], on["params"])
    if (planned := on.get("revision")) and other_weights(planned, backbone.revision()):
        raise ArtifactError(
            f"{train_dir}: to be sampled on revision {on['revision']} of {backbone.name}, this "
            f"disk holds {backbone.revision()}"
        )
    backbone.load(device, dtype=precision)
    if onto is not None:
        replace_teacher_by_run(backbone, onto)
    return backbone


def put_on(backbone: Backbone, adapters: Sequence[Published]) -> None:
    """Add LoRAs of others to the network, whatever role is sampled. Raises BadInput."""
    for number, published in enumerate(adapters):
        published.identity()  # the bytes that were planned with
        net, _, _ = backbone.adopt(f"on top {number}", published)
        backbone.replace_teacher(net)


def _plain_net(backbone: Backbone, train_dir: Path) -> dict[str, Tensor]:
    """Tensors of a student that is still its base."""
    record = NetRecord.read(train_dir)
    made = backbone.make_net("before", record.kind, **record.opts)
    found = {name: value.detach().clone() for name, value in made.tensors().items()}
    backbone.replace_teacher(made)  # by itself: its memory is free again
    return found


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
        net = _net(backbone, run, name="adopted")
        if net is None:
            raise ArtifactError(f"{run}: trained no net that could take a teacher's place")
        backbone.replace_teacher(net)


def _net(
    backbone: Backbone, train_dir: Path, *, name: str = "",
    before: Mapping[str, Tensor] | None = None,
) -> NetHandle | None:  # fmt: skip
    """The student on a backbone; None for a training without nets.

    Args:
        before: its base where it was trained; its difference from that is what is added then.
    """
    if not (train_dir / NetRecord.file).is_file():
        return None
    record, tensors = NetRecord.read(train_dir), read_tensors(train_dir)
    net = backbone.make_net(name or record.role, record.kind, **record.opts)
    if before is not None:
        there = net.tensors()
        tensors = {
            n: value if n.startswith("conditions.") else there[n] + value - before[n]
            for n, value in tensors.items()
        }
    net.load_tensors(tensors)
    return net


def read_tensors(train_dir: Path) -> dict[str, Tensor]:
    """A trained student's own tensors by name."""
    path = train_dir / "student.safetensors"
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: missing or truncated ({error})") from None
    return tensors
