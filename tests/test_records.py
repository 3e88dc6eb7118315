"""Files beside a student's tensors are typed: what is wrong is said in one line, bytes stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillbench.errors import ArtifactError, BadInput
from distillbench.files.io import write_json
from distillbench.specs.record import FileRecord
from distillbench.specs.trained import ExportRecipe, Lineage, NetRecord, TrainingRecipe

PART = {"name": "x", "params": {"b": [1, 2.0], "a": None}}
NET = {"role": "student", "kind": "lora", "opts": {"rank": 4, "targets": ["to_q"]}}
TRAINING = {"default": {"kind": "renoise", "timesteps": [999, 499.5]}, "precision": "float32",
            "method": {**PART, "version": 3}, "backbone": {**PART, "revision": "r"},
            "teacher": None}  # fmt: skip
EXPORT = {"pipeline": "P", "base": {"backbone": "sd", "params": {}, "revision": "r"},
          "load_with": "PeftModel", "precision": "float16", "method": {**PART, "version": 1},
          "scheduler": "S", "sampler": {"kind": "ode"}, "call": {"guidance_scale": 1.0},
          "guidance_scale": 1, "num_inference_steps": 2, "timesteps": [999, 499.5], "fixed": {},
          "diffusers_ignores": [], "limits": {}, "training": "abc"}  # fmt: skip
RECORDS: list[tuple[type[FileRecord], dict[str, Any]]] = [
    (NetRecord, NET), (TrainingRecipe, TRAINING), (ExportRecipe, EXPORT),
    (ExportRecipe, {**EXPORT, "sigmas": [1.0], "eta": 0.3}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "plain"), RECORDS)
def test_what_is_written_has_the_bytes_of_the_plain_data(
    kind: type[FileRecord], plain: dict[str, Any], tmp_path: Path
) -> None:
    write_json(tmp_path / "plain.json", plain)
    write_json(tmp_path / kind.file, plain)
    kind.read(tmp_path).write(tmp_path)
    assert (tmp_path / kind.file).read_bytes() == (tmp_path / "plain.json").read_bytes()


def test_files_of_other_versions_are_read(tmp_path: Path) -> None:
    """Trainings of before revisions, versions and teachers; fields of later versions are let be."""
    old = {**TRAINING, "method": PART, "backbone": {**PART, "later": 1}, "later": {}}
    write_json(tmp_path / "recipe.json", {k: v for k, v in old.items() if k != "teacher"})
    recipe = TrainingRecipe.read(tmp_path)
    assert (recipe.backbone.revision, recipe.method.weights, recipe.teacher) == (None, None, None)


@pytest.mark.parametrize(("kind", "plain"), RECORDS)
def test_every_field_that_is_missing_is_named_with_what_to_do(
    kind: type[FileRecord], plain: dict[str, Any], tmp_path: Path
) -> None:
    required = [name for name, field in kind.model_fields.items() if field.is_required()]
    for name in required:
        write_json(tmp_path / kind.file, {k: v for k, v in plain.items() if k != name})
        with pytest.raises(ArtifactError) as caught:
            kind.read(tmp_path)
        start = f"{tmp_path / kind.file}: {name}: missing"
        assert caught.value.line.startswith(start)
        assert caught.value.line.endswith(f"; {kind.remedy}")
        assert "\n" not in caught.value.line
    write_json(tmp_path / kind.file, {})
    with pytest.raises((ArtifactError, BadInput)) as whole:
        kind.read(tmp_path)
    assert all(f"{name}: missing" in str(whole.value) for name in required)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher": 3}, "teacher: input should be a valid string, got 3"),
        ({"teacher": "../other"}, "teacher: '../other' is no key of a run beside it"),
        ({"precision": "fp16"}, "precision: input should be 'float32', 'bfloat16' or 'float16'"),
        ({"backbone": "sd"}, "backbone: input should be"),
        ({"method": {"name": 1, "params": {}}}, "method.name: input should be a valid string"),
    ],
)
def test_a_field_of_another_type_is_named(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write_json(tmp_path / "recipe.json", {**TRAINING, **change})
    with pytest.raises(ArtifactError) as caught:
        TrainingRecipe.read(tmp_path)
    assert caught.value.line.startswith(f"{tmp_path / 'recipe.json'}: {said}")


@pytest.mark.parametrize("text", ["", "[]", "3", '{"role"'])
def test_what_is_no_object_is_said_to_be_altered(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"net\.json: truncated or altered"):
        NetRecord.read(tmp_path)


def test_an_export_is_not_read_as_a_training(tmp_path: Path) -> None:
    ExportRecipe.model_validate(EXPORT).write(tmp_path)
    for kind in (Lineage, TrainingRecipe):
        with pytest.raises(BadInput, match="an export for diffusers") as caught:
            kind.read(tmp_path)
        assert "training abc" in caught.value.line
    assert json.loads((tmp_path / "recipe.json").read_text()) == EXPORT
