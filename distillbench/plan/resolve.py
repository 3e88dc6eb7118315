"""Points with their plug-ins built: backbone, method and the exact sampling recipe of each.

Everything here runs without torch and reports what does not fit at the place it was written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from distillbench.api.backbone import Backbone
from distillbench.api.fields import split
from distillbench.api.registry import BACKBONES, METHODS, METRICS, display_name
from distillbench.api.sampler import unguided
from distillbench.api.samplers import crossed, from_recipe
from distillbench.errors import DistillbenchError, PluginError
from distillbench.experiment.expand import GridPoint
from distillbench.experiment.schema import BackboneRef, CellConfig, Experiment
from distillbench.files.explain import validated
from distillbench.files.marks import MapNode, Mark, Problems, did_you_mean, locate, merge
from distillbench.plan.identity import canonical_json
from distillbench.plan.real import with_real
from distillbench.plan.resolved import Resolved
from distillbench.plan.used import UsedBackbone, not_carried
from distillbench.plan.weights import identity_of
from distillbench.specs.stages import BackboneSpec, MethodSpec

if TYPE_CHECKING:
    from distillbench.api.method import Method
    from distillbench.api.metric import Metric
    from distillbench.api.sampler import Sampler

__all__ = ["Resolved", "Resolver", "UsedBackbone"]


class Resolver:
    """Builds plug-ins once each and notes what is wrong with them."""

    def __init__(self, experiment: Experiment, problems: Problems) -> None:
        self.experiment = experiment
        self.problems = problems
        self._backbones: dict[str, UsedBackbone | None] = {}
        self._methods: dict[str, Method | None] = {}

    # ---- metrics ------------------------------------------------------------------------

    def metrics(self) -> dict[str, Metric]:
        """Metric id -> built metric, without those that have problems."""
        found: dict[str, Metric] = {}
        for index, ref in enumerate(self.experiment.metrics):
            mark, _ = locate(self.experiment.tree, ("metrics", index, "use"))
            if ref.key in found:
                self.problems.add(mark, f"two metrics are called {ref.key!r}; give one an id")
                continue
            tree, _ = self._subtree(("metrics", index, "params"))
            metric = self._build(METRICS, ref.use, with_real(self.experiment, ref.use, tree), mark)
            if metric is not None:
                found[ref.key] = metric
        return found

    # ---- rows ---------------------------------------------------------------------------

    def resolve(self, point: GridPoint) -> Resolved | None:
        """The plug-ins of a point; None when something does not fit."""
        used = self.backbone(point.config.backbone, _mark(point.tree, "backbone"))
        if used is None:
            return None
        method = self._method(point.config.method, point.tree, used)
        if method is None:
            return None
        self._check_latents(point, method, used)
        resolved = self._resolved(method, used, point.config, point.tree)
        if resolved is None or not point.config.sample_on:
            return resolved
        there, mark = point.config.sample_on, _mark(point.tree, "sample_on")
        named = self.knows(there)
        on = self.backbone(there, mark) if named else used
        if on is not None and (what := not_carried(method, used, on)):
            self.problems.add(mark, what)
        if not named:  # a row, as links are found once all of them are known
            return replace(resolved, onto=there)
        return None if on is None else replace(resolved, on=on)

    def knows(self, alias: str) -> bool:
        """Whether that is a backbone: an alias of the file, or a registered name."""
        return alias in self.experiment.backbones or alias in BACKBONES.names()

    def reference(self, used: UsedBackbone, alias: str = "") -> Resolved | None:
        """The reference teacher of rows on a backbone; None where there is none that fits.

        Args:
            alias: of another backbone, whose teacher is meant.
        """
        config = self.experiment.reference
        tree, _ = self._subtree(("reference",))
        if config is None:
            return None
        used = (self.backbone(alias, _mark(tree, "backbone")) if alias else used) or used
        method = self._method(config.method, tree, used)
        if method is None:
            return None
        if method.has_student:
            how = "trained" if method.nets() else "made of published weights"
            what = f"{config.method!r} is {how}; a reference must be a method without nets"
            self.problems.add(_mark(tree, "method"), what)
            return None
        scale = config.guidance_scale
        if isinstance(scale, dict):
            if used.alias not in scale:
                what = f"no scale for backbone {used.alias!r}; has: {', '.join(scale) or 'none'}"
                self.problems.add(_mark(tree, "guidance_scale"), what)
                return None
            scale = scale[used.alias]
        cell = CellConfig(nfe=[config.nfe], guidance_scale=scale)
        return self._resolved(method, used, cell, tree)

    def backbone(self, alias: str, mark: Mark) -> UsedBackbone | None:
        """The backbone of an alias, or of a registered name."""
        named = self.experiment.backbones
        if not alias and len(named) == 1:
            alias = next(iter(named))
        if alias not in self._backbones:
            self._backbones[alias] = self._make_backbone(alias, mark)
        return self._backbones[alias]

    def _make_backbone(self, alias: str, mark: Mark) -> UsedBackbone | None:
        named = self.experiment.backbones
        words = [*named, *BACKBONES.names()]
        if not alias or alias not in words:
            what = f"unknown backbone {alias!r}" if alias else "no backbone"
            known = f"aliases: {', '.join(named) or 'none'}; registered: "
            known += ", ".join(BACKBONES.names())
            self.problems.add(mark, f"{what}; {known}.{did_you_mean(alias, words)}")
            return None
        ref = named.get(alias) or BackboneRef(use=alias)
        if alias in named:
            mark, _ = locate(self.experiment.tree, ("backbones", alias, "use"))
        tree, _ = self._subtree(("backbones", alias, "params"))
        backbone = self._build(BACKBONES, ref.use, tree, mark)
        if backbone is None:
            return None
        try:
            revision = backbone.revision()
        except DistillbenchError as error:
            self.problems.add(mark, error.line)
            revision = ""  # the plan is refused, but the rows on it are still checked
        else:
            at = locate(tree, ("model",))[0] if "model" in tree else mark
            for what in backbone.problems():
                self.problems.add(at, what)
        parts = split(backbone.config)
        spec = BackboneSpec(name=ref.use, params=dict(parts.decisive), revision=revision)
        return UsedBackbone(alias, backbone, spec, parts.marked)

    def _method(self, name: str, tree: MapNode, used: UsedBackbone) -> Method | None:
        mark = _mark(tree, "method")
        if not name:
            names = ", ".join(METHODS.names())
            self.problems.add(tree.mark, f"a row needs a method; known methods: {names}")
            return None
        params = tree.get("params")
        cache = canonical_json([used.alias, name, params or {}])
        if cache not in self._methods:
            self._methods[cache] = self._build(METHODS, name, params, mark, used.backbone)
        return self._methods[cache]

    def _resolved(
        self, method: Method, used: UsedBackbone, cell: CellConfig, tree: MapNode
    ) -> Resolved | None:
        try:
            recipe = from_recipe(method.sampler(cell.nfe[0]).model_dump(mode="json"))
        except (DistillbenchError, ValueError) as error:
            self.problems.add(_mark(tree, "nfe"), _one_line(error))
            return None
        final = self._overridden(recipe, cell, tree)
        if final is None:
            return None
        try:
            method.check_recipe(final)
        except DistillbenchError as error:
            self.problems.add(_mark(tree, "sampler" if "sampler" in tree else "nfe"), error.line)
            return None
        if what := unguided(final.guidance_scale) or unguided(final.embed_scale):
            given = "guidance_scale" if "guidance_scale" in tree else "sampler"
            self.problems.add(_mark(tree, given), what)
            return None
        if method.backbone.embeds_guidance and final.guidance_scale != 1:
            what = f"backbone {used.alias!r} is told its guidance by its parameter guidance_embed"
            self.problems.add(_mark(tree, "guidance_scale"), f"{what}; use guidance_scale: 1")
            return None
        params = dict(split(method.config).decisive) if method.has_student else {}
        spec = MethodSpec(name=method.name, version=method.version, params=params)
        if published := method.published():
            weights = identity_of(published, used.backbone, tree, self.problems)
            if weights is None:
                return None
            spec = spec.model_copy(update={"weights": weights})
        return Resolved(used, method, spec, final)

    def _overridden(self, recipe: Sampler, cell: CellConfig, tree: MapNode) -> Sampler | None:
        over: Any = tree.get("sampler") or MapNode()
        kind = over.get("kind", recipe.kind)
        if kind != recipe.kind:
            try:
                recipe = crossed(recipe, str(kind))
            except (DistillbenchError, ValueError) as error:
                self.problems.add(_mark(over, "kind"), _one_line(error))
                return None
        if cell.guidance_scale is not None:
            field = "guidance_scale" if recipe.embed_scale is None else "embed_scale"
            scale = MapNode()
            scale.put(field, cell.guidance_scale, _mark(tree, "guidance_scale"))
            over = merge(scale, over)
        if not over:
            return recipe
        merged = merge(MapNode(recipe.model_dump()), over)
        final = validated(type(recipe), merged, self.problems, owner=f"the {recipe.kind} sampler")
        if final is not None and final.nfe != recipe.nfe:
            what = f"{final.nfe} timesteps cannot make nfe {recipe.nfe}; give one per evaluation"
            self.problems.add(_mark(tree, "sampler"), what)
            return None
        return final

    def _check_latents(self, point: GridPoint, method: Method, used: UsedBackbone) -> None:
        if "latents" not in method.needs or not method.nets():
            return
        kind = type(used.backbone)
        makes = kind.training_latents is not Backbone.training_latents
        encodes = kind.encode_images is not Backbone.encode_images
        if point.config.data.images and not encodes:
            what = f"backbone {used.alias!r} encodes no images"
            self.problems.add(locate(point.tree, ("data", "images"))[0], what)
        elif not point.config.data.images and not makes:
            what = f"{display_name(type(method))} trains on real latents"
            fix = "set data.images to a folder of captioned images" if encodes else "use another"
            self.problems.add(
                _mark(point.tree, "method"), f"{what}, backbone {used.alias!r} makes none; {fix}"
            )

    # ---- building -----------------------------------------------------------------------

    def _build(self, registry: Any, name: str, params: Any, mark: Mark, *args: Any) -> Any:
        try:
            cls = registry.get(name)
        except PluginError as error:
            self.problems.add(mark, error.line)
            return None
        tree = params if params is not None else MapNode(mark=mark)
        config = validated(cls.Config, tree, self.problems, owner=display_name(cls))
        if config is None:
            return None
        try:
            return cls(config, *args)
        except (DistillbenchError, ValueError) as error:
            self.problems.add(mark, _one_line(error))
            return None

    def _subtree(self, path: tuple[str | int, ...]) -> tuple[Any, Mark]:
        tree: Any = self.experiment.tree
        for part in path:
            inside = isinstance(tree, dict) and part in tree
            tree = tree[part] if inside or (isinstance(tree, list) and part != "use") else None
            if tree is None or isinstance(tree, str):
                return MapNode(mark=locate(self.experiment.tree, path)[0]), Mark()
        return tree, locate(self.experiment.tree, path)[0]


def _mark(tree: MapNode, key: str) -> Mark:
    return locate(tree, (key,))[0]


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        each = error.errors(include_url=False)
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in each)
    line = error.line if isinstance(error, DistillbenchError) else str(error)
    return " ".join(line.split())
