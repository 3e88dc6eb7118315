"""What HPSv3's network is asked: the text of its package, read without running it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from pathlib import Path

from distillbench.errors import BadInput

__all__ = ["PICTURE", "QUESTION", "REWARD", "asked", "digest", "question", "reserved"]

QUESTION = "data_collator_qwen.py"
"""The file of the package hpsv3 (in its folder dataset) that holds the question."""
PARTS = "INSTRUCTION", "prompt_with_special_token"
BLANK = "{text_prompt}"
REWARD = "<|Reward|>"
PICTURE = "<|image_pad|>"


def question(folder: Path) -> str:
    """The question with a blank for the prompt.

    Two texts of the package one behind the other, as it joins them.

    Raises:
        BadInput: the file is missing, is no Python, or lacks a text.
    """
    path = folder / QUESTION
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        where = f"put {QUESTION} of the package hpsv3 (folder dataset) there"
        raise BadInput(f"no {path}", hint=where) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    found = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    if lacking := [name for name in PARTS if name not in found]:
        raise BadInput(f"{path} lacks the text {lacking[0]}")
    text = "".join(found[name] for name in PARTS)
    for word in (BLANK, REWARD):
        if text.count(word) != 1:
            raise BadInput(f"{path}: its texts hold {word} {text.count(word)} times, not once")
    return text


def digest(text: str) -> str:
    """sha256 of a question."""
    return hashlib.sha256(text.encode()).hexdigest()


def asked(text: str, prompt: str) -> str:
    """The question about one prompt, whatever braces that holds."""
    return text.replace(BLANK, prompt)


def reserved(prompts: Sequence[str]) -> str:
    """What is wrong with the first prompt that holds a word by which a reward is read, or ""."""
    for number, prompt in enumerate(prompts):
        for word in (REWARD, PICTURE):
            if word in prompt:
                return f"prompt {number} holds {word}, a word of HPSv3's own"
    return ""
