"""A student beside other weights: a row, the command line and Python give the same pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import distillbench
from distillbench.api import registry
from distillbench.data.prompts import load_prompts
from distillbench.errors import BadInput, ConfigError
from distillbench.store.runs import sampled_rows

HELPERS = str(Path(__file__).parent.parent / "backbones/published.py")
made: Any = SourceFileLoader("published", HELPERS).load_module()
small: Any = SourceFileLoader("steering", HELPERS.replace("published", "steering")).load_module()
Cli = Callable[..., Any]
N = 2
EXPERIMENT: dict[str, Any] = {
    "name": "there",
    "base": {"backbone": "tiny-sd", "train": {"updates": 1, "batch_size": 2},
             "sample": {"n": N, "prompts": "world-eval"}, "nfe": 2},
    "rows": [
        {"label": "Photos", "method": "sft", "data": {"prompts": "world-train:photo"},
         "params": {"lr": 0.05}},
        {"label": "Home", "method": "tdm"},
        {"label": "Away", "method": "tdm", "sample_on": "Photos"},
        {"label": "Styled", "method": "tdm", "sample_on": "Photos",
         "adapters": [{"weights": "style.safetensors", "scale": 0.5}]},
        {"label": "Steered", "method": "tdm", "control": [{"weights": "net", "images": "shown"}]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of that experiment, and the style that a row of it names."""
    root = tmp_path_factory.mktemp("there")
    backbone: Any = registry.build_backbone("tiny-sd", {})
    backbone.load()
    net: Any = backbone.make_net("none", "copy")
    layers = made.layers_of(net.module, seed=5, most=9)
    save_file(made.kohya(layers), root / "style.safetensors")
    times = backbone.image_size()[0] // backbone.latent_shape[-1]
    small.control_net(net.module, root / "net", times=times)
    small.pictures(root / "shown", N)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        distillbench.run(EXPERIMENT, workers=1)
    return root


@pytest.fixture
def there(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Label -> cell of the plan; the working folder is that of the results."""
    monkeypatch.chdir(root)
    cells = json.loads((root / "results/there/plan.json").read_text())["cells"]
    return {cell["label"]: cell for cell in cells}


def kept(cell: Any) -> np.ndarray:
    """What the row's sample stage drew."""
    folder = Path("results/store/sample", cell["sample"])
    (tensors,) = (load_file(path) for path in folder.glob("*.safetensors"))
    (pictures,) = tensors.values()
    return pictures.numpy().astype(int)


def pictures(files: list[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)).astype(int) for file in files])


def prompts() -> list[str]:
    return list(load_prompts("world-eval").prompts[:N])


STYLE = [{"weights": "style.safetensors", "scale": 0.5}]
WORDS = [
    ("Home", {}),
    ("Away", {"sample_on": "Photos"}),
    ("Styled", {"sample_on": "Photos", "adapters": STYLE}),
    ("Steered", {"control": [{"weights": "net", "images": "shown"}]}),
]


@pytest.mark.parametrize(("label", "words"), WORDS)
def test_pictures_are_those_of_the_row(
    cli: Cli, there: dict[str, Any], tmp_path: Path, label: str, words: dict[str, Any]
) -> None:
    """By the name of the row, by --row, and by its words; on both doors."""
    own, others = kept(there[label]), [kept(there[n]) for n in ("Home", "Away") if n != label]
    assert all(np.abs(own - other).max() > 8 for other in others)
    said = {k: there[v]["train"] if k == "sample_on" else v for k, v in words.items()}
    sets = [f"--set={key}={json.dumps(value)}" for key, value in said.items()]
    train, asked = there[label]["train"], [f"--prompt={p}" for p in prompts()]
    ways = [[f"there:{label}:seed0"], [train, "--row", label], [train, "--nfe", "2", *sets]]
    for number, way in enumerate(ways):
        answer = cli("sample", *way, *asked, "-o", str(tmp_path / str(number)), "--json")
        assert answer.code == 0, answer.err
        assert np.abs(pictures(answer.json["files"]) - own).max() <= 1
    doors = [distillbench.load_student(f"there:{label}:seed0").sample(prompts()),
             distillbench.load_student(train, row=label).sample(prompts()),
             distillbench.load_student(train, **said).sample(prompts(), nfe=2)]  # fmt: skip
    for door in doors:
        assert np.abs(np.stack([np.asarray(p) for p in door]) - own).max() <= 1


def test_other_numbers_of_evaluations_keep_the_base(
    cli: Cli, there: dict[str, Any], tmp_path: Path
) -> None:
    drawn = []
    for label in ("Home", "Styled"):
        way = ["sample", f"there:{label}:seed0", "--nfe", "1", "--prompt", prompts()[0]]
        answer = cli(*way, "-o", str(tmp_path / label), "--json")
        assert answer.json["nfe"] == 1
        drawn.append(pictures(answer.json["files"]))
    assert np.abs(drawn[0] - drawn[1]).max() > 8


def test_an_export_is_the_network_that_the_row_is_sampled_with(
    cli: Cli, there: dict[str, Any], tmp_path: Path
) -> None:
    """Nobody else has its base, so that no adapter could carry it."""
    import diffusers

    out = tmp_path / "out"
    assert cli("export", "there:Styled:seed0", "-o", str(out)).code == 0
    theirs = diffusers.UNet2DConditionModel.from_pretrained(out / "unet")
    student = distillbench.load_student("there:Styled:seed0").student
    backbone = student.method.backbone
    cond = backbone.encode(prompts())
    x = torch.randn(N, *backbone.latent_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = backbone.predict(student.net, x, torch.tensor([499]), cond).raw
        output = theirs(x, 499, encoder_hidden_states=cond.tensors["tokens"]).sample
    torch.testing.assert_close(ours, output, rtol=0, atol=1e-4)


def test_rows_that_are_placed_otherwise_are_told(cli: Cli, there: dict[str, Any]) -> None:
    folder = Path("results/store/train", there["Home"]["train"])
    assert sorted(row.label for row in sampled_rows(folder)) == [
        "Away",
        "Home",
        "Steered",
        "Styled",
    ]
    answer = cli("sample", there["Home"]["train"], "--prompt", prompts()[0], "--nfe=2", "-o", "s")
    assert "(nothing beside it); of its stored rows " in answer.err
    assert "Away has onto " in answer.err
    assert "adapters style.safetensors" in answer.err


def test_prompts_of_ones_own_want_pictures_of_their_own(
    cli: Cli, there: dict[str, Any], tmp_path: Path
) -> None:
    """A row's pictures are of the prompts that it sampled."""
    third = load_prompts("world-eval").prompts[N]
    way = ["sample", "there:Steered:seed0", "--prompt", third, "-o", str(tmp_path / "s")]
    answer = cli(*way)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"no picture for the prompt {third!r}, which the row did not sample" in answer.err
    words = json.dumps([{"weights": "net", "images": "shown/1.png"}])
    assert cli(*way, f"--set=control={words}").code == 0
    assert cli("export", "there:Steered:seed0", "-o", str(tmp_path / "out")).code == 0
    limits = json.loads((tmp_path / "out/recipe.json").read_text())["limits"]
    assert "control" in limits


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"adapter": []}, "adapter: no word of a sample; there are sample_on, adapters, "),
        ({"adapters": [{"weights": "gone.safetensors"}]}, "no weights in gone.safetensors"),
        ({"adapters": [{"weights": "x", "scale": "much"}]}, "adapters[0].scale"),
        ({"adapters": [{"weights": "a/b:c.safetensors"}]}, "hf download a/b c.safetensors"),
        ({"control": [{"weights": "net", "images": "./gone"}]}, "images: no folder gone"),
        ({"control": [{"weights": "net", "images": "gone"}]}, "no folder "),
        ({"sample_on": "gmm"}, "of another process than"),
        ({"sample_on": "tiny-sdd"}, "sample_on tiny-sdd: no training, and no backbone"),
        ({"sample_on": "there:Nobody:seed0"}, "no such row and seed in there"),
    ],
)
def test_bad_words_are_one_line(
    cli: Cli, there: dict[str, Any], words: dict[str, Any], told: str
) -> None:
    sets = [f"--set={key}={json.dumps(value)}" for key, value in words.items()]
    for command in (["sample", "--prompt", prompts()[0]], ["export"]):
        answer = cli(*command, there["Home"]["train"], *sets, "-o", "nowhere")
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert told in answer.err
    with pytest.raises((BadInput, ConfigError)):
        distillbench.load_student(there["Home"]["train"], **words)
    assert not Path("nowhere").exists()
