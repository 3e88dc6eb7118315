"""Profiles and `--set`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distillbench.errors import ConfigError
from distillbench.experiment.load import load_experiment, profiles_of
from distillbench.plan.stage import Plan

Write = Callable[[str], Path]

TEXT = """\
name: t
base: {backbone: fake-points, train: {updates: 7, batch_size: 3}}
methods:
  - {method: fake-student, nfe: [4, 2]}
profiles:
  tiny:
    base: {train: {updates: 2}}
  paper:
    base: {train: {updates: 900}}
    methods:
      - {method: fake-teacher, label: T}
"""


def test_tiny_is_the_default_and_merges_deeply(write: Write) -> None:
    experiment = load_experiment(write(TEXT))
    assert experiment.base.train.updates == 2
    assert experiment.base.train.batch_size == 3
    assert [row["method"] for row in experiment.rows] == ["fake-student"]
    assert (experiment.profile, experiment.folder) == ("tiny", "t")


def test_a_named_profile_replaces_lists_and_has_its_own_folder(write: Write) -> None:
    experiment = load_experiment(write(TEXT), profile="paper")
    assert experiment.base.train.updates == 900
    assert [row["label"] for row in experiment.rows] == ["T"]
    assert experiment.folder == "t-paper"
    assert profiles_of(Path("e.yaml")) == ["tiny", "paper"]


def test_a_profile_may_extend_another(write: Write) -> None:
    more = "  long: {extends: tiny, base: {train: {updates: 77}}, seeds: [5]}\n"
    plain, longer = (load_experiment(write(TEXT + more), profile=p) for p in ("tiny", "long"))
    assert (longer.base.train.updates, longer.seeds) == (77, [5])
    assert longer.base.backbone == plain.base.backbone
    assert longer.folder == "t-long"


@pytest.mark.parametrize(("name", "what"), [("loop", "itself"), ("papier", "no profile")])
def test_a_profile_that_extends_nothing(write: Write, name: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(write(TEXT + f"  loop: {{extends: {name}}}\n"), profile="loop")
    assert f"extends '{name}', which is {what}; other profiles: tiny, paper." in str(caught.value)


def test_without_profiles_the_file_stands(write: Write) -> None:
    experiment = load_experiment(write(TEXT.partition("profiles:")[0]))
    assert experiment.base.train.updates == 7
    assert experiment.profile == ""


def test_an_unknown_profile(write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(write(TEXT), profile="papier")
    assert str(caught.value) == (
        "e.yaml: --profile papier: unknown profile; the file has: tiny, paper. "
        "Did you mean 'paper'?"
    )


def test_a_mistake_in_a_profile_points_into_it(write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(write(TEXT.replace("updates: 900", "updatse: 900")), profile="paper")
    (line,) = caught.value.problems
    assert line.startswith("e.yaml:9:20: profiles.paper.base.train.updatse: unknown key. ")


def test_overrides_reach_mappings_lists_and_what_is_not_written(write: Write) -> None:
    sets = ("base.train.updates=5", "rows.0.nfe=[1]", "seeds=[3, 4]", "methods.0.params.eta=1e-2",
            "base.data.prompts=gmm-eval", "rows.0.tags.kind=new")  # fmt: skip
    experiment = load_experiment(write(TEXT), sets=sets)
    assert experiment.base.train.updates == 5
    assert experiment.base.data.prompts == "gmm-eval"
    assert experiment.seeds == [3, 4]
    assert experiment.rows[0] == {
        "method": "fake-student", "nfe": [1], "params": {"eta": 0.01}, "tags": {"kind": "new"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("base.train.updatse=5", "--set base.train.updatse=5: base.train.updatse: unknown key. "
                               "'base.train' "
         "has: updates, batch_size, accumulate, precision, lr_scale, processes, merge_adapters, "
         "compile, optimizer, shard, save_every. "
         "Did you mean 'updates'?"),
        ("rows.3.nfe=1", "--set rows.3.nfe=1: 3 is no index of a list with entries 0..0"),
        ("rows.0.method.x=1", "--set rows.0.method.x=1: 'fake-student' is a value, not a "
                              "mapping; it "
         "has no 'x'"),
        ("seeds", "--set seeds: an override is a.b=value, e.g. base.train.updates=100"),
        ("a..b=1", "--set a..b=1: an override is a.b=value, e.g. base.train.updates=100"),
        ("seeds=[1", "--set seeds=[1:1:3: not valid YAML: expected ',' or ']', but got "
         "'<stream end>'"),
        ("seeds=[-1]", "--set seeds=[-1]: seeds[0]: input should be greater than or equal to 0, "
         "got -1."),
    ],
)  # fmt: skip
def test_wrong_overrides(write: Write, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(write(TEXT), sets=[text])
    assert [part.replace(f"--set {text}: --set", "--set") for part in caught.value.problems] == [
        line
    ]


def test_a_wrong_parameter_by_override_names_the_option(
    errors_of: Callable[..., list[str]],
) -> None:
    (line,) = errors_of("rows: [{method: fake-student}]\n", sets=["base.params.etta=1"])
    assert line.startswith("--set base.params.etta=1: base.params.etta: unknown key. FS has: ")


def test_each_profile_has_its_own_plan(plan_of: Callable[..., Plan]) -> None:
    tiny, paper = plan_of(TEXT, head=""), plan_of(TEXT, head="", profile="paper")
    assert (tiny.name, paper.name) == ("t", "t-paper")
    assert len({cell.row for cell in tiny.cells}) == 2
    assert [cell.title for cell in paper.cells] == ["Fake teacher"]


def test_what_a_profile_replaces_must_be_right_too(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(
        "name: t\nreference: 3\nseeds: [x]\n"
        "profiles: {tiny: {reference: {method: teacher}, seeds: [0]}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_experiment(file)
    lines = caught.value.line.splitlines()
    assert sorted(line.split(": ", 2)[1] for line in lines) == ["reference", "seeds[0]"]
