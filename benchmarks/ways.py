"""Ways in which a disk or a hand alters a file."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["DAMAGES", "damage"]

Damage = Callable[[bytes, random.Random], bytes | None]


def flip_bit(raw: bytes, chance: random.Random) -> bytes:
    """One bit somewhere."""
    changed = bytearray(raw)
    changed[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def change_digit(raw: bytes, chance: random.Random) -> bytes:
    """One digit of a number, as long as there is one."""
    places = [i for i, byte in enumerate(raw) if chr(byte).isdigit() and byte < 128]
    if not places:
        return flip_bit(raw, chance)
    changed, place = bytearray(raw), chance.choice(places)
    changed[place] = ord(str((int(chr(raw[place])) + chance.randrange(1, 10)) % 10))
    return bytes(changed)


DAMAGES: Mapping[str, Damage] = {
    "bit": flip_bit,
    "digit": change_digit,
    "last byte": lambda raw, chance: raw[:-1] + bytes([raw[-1] ^ 1]),
    "cut by a byte": lambda raw, chance: raw[:-1],
    "cut by half": lambda raw, chance: raw[: len(raw) // 2],
    "emptied": lambda raw, chance: b"",
    "deleted": lambda raw, chance: None,
}


def damage(path: Path, how: str, chance: random.Random) -> None:
    """Damage a file in one of the ways of `DAMAGES`."""
    changed = DAMAGES[how](path.read_bytes(), chance)
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed)
