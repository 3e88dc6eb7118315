"""The contract every method keeps, as tests that plug-in authors inherit.

    class TestMine(MethodContract):
        method = "mine"
        params = {"lr": 1e-3}

Runs on the exact gmm world within seconds. A method that needs more than it offers sets
`backbone` and `backbone_params`, and one with few sampling step counts sets `nfe`. Prompts are the
backbone's own unless `prompts` names a set or file.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

from distillbench.api import registry
from distillbench.api.fields import split
from distillbench.api.method import Method
from distillbench.api.samplers import from_recipe
from distillbench.errors import DistillbenchError, Interrupted, NotSupported
from distillbench.specs.context import Runtime, StageContext
from distillbench.specs.stages import TrainSpec
from distillbench.testing.specs import train_spec

__all__ = ["MethodContract", "train", "train_spec"]

_TORCH_FREE = """
import sys
from distillbench.api import registry
backbone = registry.build_backbone({backbone!r}, {backbone_params!r})
method = registry.build_method({method!r}, {params!r}, backbone)
method.nets(), method.sampler({nfe}), method.turns(0)
assert "torch" not in sys.modules, "planning imported torch"
"""


def train(
    spec: Mapping[str, Any],
    folder: Path,
    *,
    stop_after: int | None = None,
    save_every: int = 1000,
    device: str = "cpu",
    prompts: str = "",
    images: str = "",
) -> list[Mapping[str, Any]]:
    """Run a train stage into `folder`/out, with checkpoints beside it; returns its progress.

    Args:
        stop_after: ask it to stop once that many steps are done.
        prompts: the set that the spec was made for, where it is not the backbone's own.
        images: folder of training images.

    Raises:
        Interrupted: it was asked to.
    """
    from distillbench.train.loop import train_stage

    out, events = folder / "out", list[Mapping[str, Any]]()
    out.mkdir(parents=True, exist_ok=True)
    asked = iter(range(sys.maxsize))
    typed = TrainSpec.read(spec, of="a training")
    own = registry.build_backbone(typed.backbone.name, typed.backbone.params).train_prompts
    context = StageContext(
        device,
        events.append,
        lambda: stop_after is not None and next(asked) >= stop_after,
        Runtime(save_every=save_every, prompts=prompts or own, images=images),
    )
    train_stage(typed, context, out=out, checkpoints=folder / "checkpoints")
    return events


class MethodContract:
    """Subclass, name the method, and pytest does the rest."""

    method: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}
    backbone: ClassVar[str] = "gmm"
    backbone_params: ClassVar[Mapping[str, Any]] = {}
    prompts: ClassVar[str] = ""
    nfe: ClassVar[int] = 4

    # ---- helpers --------------------------------------------------------------------------

    def build(self) -> Method:
        """The method on its unloaded backbone."""
        backbone = registry.build_backbone(self.backbone, self.backbone_params)
        return registry.build_method(self.method, self.params, backbone)

    def spec(self, **settings: Any) -> dict[str, Any]:
        """A short training of it."""
        return train_spec(
            self.method, self.params, backbone=self.backbone,
            backbone_params=self.backbone_params, prompts=self.prompts, **settings,
        )  # fmt: skip

    def train(self, spec: Mapping[str, Any], folder: Path, **more: Any) -> None:
        """Run it on the prompts of the class."""
        train(spec, folder, prompts=self.prompts, **more)

    def weights(self, folder: Path) -> bytes:
        """The trained student's file; empty for a method without nets."""
        path = folder / "out" / "student.safetensors"
        return path.read_bytes() if path.exists() else b""

    # ---- the contract ---------------------------------------------------------------------

    def test_says_what_it_is(self) -> None:
        """Title, and a paper for whatever is trained."""
        method = self.build()
        assert method.title
        assert method.paper or not method.nets()
        assert method.needs <= {"prompts", "latents"}
        assert not method.nets() or method.student in method.nets()

    def test_config_round_trip(self) -> None:
        """The resolved parameters survive JSON, as they are part of the training's key."""
        config = self.build().config
        assert type(config).model_validate(config.model_dump(mode="json")) == config

    def test_plans_without_torch(self) -> None:
        """Building it and asking for nets and sampler imports no torch."""
        code = _TORCH_FREE.format(
            method=self.method, params=dict(self.params), backbone=self.backbone,
            backbone_params=dict(self.backbone_params), nfe=self.nfe,
        )  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_sampler_calls_the_network_nfe_times(self) -> None:
        """For 1, 2, 4 and 8 evaluations: exactly so many calls, or a refusal that names them."""
        import torch

        method = self.build()
        method.backbone.load("cpu")
        backbone, calls = method.backbone, 0
        cond = backbone.encode([_prompt(self.prompts or backbone.train_prompts)] * 2)

        def denoise(x_t: Any, t: Any, *, end_t: Any = None) -> Any:
            nonlocal calls
            calls += 1
            return backbone.predict(None, x_t, t, cond)

        def noise(step: int = 0) -> Any:
            return torch.randn(2, *backbone.latent_shape)

        for nfe in sorted({1, 2, 4, 8, self.nfe}):
            if self._refuses(method, nfe):
                continue
            sampler = method.sampler(nfe)
            assert sampler.nfe == nfe
            assert from_recipe(sampler.model_dump(mode="json")) == sampler
            calls = 0
            x0 = sampler.sample(denoise, noise(), backbone.process, noise)
            assert calls == nfe
            assert x0.shape == noise().shape

    def _refuses(self, method: Method, nfe: int) -> bool:
        """Whether the method says that it cannot be sampled so; it must be able to for `nfe`."""
        try:
            method.sampler(nfe)
        except NotSupported as refusal:
            said = str(refusal)
        else:
            return False
        assert nfe != self.nfe, f"{said}: set `nfe` to a number it can be sampled with"
        assert str(nfe) in said, f"does not name the {nfe} evaluations that it refuses: {said}"
        return True

    def test_gradients_reach_only_the_turns_net(self) -> None:
        """Each turn's loss moves the nets it trains and leaves no gradient in any other."""
        import torch

        from distillbench.data.batches import DataSource
        from distillbench.train.role import make_role, only

        method = self.build()
        if not method.nets():
            return
        method.backbone.load("cpu")
        roles = {
            name: make_role(method, name, spec, seed=0, lr_scale=1.0, device="cpu")
            for name, spec in method.nets().items()
        }
        method.bind({name: role.net for name, role in roles.items()})
        data = DataSource(
            method.backbone, [_prompt(self.prompts or method.backbone.train_prompts)], seed=0,
            batch_size=4, latents="latents" in method.needs,
        )  # fmt: skip
        batch = data.batch(0, 0)
        for turn in dict.fromkeys(method.turns(0)):
            only(method.trains(turn), roles.items())
            with roles[turn].net.active():
                loss = method.loss(turn, batch, 0).total
                assert loss.ndim == 0
                assert bool(torch.isfinite(loss))
                loss.backward()  # type: ignore[no-untyped-call]
            for name, role in roles.items():
                touched = any(p.grad is not None for p in role.parameters)
                trained = name in method.trains(turn)
                assert touched == trained, f"turn {turn}: gradient in {name}"
                role.optimizer.zero_grad(set_to_none=True)

    def test_training_is_deterministic(self, tmp_path: Path) -> None:
        """Two runs of one seed give the same bytes, another seed gives others."""
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            self.train(self.spec(seed=seed), tmp_path / name)
        a, b, c = (self.weights(tmp_path / name) for name in "abc")
        assert a == b
        assert a != c or not self.build().nets()

    def test_settings_of_sampling_leave_training_alone(self, tmp_path: Path) -> None:
        """Fields marked SAMPLING are in no training's key, so they must not change its bytes."""
        changed = self.other_sampling()
        if not self.build().nets() or not changed:
            return
        spec = self.spec()
        self.train(spec, tmp_path / "before")
        params = {**spec["method"]["params"], **changed}
        self.train({**spec, "method": {**spec["method"], "params": params}}, tmp_path / "after")
        same = self.weights(tmp_path / "before") == self.weights(tmp_path / "after")
        assert same, f"training reads a field that is marked SAMPLING, one of {', '.join(changed)}"

    def other_sampling(self) -> dict[str, Any]:
        """Another value for every marked field, of those that the method takes."""
        config = self.build().config
        found: dict[str, Any] = {}
        for name, now in split(config).marked.items():
            for value in (0.5, 2.0, 1.0, 3, *_literals(type(config).model_fields[name].annotation)):
                with suppress(DistillbenchError):
                    backbone = registry.build_backbone(self.backbone, self.backbone_params)
                    params = {**self.params, **found, name: value}
                    registry.build_method(self.method, params, backbone).sampler(self.nfe)
                    if value != now:
                        found[name] = value
                        break
        return found

    def test_resume_equals_straight_run(self, tmp_path: Path) -> None:
        """A stopped and resumed run ends with the bytes of an uninterrupted one."""
        self.train(self.spec(), tmp_path / "straight")
        stopped = not self.build().nets()
        try:
            self.train(self.spec(), tmp_path / "stopped", stop_after=2)
        except Interrupted:
            stopped = True
        assert stopped
        self.train(self.spec(), tmp_path / "stopped")
        assert self.weights(tmp_path / "straight") == self.weights(tmp_path / "stopped")


def _literals(annotation: Any) -> Iterator[Any]:
    """The values that a type spells out."""
    for inner in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield inner
        else:
            yield from _literals(inner)


def _prompt(name: str) -> str:
    from distillbench.data.prompts import load_prompts

    return load_prompts(name).prompts[0]
