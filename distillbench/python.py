"""The command line's work from Python: run an experiment, read its results, sample a student.

    import distillbench
    done = distillbench.run("experiments/smoke.yaml")
    done.frames()["smoke"]
    distillbench.load_student("58017a9e").sample(["a red car"], nfe=4)[0].save("red.png")

What the command line says in a line is raised here as the exception of that line; all of them are
`distillbench.errors.DistillbenchError`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillbench.cli.common import open_experiment, require_writable, store_of
from distillbench.errors import BadInput, DistillbenchError, Interrupted, NotSupported, StageFailed

if TYPE_CHECKING:
    import pandas

    from distillbench.analysis.aggregate import Results
    from distillbench.analysis.verdicts import Verdict
    from distillbench.experiment.schema import Experiment
    from distillbench.plan.stage import Plan
    from distillbench.store.runs import SampledRow
    from distillbench.student.files import Student

__all__ = ["Finished", "Sampled", "compare", "load_student", "results", "run"]

Source = str | Path | Mapping[str, Any]


@dataclass(frozen=True)
class Finished:
    """An experiment with what is done of it.

    Attributes:
        folder: where its tables and report.html are.
        root: the results folder, whose store they are made from.
    """

    experiment: Experiment
    plan: Plan
    folder: Path
    root: Path

    def frames(self) -> dict[str, pandas.DataFrame]:
        """Its tables, see `results`."""
        return results(self.folder)

    def values(self) -> pandas.DataFrame:
        """Every measured value, tidy: row, backbone, nfe, updates, seed, metric, prompt, ...

        One line a sample; of metrics of whole sets one line a sample set, without `sample`.
        """
        from distillbench.analysis.tidy import ValueRow, measured

        return _tidy(ValueRow, measured(self._results()))

    def costs(self) -> pandas.DataFrame:
        """Every measured cost, tidy: row, backbone, nfe, updates, seed, measure, value."""
        from distillbench.analysis.tidy import Spent, spent

        return _tidy(Spent, spent(self._results()))

    def _results(self) -> Results:
        from distillbench.analysis.aggregate import Results

        return Results(self.plan, store_of(self.root))

    def compare(self, a: str, b: str, metric: str) -> Verdict:
        """The claim that row `a` is better than row `b`, with interval and p-value.

        `a` and `b` are rows as a claim names them (`TDM`, `LCM[nfe=4]`). `p_holm` is corrected for
        this one comparison alone: state in the experiment file what you mean to claim.

        Raises:
            BadInput: it names no row or metric, or the two were measured in different ways.
        """
        from distillbench.analysis.claims import as_side
        from distillbench.analysis.verdicts import decide_claims
        from distillbench.report.infos import metric_infos

        found = self._results()
        names = {row.name for row in found.rows}
        text = f"{as_side(a, names)} > {as_side(b, names)} on {metric}"
        asked = self.experiment.model_validate(
            {**self.experiment.model_dump(), "claims": [{"text": text}]}
        )
        (verdict,) = decide_claims(asked, found, metric_infos(asked))
        if verdict.difference is None:
            raise BadInput(f"{text}: {verdict.reason}")
        return verdict


def run(
    experiment: Source,
    *,
    profile: str | None = None,
    sets: Sequence[str] = (),
    only: str = "",
    results: str | Path = "results",
    plugins: Sequence[str] = (),
    allow_missing: bool = False,
    **options: Any,
) -> Finished:
    """Run an experiment, as `distillbench run` does: what is done is not done again.

    Args:
        experiment: a file, or what would stand in it.
        profile, sets, only, plugins, allow_missing: as on the command line.
        options: of `distillbench.run.options.RunOptions`: runner, workers, gpus, retry_failed, ...

    Raises:
        BadInput: the experiment is wrong, or something that it needs is missing.
        StageFailed: stages failed; everything else, tables too, is done.
        Interrupted: a signal ended it; the same call goes on.
    """
    from distillbench.cli.needs import StoreWithReasons, refuse
    from distillbench.plan.build import selected
    from distillbench.plan.requirements import Setup, missing, without
    from distillbench.report.render import build_report, write_plan, write_reports
    from distillbench.run.driver import execute
    from distillbench.run.options import RunOptions

    root = Path(results)
    done = _opened(experiment, root, profile=profile, sets=sets, plugins=plugins)
    asked = RunOptions(**options)
    part, store = selected(done.plan, only), store_of(root)
    require_writable(root)
    lacking = missing(part, store, Setup(asked.runner, asked.gpus, bool(asked.address)))
    if not allow_missing:
        refuse(lacking)
    write_plan(done.plan, done.folder)
    able, blocked = without(part, lacking, lambda stage: store.is_done(stage.kind, stage.key))
    outcome = execute(able, store, asked)
    if outcome.interrupted:
        raise Interrupted("interrupted; the same call resumes")
    report = build_report(done.experiment, done.plan, StoreWithReasons(store, blocked))
    write_reports(report, done.folder, planned=True)
    if outcome.failed:
        raise StageFailed("\n".join(f"{key[:8]}: {why}" for key, why in outcome.failed.items()))
    report.check()
    return done


def compare(
    a: str, b: str, metric: str, *, experiment: Source, profile: str | None = None,
    results: str | Path = "results",
) -> Verdict:  # fmt: skip
    """`Finished.compare` for an experiment that was run before."""
    return _opened(experiment, Path(results), profile=profile).compare(a, b, metric)


def results(folder: str | Path) -> dict[str, pandas.DataFrame]:
    """The tables, costs and claims of a folder such as `results/table1`, by name.

    A measured column has its standard error and number of samples beside it (`hps_stderr`,
    `hps_n`); what is missing is NaN. What the footnotes of a row say is in `footnotes`.

    Raises:
        BadInput: the folder holds no results. NotSupported: pandas is not installed.
    """
    frame = _pandas().DataFrame
    place, found = Path(folder), {}
    for path in sorted(place.glob("*.json")):
        made = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "claims.json":
            found["claims"] = frame(made)
        elif isinstance(made, dict) and "columns" in made:
            found[path.stem] = frame([_flat(row) for row in made["rows"]])
    if not found:
        hint = "Name the folder of an experiment, such as results/smoke"
        raise BadInput(f"{place}: no tables there", hint=hint)
    return found


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a table's JSON as a frame has it."""
    flat: dict[str, Any] = {"group": row["group"]} if row["group"] else {}
    for key, cell in row["cells"].items():
        if not isinstance(cell, dict):
            flat[key] = cell
            continue
        flat[key] = cell["value"]
        if "stderr" in cell:
            flat |= {f"{key}_stderr": cell["stderr"], f"{key}_n": cell["n"]}
    return flat | ({"footnotes": told} if (told := row.get("footnotes")) else {})


def _tidy(kind: Any, records: Iterable[Any]) -> pandas.DataFrame:
    """Records of one dataclass as a frame, its columns there where there are no records."""
    names = [field.name for field in fields(kind)]
    lines = [[getattr(record, name) for name in names] for record in records]
    return _pandas().DataFrame(lines, columns=names)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise NotSupported("pandas is not installed", hint="pip install pandas") from error
    return pandas


@dataclass(frozen=True)
class Sampled:
    """A trained student that makes samples.

    Attributes:
        row: the stored row whose recipe it is sampled by; None is the training's own.
    """

    student: Student
    folder: Path
    row: SampledRow | None = None

    def sample(
        self, prompts: str | Sequence[str], *, nfe: int | None = None, seed: int = 0
    ) -> list[Any]:
        """One sample a prompt: a PIL picture, a list of them for a video, an array for points.

        The noise is a function of seed and position, as in a run: these are the samples that a
        sample stage of this seed would begin with. `nfe` is 4, or the row's, where none is given.
        """
        from distillbench.api.samplers import from_recipe
        from distillbench.cli.recipes import recipe_like
        from distillbench.sample.generate import generate_images

        asked = [prompts] if isinstance(prompts, str) else list(prompts)
        recipe = recipe_like(self.folder, self.row, nfe)
        sampler = from_recipe(recipe) if recipe else self.student.method.sampler(nfe or 4)
        made = generate_images(self.student, asked, sampler=sampler, seed=seed)
        return [_shown(sample) for sample in made.cpu().numpy()]


def _shown(sample: Any) -> Any:
    from PIL import Image

    if sample.ndim == 1:
        return sample
    if sample.ndim == 4:
        return [Image.fromarray(frame) for frame in sample]
    return Image.fromarray(sample)


def load_student(
    checkpoint: str | Path, *, row: str = "", results: str | Path = "results", device: str = "",
    **words: Any,
) -> Sampled:  # fmt: skip
    """A student by the folder of its training, by its key, or as EXPERIMENT:ROW:seedN.

    Args:
        row: label of a stored row; the student is sampled as that row was.
        words: what it is sampled with beside its own weights, as a row of an experiment says it:
            `sample_on="owner/name"`, `adapters=[{"weights": "style.safetensors", "scale": 0.8}]`.

    Raises:
        BadInput: there is no such training. ArtifactError: its files are damaged.
        ConfigError: the words are wrong, or do not fit the student.
    """
    from distillbench.cli.placing import checkpoint_folder, placed_by, row_meant, words_of
    from distillbench.cli.sample import best_device
    from distillbench.student.files import load_student as load

    root = Path(results)
    folder = checkpoint_folder(str(checkpoint), root)
    like = row_meant(str(checkpoint), folder, root, row, None)
    placed = placed_by(folder, root, like, words_of(words))
    student = load(folder, best_device(device), placed=placed)
    return Sampled(student, folder, like)


def _opened(
    source: Source, root: Path, *, profile: str | None = None, sets: Sequence[str] = (),
    plugins: Sequence[str] = (),
) -> Finished:  # fmt: skip
    """The experiment of a file or of a mapping, which is written down to be read as a file is."""
    if not isinstance(source, Mapping):
        opened = open_experiment(Path(source), profile=profile, sets=sets, plugins=plugins)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "experiment.yaml"
            try:
                path.write_text(json.dumps(dict(source), indent=1), encoding="utf-8")
                opened = open_experiment(path, profile=profile, sets=sets, plugins=plugins)
            except TypeError as error:
                raise BadInput(f"the experiment: {error}") from error
            except DistillbenchError as error:
                error.args = (str(error).replace(str(path), "the experiment"),)
                raise
    experiment, plan = opened
    return Finished(experiment, plan, root / plan.name, root)
