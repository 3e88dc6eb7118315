"""Text encodings on disk: read back bit for bit, and made anew when anything of them is not so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from distillbench.api.backbone import Cond
from distillbench.backbones._text import TextCache


class Encoder:
    """Counts what it encodes."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[str]) -> Cond:
        self.asked += prompts
        rows = [torch.tensor([float(len(p)), float(ord(p[0]))]) for p in prompts]
        return Cond({"embeds": torch.stack(rows)})


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILLBENCH_CACHE", str(tmp_path))
    return tmp_path


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "text").rglob("*.safetensors"))


def test_what_is_on_disk_is_not_encoded_again(cache_folder: Path) -> None:
    first, second = Encoder(), Encoder()
    made = TextCache(first, "e", "cpu")(["one", "two"])
    read = TextCache(second, "e", "cpu")(["one", "two"])
    assert (first.asked, second.asked) == (["one", "two"], [])
    assert torch.equal(made.tensors["embeds"], read.tensors["embeds"])


def _flip(at: int) -> Callable[[bytes], bytes]:
    def flip(text: bytes) -> bytes:
        place = at % len(text)
        return text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]

    return flip


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda text: b"",
    "cut": lambda text: text[:-3],
    "longer": lambda text: text + b"\0",
    "no seal": lambda text: text.partition(b"\n")[2],
    "not ours": lambda text: b"something else\n",
    **{f"bit of byte {at}": _flip(at) for at in (0, 40, 63, 64, 65, 72, 90, 120, -8, -1)},
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_is_made_anew(cache_folder: Path, kind: str) -> None:
    true = TextCache(Encoder(), "e", "cpu")(["one"]).tensors["embeds"]
    (path,) = entries(cache_folder)
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[kind](whole))
    again = Encoder()
    assert torch.equal(TextCache(again, "e", "cpu")(["one"]).tensors["embeds"], true)
    assert again.asked == ["one"]
    assert path.read_bytes() == whole


def test_the_entry_of_another_prompt_or_encoder_is_not_taken(cache_folder: Path) -> None:
    TextCache(Encoder(), "e", "cpu")(["one", "three"])
    one, three = entries(cache_folder)
    one.write_bytes(three.read_bytes())
    again = Encoder()
    TextCache(again, "e", "cpu")(["one", "three"])
    assert len(again.asked) == 1
    other = Encoder()
    TextCache(other, "another", "cpu")(["one"])
    assert other.asked == ["one"]
