"""Every kind of mistake in a file, with the exact line a user sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distillbench.errors import ConfigError

Errors = Callable[..., list[str]]
KEYS = (
    "label, group, backbone, method, params, teacher, init, train, data, sample, nfe, snapshots, "
    "guidance_scale, sampler, sample_on, adapters, control, image_prompts, samples, tags"
)
STUDENT = "steps, eta, loss, embed"
UNGUIDED = (
    "weakens the prompt, and 0 leaves it out; for no guidance, which others write as 0, say 1"
)

# One mistake each; HEAD is three lines, so the text begins on line 4.
CASES = {
    "unknown key at the top": (
        "rows: [{method: fake-student}]\nsedes: [1]\n",
        "e.yaml:5:1: sedes: unknown key. An experiment has: name, title, threads, plugins, base, "
        "for_method, backbones, rows, grid, zip, ablate, exclude, include, seeds, limits, metrics, "
        "reference, tables, figures, claims. Did you mean 'seeds'?",
    ),
    "key of a row at the top": (
        "rows: [{method: fake-student}]\nnfe: 4\n",
        "e.yaml:5:1: nfe: unknown key. An experiment has: name, title, threads, plugins, base, "
        "for_method, backbones, rows, grid, zip, ablate, exclude, include, seeds, limits, metrics, "
        "reference, tables, figures, claims. It is a key of base, limits, reference.",
    ),
    "key of train in a row": (
        "rows: [{method: fake-student, batch_size: 4}]\n",
        f"e.yaml:4:31: rows[0].batch_size: unknown key. A row has: {KEYS}, grid, zip, ablate. It "
        "is a key of train, sample.",
    ),
    "unknown key of a row": (
        "rows: [{method: fake-student, nef: 4}]\n",
        f"e.yaml:4:31: rows[0].nef: unknown key. A row has: {KEYS}, grid, zip, ablate. Did you "
        "mean 'nfe'?",
    ),
    "unknown key of train": (
        "rows:\n  - method: fake-student\n    train: {updatse: 4}\n",
        "e.yaml:6:13: rows[0].train.updatse: unknown key. 'train' has: updates, batch_size, "
        "accumulate, "
        "precision, lr_scale, processes, merge_adapters, compile, optimizer, shard, save_every. "
        "Did you mean 'updates'?",
    ),
    "value of a wrong type": (
        "rows: [{method: fake-student, train: {updates: many}}]\n",
        "e.yaml:4:39: rows[0].train.updates: input should be a valid integer, unable to parse "
        "string as an integer, got 'many'.",
    ),
    "value out of range": (
        "rows: [{method: fake-student, nfe: [4, 0]}]\n",
        "e.yaml:4:40: rows[0].nfe[1]: input should be greater than 0, got 0.",
    ),
    "one of a few words": (
        "rows: [{method: fake-student, train: {precision: bfloat61}}]\n",
        "e.yaml:4:39: rows[0].train.precision: input should be 'float32', 'bfloat16' or 'float16', "
        "got 'bfloat61'. Did you mean 'bfloat16'?",
    ),
    "unknown method": (
        "rows: [{method: fake-studnet}]\n",
        None,
    ),
    "unknown parameter": (
        "rows: [{method: fake-student, params: {setps: 1}}]\n",
        f"e.yaml:4:40: rows[0].params.setps: unknown key. FS has: {STUDENT}. Did you mean 'steps'?",
    ),
    "wrong parameter": (
        "rows: [{method: fake-student, params: {loss: hubre}}]\n",
        "e.yaml:4:40: rows[0].params.loss: input should be 'huber' or 'mse', got 'hubre'. "
        "Did you mean 'huber'?",
    ),
    "nfe the method has not": (
        "rows:\n  - {method: fake-student, nfe: [4, 8]}\n",
        "e.yaml:5:37: rows[0].nfe[1]: FS with steps=4 has no 8-step sampler",
    ),
    "unknown sampler field": (
        "rows: [{method: fake-student, sampler: {slover: fancy}}]\n",
        "e.yaml:4:41: rows[0].sampler.slover: unknown key. The fake sampler has: kind, timesteps, "
        "guidance_scale, embed_scale, steps_k, solver. Did you mean 'solver'?",
    ),
    "sampler that changes nfe": (
        "rows: [{method: fake-student, sampler: {timesteps: [9, 5]}}]\n",
        "e.yaml:4:31: rows[0].sampler: 2 timesteps cannot make nfe 4; give one per evaluation",
    ),
    "no guidance as others write it": (
        "rows: [{method: fake-teacher, guidance_scale: 0}]\n",
        f"e.yaml:4:31: rows[0].guidance_scale: a guidance scale of 0 {UNGUIDED}",
    ),
    "the same of a sampler": (
        "rows: [{method: fake-student, sampler: {embed_scale: 0.5}}]\n",
        f"e.yaml:4:31: rows[0].sampler: a guidance scale of 0.5 {UNGUIDED}",
    ),
    "the same of a reference": (
        "rows: [{method: fake-teacher}]\nmetrics: [fake-distance]\n"
        "reference: {method: fake-teacher, guidance_scale: 0}\n",
        f"e.yaml:6:35: reference.guidance_scale: a guidance scale of 0 {UNGUIDED}",
    ),
    "latents nobody makes": (
        "rows: [{method: fake-real}]\n",
        "e.yaml:4:9: rows[0].method: FR trains on real latents, backbone 'b' makes none; "
        "use another",
    ),
    "images nobody encodes": (
        "rows: [{method: fake-real, data: {images: .}}]\n",
        "e.yaml:4:35: rows[0].data.images: backbone 'b' encodes no images",
    ),
    "unknown alias": (
        "rows: [{method: fake-student, backbone: fake-pionts}]\n",
        None,
    ),
    "row without a method": (
        "rows:\n  - {nfe: 4}\n",
        None,
    ),
    "unknown metric": (
        "rows: [{method: fake-student}]\nmetrics: [fake-spraed]\n",
        None,
    ),
    "metric parameter": (
        "rows: [{method: fake-student}]\nmetrics: [{use: fake-spread, params: {kk: 1}}]\n",
        "e.yaml:5:39: metrics[0].params.kk: unknown key. Spread has: k. Did you mean 'k'?",
    ),
    "metric twice": (
        "rows: [{method: fake-student}]\nmetrics: [fake-spread, {use: fake-spread}]\n",
        "e.yaml:5:25: metrics[1].use: two metrics are called 'fake-spread'; give one an id",
    ),
    "metric of another modality": (
        "rows: [{method: fake-student}]\nmetrics: [fake-sharp]\n",
        "e.yaml:5:11: metrics[0]: fake-sharp scores image samples, backbone 'b' makes point "
        "samples",
    ),
    "no reference": (
        "rows: [{method: fake-student}]\nmetrics: [fake-distance]\n",
        "e.yaml:5:11: metrics[0]: fake-distance compares with reference samples, and the file "
        "has no "
        "`reference`; add e.g. `reference: {method: teacher, nfe: 25}`",
    ),
    "a trained reference": (
        "rows: [{method: fake-student}]\nmetrics: [fake-distance]\n"
        "reference: {method: fake-student, nfe: 4}\n",
        "e.yaml:6:13: reference.method: 'fake-student' is trained; a reference must be a method "
        "without nets",
    ),
    "a reference without a scale for a backbone": (
        "rows: [{method: fake-student}]\nmetrics: [fake-distance]\n"
        "reference: {method: fake-teacher, guidance_scale: {x: 3}}\n",
        "e.yaml:6:35: reference.guidance_scale: no scale for backbone 'b'; has: x",
    ),
    "zip of unequal lengths": (
        "rows: [{method: fake-student}]\nzip: {nfe: [1, 2], params.eta: [0.1]}\n",
        "e.yaml:5:1: zip: lists walked in step must be equally long: nfe has 2, params.eta has 1",
    ),
    "grid path that is none": (
        "rows: [{method: fake-student}]\ngrid: {parms.eta: [0.1]}\n",
        f"e.yaml:5:20: grid.parms.eta[0]: unknown key. A row has: {KEYS}. Did you mean 'params'?",
    ),
    "grid path through a value": (
        "rows: [{method: fake-student}]\ngrid: {method.x: [1]}\n",
        "e.yaml:5:19: grid.method.x[0]: method.x: 'fake-student' is a value, not a mapping; it has "
        "no 'x'",
    ),
    "ablation that is no path": (
        "rows: [{method: fake-student}]\nablate: {prams.eta: [0.1]}\n",
        "e.yaml:5:22: ablate.prams.eta[0]: 'prams.eta' is no path into a row, so its values must "
        "be "
        "overlays such as {params: {...}}, got 0.1. Did you mean 'params'?",
    ),
    "everything excluded": (
        "rows: [{method: fake-student}]\nexclude: [{method: fake-student}]\n",
        "e.yaml:5:1: exclude: excludes every row; nothing is left",
    ),
    "exclusion by an unknown word": (
        "rows: [{method: fake-student, params: {eta: 1}}]\nexclude: [{etta: 1}]\n",
        "e.yaml:5:12: exclude[0].etta: unknown field 'etta'; rows have: label, group, method, "
        "title, backbone, nfe, updates, guidance_scale, seed, steps, eta, loss, embed, and dotted "
        "paths such as train.batch_size. Did you mean 'eta'?",
    ),
    "unknown prompt set": (
        "rows: [{method: fake-student, sample: {prompts: none.txt}}]\n",
        None,
    ),
    "no folder of images": (
        "rows: [{method: fake-student, data: {images: ./nowhere}}]\n",
        "e.yaml:4:38: rows[0].data.images: no folder ./nowhere",
    ),
    "unknown table column": (
        "rows: [{method: fake-student}]\nmetrics: [fake-spread]\n"
        "tables: [{name: a, columns: [label, fake-spraed]}]\n",
        "e.yaml:6:37: tables[0].columns[1]: unknown metric or field 'fake-spraed'; rows have: "
        "label, group, method, title, backbone, nfe, updates, guidance_scale, seeds, steps, eta, "
        "loss, embed, fake-spread, and dotted paths such as train.batch_size. "
        "Did you mean 'fake-spread'?",
    ),
    "unknown field in where": (
        "rows: [{method: fake-student}]\ntables: [{name: a, where: {metod: x}}]\n",
        "e.yaml:5:28: tables[0].where.metod: unknown field 'metod'; rows have: label, group, "
        "method, title, backbone, nfe, updates, guidance_scale, seeds, steps, eta, loss, embed, "
        "and dotted paths such as train.batch_size. Did you mean 'method'?",
    ),
    "where that means two things": (
        "rows: [{method: fake-teacher, guidance_scale: 1}]\ngrid: {params.guidance_scale: [2, 3]}\n"
        "figures: [{name: a, kind: curve, x: guidance_scale, y: fake-spread}]\n"
        "metrics: [fake-spread]\n",
        "e.yaml:6:34: figures[0].x: 'guidance_scale' is the row's own, and not "
        "'params.guidance_scale', which varies here; write 'params.guidance_scale'",
    ),
    "claim that means two things": (
        "rows: [{method: fake-teacher, guidance_scale: 1}]\ngrid: {params.guidance_scale: [2, 3]}\n"
        "claims: ['T[guidance_scale=2] > T[guidance_scale=3] on fake-spread']\n"
        "metrics: [fake-spread]\n",
        "e.yaml:6:10: claims[0]: claim 'T[guidance_scale=2] > T[guidance_scale=3] on "
        "fake-spread': 'guidance_scale' is the row's own, and not 'params.guidance_scale', which "
        "varies here; write 'params.guidance_scale'",
    ),
    "published_match of no row of ours": (
        "rows: [{method: fake-student}]\n"
        "tables: [{name: a, published: tdm_table1, published_match: {FSS: TCD}}]\n",
        "e.yaml:5:61: tables[0].published_match.FSS: unknown row 'FSS'; allowed: FS. "
        "Did you mean 'FS'?",
    ),
    "published_match of no row of theirs": (
        "rows: [{method: fake-student}]\n"
        "tables: [{name: a, published: tdm_table7_noisy_vs_clean,\n"
        "  published_match: {FS: Nothing}}]\n",
        "e.yaml:6:21: tables[0].published_match.FS: published_match: 'Nothing' names no row of "
        "tdm_table7_noisy_vs_clean; allowed: TDM (matching noisy samples); Matching clean samples",
    ),
    "published_match of other steps than ours": (
        "rows: [{method: fake-student, nfe: [2, 3]}]\n"
        "tables: [{name: a, published: tdm_table1, published_match: {FS: YOSO-512 | PixArt-alpha}}]"
        "\n",
        "e.yaml:5:61: tables[0].published_match.FS: published_match: 'YOSO-512 | PixArt-alpha' "
        "fits none of ours by steps and backbone; FS has nfe 2, 3",
    ),
    "published_match of an nfe that no row has": (
        "rows: [{method: fake-student, nfe: [2, 3]}]\n"
        "tables: [{name: a, published: tcd_table2_parameterisation,\n"
        "  published_match: {'FS[nfe=8]': TCF(2) | 4}}]\n",
        "e.yaml:6:21: tables[0].published_match.FS[nfe=8]: published_match: 'TCF(2) | 4' fits none "
        "of ours by steps and backbone; FS has nfe 2, 3",
    ),
    "where that selects nothing": (
        "rows: [{method: fake-student}]\ntables: [{name: a, where: {method: x}}]\n",
        "e.yaml:5:20: tables[0].where: selects no row",
    ),
    "a table of rows of other n": (
        "rows: [{method: fake-student}, {method: fake-teacher, sample: {n: 7}}]\n"
        "metrics: [fake-spread]\ntables: [{name: a}, {name: b, where: {method: fake-teacher}}, "
        "{name: c, columns: [label, nfe]}]\n",
        "e.yaml:6:10: tables[0]: a column never mixes samples of other n or prompts: FS has n 16, "
        "prompts e8c54361; Fake teacher has n 7, prompts e8c54361; make sample.n and "
        "sample.prompts agree, or part the rows with `where`",
    ),
    "two tables of one name": (
        "rows: [{method: fake-student}]\ntables: [{name: a}, {name: a}]\n",
        "e.yaml:5:22: tables[1].name: two tables are called 'a'",
    ),
    "curve without y": (
        "rows: [{method: fake-student}]\nfigures: [{name: a, kind: curve}]\nmetrics: "
        "[fake-spread]\n",
        "e.yaml:5:11: figures[0]: a curve needs y, a metric: fake-spread",
    ),
    "claim on an unknown metric": (
        "rows: [{method: fake-student}, {method: fake-teacher}]\nmetrics: [fake-spread]\n"
        "claims: [fake-student > fake-teacher on spread]\n",
        "e.yaml:6:10: claims[0]: claim 'fake-student > fake-teacher on spread': no metric "
        "'spread'; "
        "has: fake-spread. Did you mean 'fake-spread'?",
    ),
    "methods and rows": (
        "rows: [{method: fake-student}]\nmethods: [{method: fake-student}]\n",
        "e.yaml:5:1: methods: the same as rows (line 4); give one of them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", [name for name, (_, line) in CASES.items() if line])
def test_the_line_of_each_mistake(case: str, errors_of: Errors) -> None:
    text, line = CASES[case]
    assert errors_of(text) == [line]


# Lines that list what happens to be installed: their beginning and their guess.
@pytest.mark.parametrize(
    ("case", "begin", "end"),
    [
        ("unknown method", "e.yaml:4:9: rows[0].method: unknown method 'fake-studnet'; known",
         "Did you mean 'fake-student'?"),
        ("unknown alias", "e.yaml:4:31: rows[0].backbone: unknown backbone 'fake-pionts'; "
                          "aliases: b;",
         "Did you mean 'fake-points'?"),
        ("row without a method", "e.yaml:5:5: rows[0]: a row needs a method; known methods:",
         ""),
        ("unknown metric", "e.yaml:5:11: metrics[0]: unknown metric 'fake-spraed'; known metrics:",
         "Did you mean 'fake-spread'?"),
        ("unknown prompt set",
         "e.yaml:4:40: rows[0].sample.prompts: none.txt: cannot be read",
         ": No such file or directory"),
    ],
)  # fmt: skip
def test_mistakes_that_list_what_is_installed(
    case: str, begin: str, end: str, errors_of: Errors
) -> None:
    (line,) = errors_of(CASES[case][0])
    assert line.startswith(begin)
    assert line.endswith(end)


def test_a_missing_name_points_at_the_file(errors_of: Errors) -> None:
    assert errors_of("base: {method: fake-teacher, backbone: fake-points}\n", head="") == [
        "e.yaml:1:1: name: missing; an experiment needs it"
    ]


def test_a_name_that_is_no_file_name(errors_of: Errors) -> None:
    (line,) = errors_of("name: a/b\n", head="")
    assert line.startswith("e.yaml:1:1: name: 'a/b' cannot name an experiment")


def test_schema_and_plugin_mistakes_are_told_together(errors_of: Errors) -> None:
    lines = errors_of(
        "rows:\n  - {method: fake-student, nef: 4, params: {setps: 2}}\n"
        "  - {method: fake-stutent}\nmetrics: [fake-sperad]\ntables: [{nam: x}]\n"
    )
    assert [line.split(": ")[1] for line in lines] == [
        "tables[0].name", "tables[0].nam", "rows[0].nef", "rows[0].params.setps",
        "rows[1].method", "metrics[0]",
    ]  # fmt: skip


def test_a_mistake_in_base_is_told_once(errors_of: Errors) -> None:
    head = "name: t\nbase: {backbone: fake-points, params: {etta: 1}}\n"
    rows = "rows: [{method: fake-student}, {method: fake-student, nfe: 2}]\n"
    assert errors_of(rows, head=head) == [
        f"e.yaml:2:40: base.params.etta: unknown key. FS has: {STUDENT}. Did you mean 'eta'?"
    ]


def test_all_semantic_mistakes_are_told_together(errors_of: Errors) -> None:
    lines = errors_of(
        "rows: [{method: fake-student, nfe: 9}, {method: fake-real}]\nmetrics: [fake-sharp]\n"
        "exclude: [{method: nobody}, {etta: 1}]\n"
    )
    assert [line.split(": ")[1] for line in lines] == [
        "exclude[1].etta", "rows[0].nfe", "rows[1].method", "metrics[0]",
    ]  # fmt: skip


def test_the_error_knows_its_exit_code_and_problems(plan_of: Callable[..., object]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of("rows: [{method: fake-student, a: 1, b: 2}]\n")
    assert caught.value.exit_code == 2
    assert len(caught.value.problems) == 2
