"""HPSv3's network on transformers' Qwen2-VL: its files, its input, the reward of a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

from distillbench.api.metric import Samples
from distillbench.errors import BadInput
from distillbench.score.features import read_state
from distillbench.score.precision import Precision
from distillbench.score.progress import ahead
from distillbench.score.question import PICTURE, REWARD, asked, reserved

__all__ = ["AREA", "Judge", "judge"]

AREA = 256 * 28 * 28
"""Pixels that every picture is resized to, or somewhat more or less: sides are whole patches."""
BATCH = 4
HEAD = (0, 3, 5)  # the linear layers; ReLU between them, a dropout behind the first
HEAD_NAME, TEXT_NAME = "rm_head.", "embed_tokens.weight"


class Judge:
    """Rewards of pictures and prompts by a Qwen2-VL (arXiv 2409.12191) with a head of its own.

    The hidden state at a token of its own goes through the head, whose first output is the mean of
    a preference's law, and the score; the second is about its spread. Tokens count 0, 1, 2, ...,
    those of the picture too, as in the package: Qwen2-VL's own positions in three dimensions would
    give other, plausible numbers.

    Args:
        checkpoint: HPSv3.safetensors, with config.json, tokenizer.json and tokenizer_config.json
            of Qwen2-VL beside it.
        text: what it is asked, with a blank for the prompt (`question`).
        device: where it runs.
        precision: what the network is held in; the head is in float32.

    Raises:
        BadInput: a file is missing or is not what it must be.
    """

    def __init__(
        self, checkpoint: Path, text: str, device: str = "cpu", precision: Precision = "float32"
    ) -> None:
        self.text = text
        state = _state(checkpoint)
        self.head = _head(state, checkpoint, device)
        rows = _rows(state, checkpoint)
        self.words, self.reward = _words(checkpoint.parent, rows)
        self.net: Any = _network(state, rows, checkpoint, precision).to(device)
        self.eye, self.device = _eye(self.net.config.vision_config), device

    @torch.no_grad()
    def rewards(self, samples: Samples) -> list[float]:
        """One a sample. Raises BadInput for a prompt that holds a word of the network's own."""
        if problem := reserved(samples.prompts):
            raise BadInput(problem, hint="take it out of the prompt")
        values: list[float] = []
        for part, seen in ahead(lambda p: self._seen(samples.data[p]), len(samples), BATCH):
            ids = self._read(samples.prompts[part], seen["image_grid_thw"])
            positions = torch.arange(ids.shape[1], device=self.device).expand(3, *ids.shape)
            hidden = self.net(
                input_ids=ids, position_ids=positions, use_cache=False,
                **{name: value.to(self.device) for name, value in seen.items()},
            ).last_hidden_state  # fmt: skip
            values += self._valued(hidden[ids == self.reward].float()).tolist()
        return values

    def _seen(self, pictures: Tensor) -> dict[str, Tensor]:
        shown = list(pictures.permute(0, 3, 1, 2).numpy())
        return dict(self.eye(shown, return_tensors="pt", input_data_format="channels_first"))

    def _read(self, prompts: Sequence[str], grids: Tensor) -> Tensor:
        """Numbers of tokens (n, tokens), filled up behind.

        No token sees a later one, so that what fills up needs no mask: attention without one takes
        memory that grows with the length of a prompt and not with its square.
        """
        merged = self.net.config.vision_config.spatial_merge_size**2
        places = (grids.prod(dim=1) // merged).tolist()
        texts = [self._told(p).replace(PICTURE, PICTURE * n) for p, n in zip(prompts, places)]
        coded = self.words(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        ids: Tensor = coded["input_ids"]
        return ids.to(self.device)

    def _told(self, prompt: str) -> str:
        text = {"type": "text", "text": asked(self.text, prompt)}
        message = {"role": "user", "content": [{"type": "image"}, text]}
        told: str = self.words.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True
        )
        return told

    def _valued(self, hidden: Tensor) -> Tensor:
        for weight, bias in self.head[:-1]:
            hidden = relu(linear(hidden, weight, bias))
        return linear(hidden, *self.head[-1])[:, 0]


@lru_cache(maxsize=1)
def judge(
    checkpoint: Path, text: str, device: str = "cpu", precision: Precision = "float32"
) -> Judge:
    """The process's one network of a checkpoint."""
    return Judge(checkpoint, text, device, precision)


def _state(checkpoint: Path) -> dict[str, Tensor]:
    """Tensors of the checkpoint by today's names of transformers, without the language's head.

    Up to transformers 4.51 the language model was `model` and the vision model `visual`.
    """
    state = read_state(checkpoint)
    named = {}
    for name in list(state):
        value = state.pop(name)
        if not name.startswith("lm_head."):
            named[_renamed(name)] = value
    return named


def _renamed(name: str) -> str:
    if name.startswith(("visual.", HEAD_NAME)):
        return name
    inner = name.removeprefix("model.")
    return inner if inner.startswith(("visual.", "language_model.")) else f"language_model.{inner}"


def _head(state: dict[str, Tensor], path: Path, device: str) -> list[tuple[Tensor, Tensor]]:
    try:
        return [
            (state.pop(f"{HEAD_NAME}{i}.weight").float().to(device),
             state.pop(f"{HEAD_NAME}{i}.bias").float().to(device))
            for i in HEAD
        ]  # fmt: skip
    except KeyError as error:
        raise BadInput(f"{path} is no HPSv3 checkpoint: it lacks {error.args[0]}") from None


def _rows(state: dict[str, Tensor], path: Path) -> int:
    """Words that the network knows; the configuration beside it counts more."""
    name = f"language_model.{TEXT_NAME}"
    if name not in state:
        raise BadInput(f"{path} is no HPSv3 checkpoint: it lacks {name}")
    return len(state[name])


def _words(folder: Path, rows: int) -> tuple[Any, int]:
    """Qwen2-VL's tokenizer with its form of a conversation, and the number of the reward's word."""
    from transformers import PreTrainedTokenizerFast

    form = _json(folder / "tokenizer_config.json").get("chat_template")
    if not isinstance(form, str):
        raise BadInput(f"{folder / 'tokenizer_config.json'} has no chat_template")
    path = folder / "tokenizer.json"
    _json(path)
    try:
        words = PreTrainedTokenizerFast(
            tokenizer_file=str(path), chat_template=form, padding_side="right",
            pad_token="<|endoftext|>",
        )  # fmt: skip
    except Exception as error:  # the library raises plain Exception
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
    words.add_special_tokens({"additional_special_tokens": [REWARD]})
    if len(words) != rows:
        raise BadInput(f"{path} has {len(words)} words with {REWARD}, the checkpoint {rows}")
    return words, int(words.convert_tokens_to_ids(REWARD))


def _network(state: dict[str, Tensor], rows: int, path: Path, precision: Precision) -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLModel

    config = Qwen2VLConfig.from_dict(_json(path.parent / "config.json"))
    config.text_config.vocab_size = rows
    try:
        net, told = Qwen2VLModel.from_pretrained(
            None, config=config, state_dict=state, dtype=getattr(torch, precision),
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise BadInput(f"{path} does not fit its network: {line}") from None
    for what, word in (("missing_keys", "lacks"), ("unexpected_keys", "has")):
        if told[what]:
            raise BadInput(f"{path} does not fit its network: it {word} {sorted(told[what])[0]}")
    return net.eval().requires_grad_(False)


def _eye(vision: Any) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": AREA, "longest_edge": AREA}, patch_size=vision.patch_size,
        temporal_patch_size=vision.temporal_patch_size, merge_size=vision.spatial_merge_size,
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"no {path}", hint="put that file of Qwen2-VL-7B-Instruct there") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} is no JSON object")
    return found
