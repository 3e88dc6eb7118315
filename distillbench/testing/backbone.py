"""The contract every backbone keeps, as tests that plug-in authors inherit.

    class TestMine(BackboneContract):
        @pytest.fixture(scope="class")
        def backbone(self):
            backbone = registry.build_backbone("mine", {"model": "..."})
            backbone.load()
            return backbone

One loaded backbone may serve all tests: each makes roles under names of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from distillbench.api.backbone import Backbone, Cond, Prediction
from distillbench.api.nets import NetHandle
from distillbench.core.noise import generator

__all__ = ["BackboneContract"]

_TORCH_FREE = """
import json, sys
from distillbench.api import registry
backbone = registry.build_backbone({name!r}, json.loads({params!r}))
print(json.dumps([backbone.revision(), backbone.nodes(4)]))
assert "torch" not in sys.modules, "planning imported torch"
"""


class BackboneContract:
    """Subclass, define the fixture `backbone`, and pytest does the rest.

    Attributes:
        prompts: two different prompts that the backbone knows.
        starts_as_teacher: False where a new role only approximates the teacher.
        rank: of the adapters that the tests make.
        rtol: allowed relative difference between the same sums made in another order.
    """

    prompts: ClassVar[Sequence[str]] = ("a red car", "a blue house")
    starts_as_teacher: ClassVar[bool] = True
    rank: ClassVar[int] = 2
    rtol: ClassVar[float] = 1e-3

    # ---- helpers --------------------------------------------------------------------------

    def inputs(self, backbone: Backbone) -> tuple[Tensor, Tensor, Cond]:
        """Noise at two times, and the conditions of the two prompts."""
        cond = backbone.encode(self.prompts)
        device = next(iter(cond.tensors.values())).device
        x = torch.randn(2, *backbone.latent_shape, generator=generator("contract")).to(device)
        first, middle = backbone.nodes(2)
        return x, torch.tensor([first, middle], device=device), cond

    def ask(self, backbone: Backbone, net: NetHandle | None, **extra: Any) -> Prediction:
        """A prediction at `inputs`, with gradients."""
        x, t, cond = self.inputs(backbone)
        return backbone.predict(net, x, t, cond, **extra)

    def raw(self, backbone: Backbone, net: NetHandle | None, **extra: Any) -> Tensor:
        """The network's output at `inputs`, without gradients."""
        with torch.no_grad():
            return self.ask(backbone, net, **extra).raw

    def role(self, backbone: Backbone, name: str, kind: Any = "lora", **opts: Any) -> NetHandle:
        """A new role of small rank."""
        return backbone.make_net(
            name, kind, **({"rank": self.rank} if kind == "lora" else {}), **opts
        )

    def close(self, got: Tensor, expected: Tensor) -> None:
        """Equal up to rounding, relative to the largest value."""
        atol = self.rtol * float(expected.abs().max())
        torch.testing.assert_close(got, expected, rtol=self.rtol, atol=atol)

    # ---- planning -------------------------------------------------------------------------

    def test_is_planned_without_torch(self, backbone: Backbone) -> None:
        """Revision and nodes are known before torch is imported, and stay what they are."""
        params = json.dumps(backbone.config.model_dump(mode="json"))
        code = _TORCH_FREE.format(name=backbone.name, params=params)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        revision, nodes = json.loads(run.stdout)
        assert revision
        assert revision == backbone.revision()
        assert tuple(nodes) == backbone.nodes(4)

    @pytest.mark.parametrize("steps", [1, 2, 4, 7])
    def test_nodes_fall_through_the_schedule(self, backbone: Backbone, steps: int) -> None:
        """K different times from the noisiest on."""
        nodes = backbone.nodes(steps)
        assert len(nodes) == len(set(nodes)) == steps
        assert list(nodes) == sorted(nodes, reverse=True)
        last = backbone.num_timesteps - (backbone.process.kind == "vp")
        assert 0 <= nodes[-1] <= nodes[0] <= last

    def test_solver_grids_rise_to_the_noisiest_time(self, backbone: Backbone) -> None:
        """N different times, those of few-step students among them where N divides T."""
        last = backbone.num_timesteps - (backbone.process.kind == "vp")
        for steps in (1, backbone.num_timesteps):
            grid = backbone.solver_grid(steps)
            assert len(grid) == len(set(grid)) == steps
            assert list(grid) == sorted(grid)
            assert grid[-1] == last
            backbone.check_times(tuple(reversed(grid))[: steps // 2 or 1])

    def test_noise_grows_with_time(self, backbone: Backbone) -> None:
        """alpha falls, sigma rises, over T times."""
        process = backbone.process
        assert process.kind == backbone.process_kind
        assert process.num_timesteps == len(process.alphas) == backbone.num_timesteps
        assert (process.alphas.diff() < 0).all()
        assert (process.sigmas.diff() > 0).all()

    # ---- teacher --------------------------------------------------------------------------

    def test_prompts_are_encoded_batch_first(self, backbone: Backbone) -> None:
        """A row a prompt, one row for no prompt, all floats float32."""
        cond, null = backbone.encode(self.prompts), backbone.encode_null()
        assert (len(cond), len(null)) == (2, 1)
        assert cond.tensors.keys() == null.tensors.keys()
        for value in cond.tensors.values():
            assert value.dtype == torch.float32 or not value.is_floating_point()
            assert not value.requires_grad
        for name, value in backbone.encode(self.prompts[:1]).tensors.items():
            torch.testing.assert_close(value, cond.tensors[name][:1], rtol=1e-4, atol=1e-4)

    def test_x0_and_eps_explain_the_input(self, backbone: Backbone) -> None:
        """alpha x0 + sigma eps = x_t, in float32."""
        x, t, _ = self.inputs(backbone)
        got = self.ask(backbone, None)
        alpha, sigma = backbone.process.alpha_sigma(t, x)
        assert {v.dtype for v in (got.x0, got.eps, got.raw)} == {torch.float32}
        assert got.x0.shape == got.eps.shape == got.raw.shape == x.shape
        self.close(alpha * got.x0 + sigma * got.eps, x)

    def test_samples_of_a_batch_are_independent(self, backbone: Backbone) -> None:
        """A row alone gives what it gives in a batch, up to rounding."""
        x, t, cond = self.inputs(backbone)
        with torch.no_grad():
            alone = backbone.predict(None, x[1:], t[1:], cond[1:]).raw
        self.close(alone, self.raw(backbone, None)[1:])

    def test_guidance_combines_two_branches(self, backbone: Backbone) -> None:
        """uncond + scale (cond - uncond), with one scale or one per sample; 1 is no guidance."""
        x, t, cond = self.inputs(backbone)
        uncond, scales = backbone.encode_null(), torch.tensor([3.0, 1.0], device=x.device)
        with torch.no_grad():
            off = backbone.predict(None, x, t, uncond.expand(2)).x0
            on = backbone.predict(None, x, t, cond).x0
            both = backbone.predict(None, x, t, cond, guidance_scale=3.0, uncond=uncond).x0
            each = backbone.predict(None, x, t, cond, guidance_scale=scales, uncond=uncond).x0
        self.close(both, off + 3.0 * (on - off))
        self.close(each[0], both[0])
        self.close(each[1], on[1])

    def test_the_teacher_is_frozen_but_lets_gradients_through(self, backbone: Backbone) -> None:
        """The input gets a gradient; no role or teacher tensor does."""
        role = self.role(backbone, "contract-frozen")
        x, t, cond = self.inputs(backbone)
        x.requires_grad_(True)
        torch.autograd.backward(backbone.predict(None, x, t, cond).x0.square().mean())
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert all(p.grad is None for p in role.parameters())

    # ---- roles ----------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["lora", "copy"])
    def test_roles_start_as_the_teacher(self, backbone: Backbone, kind: str) -> None:
        """All roles agree at the start, and with the teacher where it can be copied."""
        first = self.role(backbone, f"contract-first-{kind}", kind)
        second = self.role(backbone, f"contract-second-{kind}", kind)
        got = self.raw(backbone, first)
        assert torch.equal(self.raw(backbone, second), got)
        if self.starts_as_teacher:
            self.close(got, self.raw(backbone, None))

    @pytest.mark.parametrize("kind", ["lora", "copy"])
    def test_a_turn_reaches_its_role_alone(self, backbone: Backbone, kind: str) -> None:
        """Other roles run in between; only the turn's role gets gradients, and only it moves."""
        student = self.role(backbone, f"contract-student-{kind}", kind)
        fake = self.role(backbone, f"contract-fake-{kind}", kind)
        teacher, before = self.raw(backbone, None), self.raw(backbone, fake)
        for net, other in ((fake, student), (student, fake)):
            net.requires_grad_(True)
            other.requires_grad_(False)
            with net.active():
                loss = self.ask(backbone, net).x0.square().mean()
                self.raw(backbone, other)
                self.raw(backbone, None)
                torch.autograd.backward(loss)
            assert all(p.grad is not None for p in net.parameters())
            assert all(p.grad is None for p in other.parameters())
            grads = [p.grad for p in net.parameters() if p.grad is not None]
            assert any(bool(g.abs().max() > 0) for g in grads)
            if net is student:
                torch.optim.SGD(net.parameters(), lr=1e-2).step()
            for parameter in net.parameters():
                parameter.grad = None
        assert torch.equal(self.raw(backbone, None), teacher)
        assert torch.equal(self.raw(backbone, fake), before)
        assert not torch.equal(self.raw(backbone, student), before)

    @pytest.mark.parametrize("kind", ["lora", "copy"])
    def test_state_restores_a_role(self, backbone: Backbone, kind: str) -> None:
        """The saved tensors are all that makes a role what it is."""
        one = self.role(backbone, f"contract-one-{kind}", kind)
        two = self.role(backbone, f"contract-two-{kind}", kind)
        _disturb(one)
        two.load_tensors(one.tensors())
        assert torch.equal(self.raw(backbone, two), self.raw(backbone, one))

    def test_an_average_is_a_role_of_its_own(self, backbone: Backbone) -> None:
        """It stays behind while the net moves, and the net is not touched by its use."""
        net = self.role(backbone, "contract-averaged")
        average, before = net.start_ema(0.9), self.raw(backbone, net)
        _disturb(net)
        moved = self.raw(backbone, net)
        assert torch.equal(self.raw(backbone, average), before)
        assert torch.equal(self.raw(backbone, net), moved)
        net.update_ema()
        assert not torch.equal(self.raw(backbone, average), before)

    def test_scalar_conditions_start_as_no_change(self, backbone: Backbone) -> None:
        """A conditioned net ignores its conditions until it is trained; others always do."""
        names = ("guidance", "end_t", "steps_k")
        x, t, _ = self.inputs(backbone)
        given: dict[str, Any] = {
            "embed_scale": torch.tensor([7.5, 2.0], device=x.device),
            "end_t": t // 2,
            "steps_k": torch.tensor([4.0, 2.0], device=x.device),
        }
        net = self.role(backbone, "contract-conditions", "lora", conditions=names)
        plain = self.role(backbone, "contract-plain")
        assert torch.equal(self.raw(backbone, net, **given), self.raw(backbone, plain))
        assert torch.equal(self.raw(backbone, None, **given), self.raw(backbone, None))
        _disturb(net)
        before = self.raw(backbone, net, **given)
        for name in given:
            changed = {**given, name: given[name].flip(0)}
            assert not torch.equal(self.raw(backbone, net, **changed), before), name

    # ---- samples --------------------------------------------------------------------------

    def test_decoded_samples_are_of_the_modality(self, backbone: Backbone) -> None:
        """uint8 pictures or clips with the colours last, float32 points."""
        x, _, _ = self.inputs(backbone)
        samples = backbone.decode(x[:1])
        assert len(samples) == 1
        assert samples.ndim == {"image": 4, "video": 5, "point": 2}[backbone.modality]
        if backbone.modality == "point":
            assert samples.dtype == torch.float32
            return
        assert samples.dtype == torch.uint8
        assert samples.shape[-1] == 3

    def test_made_latents_fit(self, backbone: Backbone) -> None:
        """Real latents, where the world makes them, repeat for the same generator."""
        prompts = self.real_prompts(backbone)
        made = [backbone.training_latents(prompts, generator("real")) for _ in range(2)]
        if made[0] is None or made[1] is None:
            assert made[0] is made[1]
            return
        assert made[0].shape == (len(prompts), *backbone.latent_shape)
        assert made[0].dtype == torch.float32
        assert torch.equal(made[0], made[1])

    def real_prompts(self, backbone: Backbone) -> Sequence[str]:
        """Prompts to make latents for: the first of its own set where it has one."""
        from distillbench.data.prompts import load_prompts

        if not backbone.train_prompts:
            return self.prompts
        return load_prompts(backbone.train_prompts).prompts[:2]


def _disturb(net: NetHandle) -> None:
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            noise = torch.randn(parameter.shape, generator=generator("disturb", i))
            parameter.add_(0.1 * noise.to(parameter.device))
