"""Methods, metrics and backbones by name: folder scan, entry points and `--plugin` modules.

Nothing is imported until it is asked for: names come from file names (or from a literal `name`
in the class body, read without running the file). A file beginning with `_` is no plug-in.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel

from distillbench.api.discovery import import_plugin, literal_names
from distillbench.errors import BadInput, PluginError
from distillbench.files.explain import validated
from distillbench.files.marks import MapNode, Mark, Problems, did_you_mean

if TYPE_CHECKING:
    from distillbench.api.backbone import Backbone
    from distillbench.api.method import Method
    from distillbench.api.metric import Metric

__all__ = [
    "BACKBONES", "METHODS", "METRICS", "PLUGINS_VARIABLE", "Registry",
    "add_plugin", "build_backbone", "build_method", "build_metric", "display_name",
]  # fmt: skip

T = TypeVar("T")

PLUGINS_VARIABLE = "DISTILLBENCH_PLUGINS"
"""Modules of `--plugin`, joined by the path separator; worker processes inherit it."""


@dataclass(frozen=True)
class _Entry:
    """One place a plug-in comes from; `load` is "module" or "module:Class"."""

    load: str
    origin: str


class Registry(Generic[T]):
    """The plug-ins of one kind.

    Args:
        kind: "method", "metric" or "backbone", for messages.
        base: "module:Class" every plug-in must derive from, imported on first use.
        package: whose folders are scanned; entry points are looked up under the same name.
    """

    def __init__(self, kind: str, base: str, package: str) -> None:
        self.kind = kind
        self._base = base
        self._package = package
        self._entries: dict[str, list[_Entry]] | None = None
        self._loaded: dict[str, type[T]] = {}

    def names(self) -> list[str]:
        """All registered names, sorted; imports none of them."""
        return sorted(self._scan())

    def origin(self, name: str) -> str:
        """Where a plug-in comes from, for humans.

        Raises:
            PluginError: no plug-in, or more than one, has this name.
        """
        return self._entry(name).origin

    def get(self, name: str) -> type[T]:
        """The plug-in's class, with `name` set on it.

        Raises:
            PluginError: unknown or ambiguous name, or the file does not hold what it should.
        """
        if name not in self._loaded:
            entry = self._entry(name)
            self._loaded[name] = self._pick(name, entry)
        return self._loaded[name]

    def reset(self) -> None:
        """Forget what was found, so that the next use scans again."""
        self._entries = None
        self._loaded = {}

    # ---- discovery ----------------------------------------------------------------------

    def _scan(self) -> dict[str, list[_Entry]]:
        if self._entries is None:
            self._entries = {}
            for finder in (self._scan_folders, self._scan_entry_points, self._scan_plugins):
                for name, entry in finder():
                    known = self._entries.setdefault(name, [])
                    # One distribution may be visible twice (editable and built metadata).
                    if entry.load not in {other.load for other in known}:
                        known.append(entry)
        return self._entries

    def _scan_folders(self) -> list[tuple[str, _Entry]]:
        found = []
        for folder in importlib.import_module(self._package).__path__:
            for path in sorted(Path(folder).glob("*.py")):
                module = f"{self._package}.{path.stem}"
                if path.stem.startswith("_") or module == self._base.partition(":")[0]:
                    continue
                origin = f"{path.parent.name}/{path.name}"
                for name in literal_names(path.read_text(encoding="utf-8")) or [path.stem]:
                    found.append((name, _Entry(module, origin)))
        return found

    def _scan_entry_points(self) -> list[tuple[str, _Entry]]:
        found = []
        for point in importlib.metadata.entry_points(group=self._package):
            package = point.dist.name if point.dist else "an installed package"
            origin = f"{package} (entry point {point.value})"
            found.append((point.name, _Entry(point.value, origin)))
        return found

    def _scan_plugins(self) -> list[tuple[str, _Entry]]:
        found = []
        for target in filter(None, os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep)):
            module = import_plugin(target)
            for name, cls in self.classes(module).items():
                load = f"{module.__name__}:{cls.__qualname__}"
                found.append((name, _Entry(load, f"--plugin {target}")))
        return found

    def _entry(self, name: str) -> _Entry:
        entries = self._scan().get(name, [])
        if len(entries) > 1:
            both = " and ".join(entry.origin for entry in entries)
            raise PluginError(f"{self.kind} {name!r} is defined twice: by {both}; rename one")
        if not entries:
            names = self.names()
            known = f"known {self.kind}s: {', '.join(names) or 'none'}"
            raise PluginError(f"unknown {self.kind} {name!r}; {known}.{did_you_mean(name, names)}")
        return entries[0]

    # ---- loading ------------------------------------------------------------------------

    def _pick(self, name: str, entry: _Entry) -> type[T]:
        target, _, attribute = entry.load.partition(":")
        try:
            module = importlib.import_module(target)
        except Exception as error:
            text = f"{entry.origin}: cannot be imported: {type(error).__name__}: {error}"
            raise PluginError(text) from error
        cls = getattr(module, attribute, None) if attribute else self.classes(module).get(name)
        problem = self._wrong(cls)
        if problem:
            raise PluginError(f"{entry.origin}: {self.kind} {name!r} {problem}")
        picked = cast(Any, cls)
        picked.name = name
        return cast("type[T]", picked)

    def _wrong(self, cls: Any) -> str:
        base = self._base_class()
        if not (isinstance(cls, type) and issubclass(cls, base)):
            return f"is not there; the file must hold one subclass of {base.__name__}"
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            return f"leaves {missing} undefined"
        config = getattr(cls, "Config", None)
        if not (isinstance(config, type) and issubclass(config, BaseModel)):
            return "has no Config (a pydantic model of its parameters)"
        return ""

    def classes(self, module: ModuleType) -> dict[str, type]:
        """The plug-in classes a module defines, by the name they are registered under."""
        base = self._base_class()
        stem = module.__name__.rpartition(".")[2]
        own = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, base)]
        own = [c for c in own if c.__module__ == module.__name__ and not c.__name__.startswith("_")]
        return {str(c.__dict__.get("name") or stem): c for c in own}

    def _base_class(self) -> type:
        module, _, attribute = self._base.partition(":")
        return cast("type", getattr(importlib.import_module(module), attribute))


METHODS: Registry[Method] = Registry(
    "method", "distillbench.api.method:Method", "distillbench.methods"
)
METRICS: Registry[Metric] = Registry(
    "metric", "distillbench.api.metric:Metric", "distillbench.metrics"
)
BACKBONES: Registry[Backbone] = Registry(
    "backbone", "distillbench.api.backbone:Backbone", "distillbench.backbones"
)


def add_plugin(target: str) -> None:
    """Register the plug-ins of a module (dotted name) or of a `.py` file, here and in workers.

    Raises:
        PluginError: it cannot be imported, or holds no plug-in.
    """
    target = str(Path(target).resolve()) if target.endswith(".py") else target
    module = import_plugin(target)
    if not any(registry.classes(module) for registry in (METHODS, METRICS, BACKBONES)):
        raise PluginError(f"--plugin {target}: holds no method, metric or backbone")
    known = list(filter(None, os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep)))
    if target not in known:
        os.environ[PLUGINS_VARIABLE] = os.pathsep.join([*known, target])
    for registry in (METHODS, METRICS, BACKBONES):
        registry.reset()


def build_backbone(name: str, params: Mapping[str, Any]) -> Backbone:
    """An unloaded backbone. Raises PluginError or ConfigError (one line per wrong parameter)."""
    cls = BACKBONES.get(name)
    return cls(_config(cls, params, f"backbone {name}"))


def build_method(name: str, params: Mapping[str, Any], backbone: Backbone) -> Method:
    """A method on an (unloaded) backbone. Raises PluginError, ConfigError or NotSupported."""
    from distillbench.api.method import check_recomputation

    cls = METHODS.get(name)
    method = cls(_config(cls, params, f"method {name}"), backbone)
    check_recomputation(method)
    return method


def build_metric(name: str, params: Mapping[str, Any]) -> Metric:
    """An unloaded metric. Raises PluginError or ConfigError."""
    cls = METRICS.get(name)
    return cls(_config(cls, params, f"metric {name}"))


def _config(cls: type[Any], params: Mapping[str, Any], owner: str) -> BaseModel:
    problems = Problems()
    tree = params if isinstance(params, MapNode) else MapNode(params, mark=Mark(source=owner))
    config = validated(cls.Config, tree, problems, owner=display_name(cls))
    problems.raise_if_any()
    if config is None:
        raise BadInput(f"{owner}: its parameters are invalid")
    return cast(BaseModel, config)


def display_name(cls: type[Any]) -> str:
    """What a plug-in is called in messages: its title or label, else its name."""
    info = getattr(cls, "info", None)
    return str(getattr(cls, "title", "") or getattr(info, "label", "") or cls.name)
