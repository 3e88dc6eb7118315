"""Lengths of prompts in tokens, by a pipeline's own tokenizer files and without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["counter"]

CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
ENDS = 2
Count = Callable[[Sequence[str]], list[int]]


def counter(folder: Path) -> Count | None:
    """Counts the tokens of prompts, the two at the ends included; None for an unknown tokenizer.

    Reads `tokenizer.json`, or the `vocab.json` and `merges.txt` of CLIP (arXiv 2103.00020).
    """
    try:
        if (folder / "tokenizer.json").is_file():
            return _counts(_whole(folder / "tokenizer.json"), 0)
        if (folder / "merges.txt").is_file():
            return _counts(_clip(folder), ENDS)
    except Exception:  # the library raises plain Exception; loading the pipeline will say more
        return None
    return None


def _counts(tokenizer: Any, ends: int) -> Count:
    def count(prompts: Sequence[str]) -> list[int]:
        return [len(found.ids) + ends for found in tokenizer.encode_batch(list(prompts))]

    return count


def _whole(path: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _clip(folder: Path) -> Any:
    """CLIP's byte-pair encoding: lower case, blanks joined, words split by kind of character."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    pairs = [line.split() for line in lines if line and not line.startswith("#version")]
    merges = [(one, two) for one, two in pairs]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>",
                   continuing_subword_prefix="", fuse_unk=False)
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase(),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    return tokenizer
