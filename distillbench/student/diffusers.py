"""A trained student as files that diffusers (or, where it loads no adapters, peft) reads.

An adapter becomes `pytorch_lora_weights.safetensors` with its rank and alpha in the metadata: left
out, alpha defaults to another value and the student is silently an eighth of itself. A full copy
becomes a network folder, and so does an adapter with scalar inputs. Beside them lie the scheduler
that takes the student's very steps, `recipe.json` with every argument of the pipeline's call, and a
README with the code to run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import diffusers
from safetensors.torch import save_file

from distillbench.api.fields import split
from distillbench.api.nets import NetHandle
from distillbench.api.sampler import Sampler
from distillbench.api.samplers import from_recipe
from distillbench.backbones._pipeline import PipelineBackbone
from distillbench.errors import NotSupported
from distillbench.files.io import require_folder, storage_guard
from distillbench.specs.trained import ExportBase, ExportRecipe, NetRecord, TrainingRecipe
from distillbench.store.measured import measured
from distillbench.student.card import write_card
from distillbench.student.files import load_student
from distillbench.student.placed import AS_TRAINED, Placed
from distillbench.student.schedulers import Followed, follow
from distillbench.student.trial import TrialTeacher
from distillbench.student.weights import LoraForm, WrittenWeights, write_weights

__all__ = ["Extent", "LoraForm", "export_student"]

Extent = Literal["least", "network", "pipeline"]
_UNSTEERED = "what steered the row's samples is no part of the student: give it to the pipeline"


def export_student(
    train_dir: Path,
    out: Path,
    *,
    nfe: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    placed: Placed = AS_TRAINED,
    lora: LoraForm = "diffusers",
    extent: Extent = "least",
    device: str = "cpu",
) -> list[Path]:
    """Write the student of a finished training into the empty folder `out`; returns its files.

    Nothing of a failed export stays.

    Args:
        nfe: network evaluations of the recipe written along; None is the training's default.
        recipe: a recipe of another row of the training, in place of both.
        placed: what it is sampled with beside its own weights; adapters of others are merged in.
        lora: how an adapter's tensors are named: as diffusers, kohya (and ComfyUI) or peft do.
        extent: "least" is an adapter where one can carry the student, "network" the whole network
            with it merged in, "pipeline" that with the encoders and the decoder of its base.

    Raises:
        NotSupported: nothing was trained, the backbone is no diffusers pipeline, or the method is
            not sampled with `nfe` evaluations.
        BadInput: `out` is a file, or holds files already.
    """
    require_folder(out, empty=True)
    student = load_student(train_dir, device, placed=replace(placed, steers=()))
    backbone, net = student.method.backbone, student.net
    if net is None:
        raise NotSupported(f"{student.method.name} has no student's weights, so none to export")
    if not isinstance(backbone, PipelineBackbone):
        raise NotSupported(f"students of backbone {backbone.name} have no diffusers form")
    trained = TrainingRecipe.read(train_dir)
    given = recipe or (trained.default if nfe is None else None)
    sampler = from_recipe(given) if given else student.method.sampler(nfe or 1)
    # What only decides sampling is the sampler's to say: it may be another row's.
    decisive = {"params": dict(split(student.method.config).decisive)}
    trained = trained.model_copy(update={"method": trained.method.model_copy(update=decisive)})
    existed = out.is_dir()
    try:
        with storage_guard(out / ExportRecipe.file):
            out.mkdir(parents=True, exist_ok=True)
            published = student.method.published()
            terms = published.terms if published is not None else ""
            _write(train_dir, out, backbone, net, trained, sampler, placed, lora, extent, terms)
    except BaseException:
        for path in out.iterdir() if out.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if out.is_dir() and not existed:
            out.rmdir()
        raise
    return sorted(path for path in out.rglob("*") if path.is_file())


def _write(
    train_dir: Path,
    out: Path,
    backbone: PipelineBackbone,
    net: NetHandle,
    trained: TrainingRecipe,
    sampler: Sampler,
    placed: Placed,
    form: LoraForm,
    extent: Extent,
    terms: str,
) -> None:
    kind = NetRecord.read(train_dir).kind
    whole = trained.teacher is not None or placed.whole or extent != "least"
    written = write_weights(out, backbone, net, kind, sampler, whole=whole, form=form)
    if written.left_out:
        save_file(dict(written.left_out), out / "conditions.safetensors")
    followed = follow(sampler, _teacher(backbone, net))
    followed.scheduler.save_pretrained(out / "scheduler")
    if extent == "pipeline":
        _write_pipeline(out, backbone, written.network, followed)
    run = train_dir.resolve().name
    recipe = _recipe(backbone, trained, run, sampler, followed, written)
    if extent == "pipeline":
        recipe = recipe.model_copy(update={"load_with": "from_pretrained"})
    if placed.steers:
        limits = {**recipe.limits, **{str(steer.kind): _UNSTEERED for steer in placed.steers}}
        recipe = recipe.model_copy(update={"limits": limits, "diffusers_ignores": list(limits)})
    recipe.write(out)
    scores = measured(train_dir, sampler, placed.spec)
    write_card(out, backbone, recipe, terms=terms, scores=scores)


def _teacher(backbone: PipelineBackbone, net: NetHandle) -> TrialTeacher:
    process, prediction = backbone.process_of(net), backbone.prediction_of(net)
    return TrialTeacher(process, prediction, dict(backbone.pipe.scheduler.config))


def _write_pipeline(
    out: Path, backbone: PipelineBackbone, network: Any, followed: Followed
) -> None:
    """The base's pipeline with the student and its scheduler in their places."""
    pipe = backbone.pipe
    pipe.register_modules(**{backbone.network: network, "scheduler": followed.scheduler})
    pipe.save_pretrained(out)


def _recipe(
    backbone: PipelineBackbone,
    trained: TrainingRecipe,
    run: str,
    sampler: Sampler,
    followed: Followed,
    written: WrittenWeights,
) -> ExportRecipe:
    """How to rebuild and sample the student outside this package."""
    params = backbone.config.model_dump(mode="json")
    base = {"backbone": backbone.name, "params": params, "revision": backbone.revision()}
    whole = f"from_pretrained, subfolder {backbone.network}"
    limits = _limits(sampler, followed, written)
    call = _call(backbone, sampler, followed, written)
    others: dict[str, Any] = {}
    if followed.sigmas is not None:  # what its pipelines take in the place of times
        others["sigmas"] = followed.sigmas
    if "eta" in call:
        others["eta"] = call["eta"]
    return ExportRecipe(
        pipeline=backbone.pipeline,
        base=ExportBase(**base),
        load_with=written.loader or whole,
        precision=trained.precision,
        method=trained.method,
        scheduler=type(followed.scheduler).__name__,
        sampler=sampler.model_dump(mode="json"),
        call=call,
        guidance_scale=call["guidance_scale"],
        num_inference_steps=len(sampler.timesteps),
        timesteps=list(sampler.timesteps),
        fixed=dict(written.fixed),
        diffusers_ignores=list(limits),
        limits=limits,
        training=run,
        **others,
    )


def _call(
    backbone: PipelineBackbone, sampler: Sampler, followed: Followed, written: WrittenWeights
) -> dict[str, Any]:
    """Every argument of the pipeline's call but prompt and generator."""
    scale = sampler.embed_scale if written.embeds else sampler.guidance_scale
    known = signature(getattr(diffusers, backbone.pipeline).__call__).parameters
    eta = {"eta": float(getattr(sampler, "gamma", 0.0))} if "eta" in known else {}
    return {**followed.times, "guidance_scale": scale, **eta, **backbone.call_arguments()}


def _limits(sampler: Sampler, followed: Followed, written: WrittenWeights) -> dict[str, str]:
    """What of the recipe a diffusers pipeline cannot follow, and why: other samples than ours."""
    limits = dict(followed.limits)
    if written.left_out:
        names = (name.split(".") for name in written.left_out)
        named = sorted({parts[1 if parts[1] == "guidance" else 2] for parts in names})
        why = f"the network also takes {' and '.join(named)}, which its pipeline does not feed"
        limits = {"conditions.safetensors": why, **limits}
    scale = sampler.guidance_scale
    if scale < 1 or (scale != 1 and written.embeds):
        why = "the pipeline guides only above scale 1, and no network that embeds its scale"
        limits["sampler.guidance_scale"] = why
    return limits
