"""Settings of pipelines changed one at a time: each must be honoured or refused, never ignored.

Every key of every JSON file of a random pipeline of each family is deleted, set to null, to another
type and to other values, and keys that nobody knows are added. Planning answers each; what it
accepts is loaded (all of it with --all, else some), and the library must then hold the very value.

    python benchmarks/fuzz_configs.py [--families sd,sdxl] [--loads 40 | --all]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

UNKNOWN = {"sigma_max_of_edm": 80.0, "quantization_config": {"bits": 4}, "extra_condition": "pose"}
WRONG: tuple[Any, ...] = ("banana", 17, -3, 0.5, True, [], [1, "x"], {"a": 1}, None, 10**9)


@dataclass(frozen=True)
class Change:
    """One altered setting; `gone` means that the key is deleted."""

    file: str
    key: str
    value: Any = None
    gone: bool = False

    def __str__(self) -> str:
        return f"{self.file}: {self.key} " + ("deleted" if self.gone else json.dumps(self.value))


def changes(folder: Path) -> Iterator[Change]:
    """All changes of a pipeline's folder."""
    for path in sorted(folder.rglob("*.json")):
        if path.name in ("tokenizer.json", "special_tokens_map.json", "vocab.json"):
            continue
        file = path.relative_to(folder).as_posix()
        config = json.loads(path.read_text())
        for key, value in config.items():
            if key.startswith("_") and key != "_class_name":
                continue
            yield Change(file, key, gone=True)
            for other in (*WRONG, *_near(value)):
                if other != value or type(other) is not type(value):
                    yield Change(file, key, other)
        for key, value in UNKNOWN.items():
            yield Change(file, key, value)


def _near(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1, value * 2]
    if isinstance(value, list):
        return [value[::-1], value[:-1], [*value, *value]]
    return [value.upper(), value + "2"] if isinstance(value, str) else []


def apply(folder: Path, change: Change) -> str:
    """Make the change; returns the file's text before it."""
    path = folder / change.file
    before = path.read_text()
    config = json.loads(before)
    if change.gone:
        config.pop(change.key)
    else:
        config[change.key] = change.value
    path.write_text(json.dumps(config))
    return before


class Fuzz:
    """Counts of one family; `bad` lists tracebacks and ignored values."""

    def __init__(self, family: str, folder: Path, params: dict[str, Any]) -> None:
        self.family, self.folder, self.params = family, folder, params
        self.counts: Counter[str] = Counter()
        self.bad: list[str] = []
        self.accepted: list[Change] = []

    def backbone(self) -> Any:
        from distillbench.api import registry

        return registry.build_backbone(self.family, {"model": str(self.folder), **self.params})

    def plan(self, change: Change) -> None:
        """What planning says."""
        before = apply(self.folder, change)
        try:
            problems = self.backbone().problems()
        except Exception as error:
            self.bad.append(f"{self.family} {change}: {type(error).__name__}: {error}")
        else:
            if problems:
                self.counts["refused"] += 1
                if any("\n" in line for line in problems):
                    self.bad.append(f"{self.family} {change}: more than one line")
            else:
                self.counts["unread" if self._unread(change) else "accepted"] += 1
                if not self._unread(change):
                    self.accepted.append(change)
        finally:
            (self.folder / change.file).write_text(before)

    def _unread(self, change: Change) -> bool:
        """Whether the key changes nothing here, or says that something unknown is off."""
        layout = self.backbone().layout
        part = change.file.split("/")[0]
        rules = layout.index if "/" not in change.file else layout.parts[part].rules
        rule = rules.get(change.key)
        off = not change.gone and change.value in (None, False, "", [], {})
        return change.key == "_class_name" or (rule is None and off) or bool(rule and rule.why)

    def load(self, change: Change) -> None:
        """What loading says of an accepted change: one line, or the library holds the value."""
        from distillbench.errors import DistillbenchError

        before = apply(self.folder, change)
        try:
            backbone = self.backbone()
            backbone.load()
            backbone.encode(["a red car"])
        except DistillbenchError as error:
            self.counts["refused at loading"] += 1
            if "\n" in error.line:
                self.bad.append(f"{self.family} {change}: more than one line")
        except Exception as error:
            self.bad.append(f"{self.family} {change}: {type(error).__name__}: {error}")
        else:
            self.counts["loaded"] += 1
            held = self._held(backbone.pipe, change)
            if not change.gone and held != change.value:
                self.bad.append(f"{self.family} {change}: the library holds {held!r}")
        finally:
            (self.folder / change.file).write_text(before)

    @staticmethod
    def _held(pipe: Any, change: Change) -> Any:
        if "/" not in change.file:
            return pipe.config.get(change.key)
        part = getattr(pipe, change.file.split("/")[0])
        if change.file.endswith("tokenizer_config.json"):
            return getattr(part, change.key, part.init_kwargs.get(change.key))
        held = getattr(part.config, change.key, None)
        return list(held) if isinstance(held, tuple) else held


def run(families: list[str], loads: int | None, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Counts over all families, and what went wrong."""
    import torch

    spec = importlib.util.spec_from_file_location(
        "makers", ROOT / "tests" / "backbones" / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    makers: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(makers)
    total: Counter[str] = Counter()
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for family in families:
            folder = Path(scratch) / family
            torch.manual_seed(0)
            makers.MAKERS[family]().save_pretrained(folder)
            fuzz = Fuzz(family, folder, makers.PARAMS.get(family, {}))
            for change in changes(folder):
                fuzz.plan(change)
            rng = random.Random(seed)
            n = len(fuzz.accepted) if loads is None else min(loads, len(fuzz.accepted))
            for change in rng.sample(fuzz.accepted, n):
                fuzz.load(change)
            shutil.rmtree(folder)
            sys.stdout.write(f"{family}: {dict(fuzz.counts)}, wrong {len(fuzz.bad)}\n")
            sys.stdout.flush()
            total += fuzz.counts
            bad += fuzz.bad
    return total, bad


def main() -> int:
    """Print counts and findings; 1 when there are findings."""
    import warnings

    import diffusers
    import transformers

    warnings.simplefilter("ignore")
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", default="sd,sdxl,sd3,pixart,cogvideox")
    parser.add_argument("--loads", type=int, default=40)
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    total, bad = run(args.families.split(","), None if args.all else args.loads)
    for line in bad:
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"total {dict(total)}, wrong {len(bad)}\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
