"""Which files a plug-in's numbers come from: found by their imports, whatever form these have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distillbench.api.discovery import import_plugin
from distillbench.api.registry import BACKBONES, METHODS, METRICS
from distillbench.plan import origin
from distillbench.plan.origin import Origin, origin_of

ROOT = Path(__file__).resolve().parents[2]


def test_a_method_stands_on_its_shared_files_settings_and_mathematics() -> None:
    found = origin_of(METHODS.get("tdm")).files
    expected = {
        "methods/tdm.py", "methods/shared/segments.py", "methods/settings/tdm.py",
        "methods/settings/nets.py", "core/trajectory.py", "core/loss.py", "api/samplers.py",
    }  # fmt: skip
    assert expected <= found.keys()
    assert not [name for name in found if name.startswith(("run/", "report/", "methods/lcm"))]
    assert all(len(digest) == 16 for digest in found.values())


def test_metrics_and_backbones_have_theirs() -> None:
    assert {"metrics/fid.py", "score/preprocess.py"} <= origin_of(METRICS.get("fid")).files.keys()
    tiny = origin_of(BACKBONES.get("tiny-sd"))
    assert tiny.source == "tiny.py"
    assert {"backbones/tiny.py", "backbones/sd.py", "backbones/_diffusers.py"} <= tiny.files.keys()


def test_every_plugin_has_its_own_file_in_its_origin() -> None:
    for registry in (METHODS, METRICS, BACKBONES):
        for name in registry.names():
            found = origin_of(registry.get(name))
            assert found.source in {Path(file).name for file in found.files}, name


PLUGIN = """
from typing import TYPE_CHECKING
from distillbench.methods.lcm import LCM
import helper_of_mine
{more}
if TYPE_CHECKING:
    import for_types_alone
class Mine{number}(LCM):
    name = "mine-{number}"
"""


def plugin(folder: Path, number: int, more: str = "") -> Origin:
    """The origin of a plug-in in a file of the user's own."""
    file = folder / f"mine{number}.py"
    file.write_text(PLUGIN.format(number=number, more=more))
    return origin_of(METHODS.classes(import_plugin(str(file)))[f"mine-{number}"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's modules."""
    for name in ("helper_of_mine", "for_types_alone", "other_of_mine"):
        (tmp_path / f"{name}.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "helper_of_mine", None)
    del sys.modules["helper_of_mine"]
    origin._imports.cache_clear()
    return tmp_path


def test_a_file_of_the_users_own_brings_its_folder_and_what_it_derives_from(folder: Path) -> None:
    found = plugin(folder, 1, "def later():\n    from other_of_mine import X\n").files
    assert {"mine1.py", "helper_of_mine.py", "other_of_mine.py"} <= found.keys()
    assert {"methods/lcm.py", "methods/shared/consistency.py"} <= found.keys()
    assert "for_types_alone.py" not in found


def test_any_byte_of_any_of_them_is_another_origin(folder: Path) -> None:
    before = plugin(folder, 2)
    origin_of.cache_clear()
    same = plugin(folder, 2)
    (folder / "helper_of_mine.py").write_text("X = 2\n")
    origin_of.cache_clear()
    after = plugin(folder, 2)
    assert before.sha256 == same.sha256 != after.sha256
    changed = [name for name in after.files if after.files[name] != before.files[name]]
    assert changed == ["helper_of_mine.py"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a.b", ["a.b"]),
        ("from a.b import c, d", ["a.b.c", "a.b.d"]),
        ("from . import c", ["pack.sub.c"]),
        ("from .c import d", ["pack.sub.c.d"]),
        ("from ..c import d", ["pack.c.d"]),
        ("from ..c.e import d", ["pack.c.e.d"]),
        ("def f():\n    from ..c import d", ["pack.c.d"]),
        ("try:\n    import a\nexcept ImportError:\n    import b", ["a", "b"]),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", ["b"]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import a", ["typing"]),
        ("this is no Python", []),
    ],
)
def test_imports_are_read_in_all_their_forms(tmp_path: Path, text: str, names: list[str]) -> None:
    file = tmp_path / "m.py"
    file.write_text(text)
    origin._imports.cache_clear()
    assert list(origin._imports("pack.sub.m", file)) == names


def test_reading_origins_leaves_torch_out() -> None:
    code = (
        "import sys; from distillbench.api.registry import METHODS, BACKBONES\n"
        "from distillbench.plan.origin import origin_of\n"
        "origin_of(METHODS.get('tdm')); origin_of(BACKBONES.get('sd'))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_drawings_and_samplers_are_where_numbers_are_made() -> None:
    """Another world's pictures, or a sampler's step, is other code."""
    tiny = origin_of(BACKBONES.get("tiny-sd")).files
    assert {"world/data.py", "drawings/render.py"} <= tiny.keys()
    pretrained = origin_of(METHODS.get("pretrained")).files
    assert {"api/samplers.py", "api/stock_samplers.py"} <= pretrained.keys()
