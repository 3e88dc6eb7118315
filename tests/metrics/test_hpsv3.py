"""HPSv3 against a plain forward pass of transformers' own classes, on a random Qwen2-VL."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distillbench.api.metric import Samples
from distillbench.api.registry import METRICS, build_metric
from distillbench.errors import BadInput
from distillbench.score.evaluate import evaluate


@pytest.fixture
def folder(hub: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(hub / "judge", tmp_path / "judge"))


def scored(folder: Path, samples: Samples, **params: Any) -> list[float]:
    metric = build_metric("hpsv3", {"weights": str(folder), **params})
    return list(evaluate(metric, samples).per_sample[""])


class Plain:
    """The package's steps one by one, a picture and its prompt at a time."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        self.words = AutoTokenizer.from_pretrained(folder)
        self.words.add_special_tokens({"additional_special_tokens": ["<|Reward|>"]})
        state = load_file(folder / "HPSv3.safetensors")
        self.head = nn.Sequential(
            nn.Linear(32, 12), nn.ReLU(), nn.Dropout(0.05), nn.Linear(12, 6), nn.ReLU(),
            nn.Linear(6, 2),
        ).eval()  # fmt: skip
        own = {k.removeprefix("rm_head."): state.pop(k) for k in list(state) if "rm_head" in k}
        self.head.load_state_dict(own)
        config = json.loads((folder / "config.json").read_text())
        config["vocab_size"] = len(self.words)
        self.net, told = Qwen2VLForConditionalGeneration.from_pretrained(
            None, config=Qwen2VLConfig.from_dict(config), state_dict=state,
            output_loading_info=True,
        )  # fmt: skip
        assert not told["missing_keys"]
        assert not told["unexpected_keys"]
        self.eye = Qwen2VLImageProcessorPil()
        tree = ast.parse((folder / "data_collator_qwen.py").read_text())
        self.question = "".join(
            ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign)
        )

    def inputs(self, picture: Tensor, size: tuple[int, int], prompt: str) -> dict[str, Tensor]:
        shown = Image.fromarray(picture.numpy()).resize(size, Image.Resampling.BICUBIC)
        seen = self.eye([shown], return_tensors="pt")
        count = size[0] * size[1] // 28**2
        text = self.words.apply_chat_template(
            [{"role": "user", "content": [
                {"type": "image"},
                {"type": "text", "text": self.question.format(text_prompt=prompt)},
            ]}],
            tokenize=False, add_generation_prompt=True,
        )  # fmt: skip
        text = text.replace("<|image_pad|>", "<|image_pad|>" * count)
        return {"input_ids": self.words(text, return_tensors="pt")["input_ids"], **seen}

    @torch.no_grad()
    def reward(self, given: dict[str, Tensor]) -> float:
        inner, ids = self.net.model, given["input_ids"]
        embedded = inner.language_model.embed_tokens(ids)
        seen = inner.visual(given["pixel_values"], grid_thw=given["image_grid_thw"]).pooler_output
        there = (ids == self.net.config.image_token_id).unsqueeze(-1).expand_as(embedded)
        embedded = embedded.masked_scatter(there, seen)
        hidden = inner.language_model(inputs_embeds=embedded).last_hidden_state
        return self._read(ids, hidden)

    @torch.no_grad()
    def reward_by_three_positions(self, given: dict[str, Tensor]) -> float:
        kinds = (given["input_ids"] == self.net.config.image_token_id).int()
        hidden = self.net.model(**given, mm_token_type_ids=kinds).last_hidden_state
        return self._read(given["input_ids"], hidden)

    def _read(self, ids: Tensor, hidden: Tensor) -> float:
        at = ids == self.words.convert_tokens_to_ids("<|Reward|>")
        return float(self.head(hidden[at])[0, 0])


def test_rewards_are_those_of_a_plain_forward_pass(hub: Path, pictures: Samples) -> None:
    """Prompts of other lengths share a batch."""
    prompts = ["a", "two {cats} in 100 % sun", "", "狐の絵", *pictures.prompts[4:]]
    samples = replace(pictures, prompts=prompts)
    plain = Plain(hub / "judge")
    given = [plain.inputs(p, (560, 392), t) for p, t in zip(samples.data, prompts, strict=True)]
    expected = [plain.reward(g) for g in given]
    found = scored(hub / "judge", samples)
    assert max(expected) - min(expected) > 0.01
    assert found == pytest.approx(expected, abs=2e-5)
    others = [plain.reward_by_three_positions(g) for g in given]
    assert max(abs(a - b) for a, b in zip(found, others, strict=True)) > 1e-3


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(512, 512, (448, 448)), (448, 448, (448, 448)), (1, 1, (448, 448)), (7, 900, (5096, 56))],
)
def test_pictures_become_whole_patches_of_one_area(
    hub: Path, height: int, width: int, size: tuple[int, int]
) -> None:
    from distillbench.score.judge import judge
    from distillbench.score.question import question

    eye = judge(hub / "judge" / "HPSv3.safetensors", question(hub / "judge")).eye
    seen = eye([torch.zeros(3, height, width, dtype=torch.uint8).numpy()], return_tensors="pt")
    assert seen["image_grid_thw"].tolist() == [[1, size[1] // 14, size[0] // 14]]


def test_todays_names_are_read_too(hub: Path, folder: Path, pictures: Samples) -> None:
    before = scored(hub / "judge", pictures)
    path = folder / "HPSv3.safetensors"
    state = load_file(path)
    save_file({_today(k): v for k, v in state.items()}, path)
    assert scored(folder, pictures) == before


def _today(name: str) -> str:
    if name.startswith("visual."):
        return f"model.{name}"
    return name.replace("model.", "model.language_model.") if name.startswith("model.") else name


def test_long_and_foreign_prompts_and_thin_pictures(hub: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    data = torch.randint(0, 256, (3, 2, 90, 3), generator=rng).to(torch.uint8)
    prompts = ["x" * 400, "عربي 한국어 \U0001f98a <|im_end|>", ""]
    values = scored(hub / "judge", Samples(data, prompts, [""] * 3, 0))
    assert len(set(values)) == 3


def test_samples_too_long_do_not_fit(hub: Path) -> None:
    metric = build_metric("hpsv3", {"weights": str(hub / "judge")})
    assert not metric.misfit(10, 2000)
    assert "200 times their short side, not 2001x10" in metric.misfit(10, 2001)


@pytest.mark.parametrize("word", ["<|Reward|>", "<|image_pad|>"])
def test_prompts_with_the_networks_words_are_refused(
    hub: Path, pictures: Samples, word: str
) -> None:
    samples = replace(pictures, prompts=[*pictures.prompts[:5], f"a {word}"])
    metric = build_metric("hpsv3", {"weights": str(hub / "judge")})
    (line,) = [n.line for n in metric.requirements(6, samples.prompts) if n.problem]
    assert f"prompt 5 holds {word}" in line
    with pytest.raises(BadInput, match="prompt 5 holds"):
        evaluate(metric, samples)


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        state = load_file(folder / "HPSv3.safetensors")
        change(state)
        save_file(state, folder / "HPSv3.safetensors")

    return changed


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def removed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


ROWS = "model.embed_tokens.weight"
BROKEN = [
    (removed("data_collator_qwen.py"), "no .*data_collator_qwen.py"),
    (written("data_collator_qwen.py", "INSTRUCTION = ("), "data_collator_qwen.py cannot be read"),
    (written("data_collator_qwen.py", "INSTRUCTION = 'a {text_prompt}'"),
     "lacks the text prompt_with_special_token"),
    (written("data_collator_qwen.py",
             "INSTRUCTION = 'a'\nprompt_with_special_token = '<|Reward|>'"),
     r"hold \{text_prompt\} 0 times"),
    (removed("config.json"), "no .*config.json"),
    (written("config.json", "[]"), "config.json is no JSON object"),
    (written("tokenizer.json", "{"), "tokenizer.json cannot be read"),
    (written("tokenizer.json", "{}"), "tokenizer.json"),
    (written("tokenizer_config.json", "{}"), "has no chat_template"),
    (tensors(lambda s: s.update({ROWS: s[ROWS][:-1].clone()})), "272 words .* the checkpoint 271"),
    (tensors(lambda s: s.pop("rm_head.3.bias")), "no HPSv3 checkpoint: it lacks rm_head.3.bias"),
    (tensors(lambda s: s.pop(ROWS)), "no HPSv3 checkpoint"),
    (tensors(lambda s: s.pop("visual.merger.mlp.0.weight")), "lacks visual.merger.mlp.0.weight"),
    (tensors(lambda s: s.update(odd=torch.zeros(1))), "has language_model.odd"),
    (tensors(lambda s: s.update({"model.norm.weight": torch.zeros(3)})), "does not fit"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), BROKEN)
def test_what_is_no_hpsv3_is_one_line(
    folder: Path, change: Callable[[Path], object], says: str
) -> None:
    change(folder)
    with pytest.raises(BadInput, match=says) as raised:
        build_metric("hpsv3", {"weights": str(folder)}).load()
    assert "\n" not in str(raised.value)


def test_a_question_of_ones_own_has_its_own_key(folder: Path, pictures: Samples) -> None:
    before = build_metric("hpsv3", {"weights": str(folder)})
    told = evaluate(before, pictures).protocol
    old = before.revision()
    path = folder / "data_collator_qwen.py"
    path.write_text("# of another version\n" + path.read_text())
    assert build_metric("hpsv3", {"weights": str(folder)}).revision() == old
    path.write_text(path.read_text().replace("How good", "How bad"))
    after = build_metric("hpsv3", {"weights": str(folder)})
    assert after.revision() != old
    assert evaluate(after, pictures).protocol["question"] != told["question"]


def test_the_published_network_is_asked_the_published_question(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Samples
) -> None:
    monkeypatch.setenv("DISTILLBENCH_DATA", str(tmp_path))
    place = tmp_path / "weights" / "hpsv3"
    shutil.copytree(folder, place)
    metric = build_metric("hpsv3", {})
    with pytest.raises(BadInput, match="asks another question"):
        metric.load()
    module = import_module(METRICS.get("hpsv3").__module__)
    digest = str(
        evaluate(build_metric("hpsv3", {"weights": str(place)}), pictures).protocol["question"]
    )
    found = import_module("distillbench.score.question").question(place)
    monkeypatch.setattr(module, "ASKED", import_module("distillbench.score.question").digest(found))
    assert module.ASKED.startswith(digest)
    assert evaluate(metric, pictures).protocol["weights"] == "hpsv3"
