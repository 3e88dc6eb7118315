"""The training loop; there is no other. It turns a train stage's spec into a student on disk."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from distillbench.api.method import Batch, Losses
from distillbench.api.published import Published
from distillbench.errors import Interrupted, PluginError
from distillbench.files.io import write_json
from distillbench.numerics import Meter, repeatable
from distillbench.specs.context import StageContext
from distillbench.specs.stages import TrainSpec
from distillbench.student import files as export
from distillbench.train import ranks, state
from distillbench.train.build import build
from distillbench.train.feed import feed, source
from distillbench.train.ranks import Team
from distillbench.train.role import Role, make_role, only
from distillbench.train.shard import Shards
from distillbench.train.watch import Watch
from distillbench.train.work import TrainWork

__all__ = ["Trainer", "train_stage"]

LOG_ROWS = 200
HEARTBEAT_SECONDS = 2.0


def train_stage(spec: TrainSpec, context: StageContext, *, out: Path, checkpoints: Path) -> None:
    """Train what `spec` describes and write the student into `out`.

    Continues from the newest checkpoint, and ends with the very bits of an uninterrupted run on the
    same device. Writes student.safetensors and net.json (neither for a method without nets),
    recipe.json, train.jsonl and cost.json.

    Raises:
        Interrupted: it was asked to stop; a checkpoint of the last finished step is written.
        NonFiniteLoss: a loss or gradient is NaN or infinite.
    """
    work = TrainWork(spec, context, out, checkpoints)
    with repeatable(context.runtime.threads), ranks.team(work) as team:
        Trainer(work, team).run()


@dataclass
class Trainer:
    """One run: owns everything about training but the mathematics of the loss."""

    work: TrainWork
    team: Team
    step: int = 0
    roles: dict[str, Role] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    saved_at: str = "none yet"
    beat: float = 0.0

    def __post_init__(self) -> None:
        self.spec, self.context = self.work.spec, self.work.context
        self.out, self.checkpoints = self.work.out, self.work.checkpoints
        self.train = self.spec.train
        size = self.team.size
        self.micros = range(self.team.rank, self.train.accumulate * size, size)
        self.meter = Meter(self.team.device)
        self.method = build(self.spec, self.context.runtime)
        self.watch = Watch.of(self.method.name, self.team)
        export.default_sampler(self.method)  # a student that nothing can sample is not trained
        self.method.total_steps, self.stop = self.train.updates, self.train.last

    # ---- the run --------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end, from the newest checkpoint where there is one."""
        if self.method.nets():
            self._set_up()
            self._resume()
            steps = range(self.step, self.stop)
            with feed(self.data, self.method, self.micros, steps, self._tick) as self.batch:
                self._steps()
        elif published := self.method.published():
            self._adopt(published)
        self._finish()

    def _adopt(self, published: Published) -> None:
        """Make the student of weights that others trained; in float32, whatever it is sampled in.

        A pipeline of its own is read where it lies.
        """
        if published.kind == "pipeline":
            return
        self.method.backbone.load(self.team.device)
        name = self.method.student
        net, kind, opts = self.method.backbone.adopt(name, published)
        export.write_net(self.out, net, name, kind, opts)

    def _steps(self) -> None:
        total, save_every = self.train.updates, self.context.runtime.save_every
        every, first = max(1, total // LOG_ROWS), self.step
        started = time.perf_counter()
        self._write_log()
        while self.step < self.stop:
            if self.team.any(self.context.should_stop()):
                self._save()
                raise Interrupted(f"stopped after step {self.step} of {total}")
            logged = self.step % every == 0 or self.step == total - 1
            losses = self._one_step(logged)
            self.step += 1
            self.watch.stepped(self.step, self.saved_at)
            if logged:
                self.log.append(json.dumps({"step": self.step, **losses}) + "\n")
                self._write_log(self.log[-1:])
            if self.step in (total // 2, total):
                self._warn()
            now = time.perf_counter()
            if logged or now - self.beat > HEARTBEAT_SECONDS:
                self.beat, rate = now, (self.step - first) / (now - started)
                self.context.progress({
                    "kind": "train", "step": self.step, "steps": self.stop,
                    "steps_per_second": rate, "losses": losses,
                })  # fmt: skip
            if self.step < total and (self.step % save_every == 0 or self.step == self.stop):
                self._save()

    def _one_step(self, logged: bool) -> dict[str, float]:
        """All turns of a step; their mean losses where they are to be logged.

        A role that comes twice in a step sees a new batch each time; different roles share one.
        """
        batches: dict[tuple[int, int], Batch] = {}
        repeats: Counter[str] = Counter()
        losses: dict[str, float] = {}
        for turn in self.method.turns(self.step):
            reported = self._turn(turn, batches, repeats[turn])
            repeats[turn] += 1
            if logged:
                losses |= self._mean(turn, reported)
        return losses

    def _turn(
        self, turn: str, batches: dict[tuple[int, int], Batch], repeat: int
    ) -> list[Mapping[str, torch.Tensor]]:
        """One update of the roles a turn trains; returns what each micro-batch reported."""
        trained = self.method.trains(turn)
        only(trained, self.roles.items())
        reported: list[Mapping[str, torch.Tensor]] = []
        with self.roles[turn].net.active():  # for backward too: checkpointed layers run again in it
            for micro in self.micros:
                if (repeat, micro) not in batches:
                    batches[repeat, micro] = self.batch(self.step, micro, repeat)
                    if self.train.shard:
                        batches[repeat, micro].anywhere = self.team.any
                losses = self.method.loss(turn, batches[repeat, micro], self.step)
                self._backward(turn, losses.total / len(self.micros))
                reported.append(_detached(losses))
        losses_good = torch.stack([r["loss"] for r in reported]).isfinite().all()
        roles = [self.roles[name] for name in trained]
        gradients_good = torch.stack([role.gather(self.team) for role in roles]).all()
        self.watch.see(self.step, turn, (losses_good, gradients_good), self.saved_at)
        for role in roles:
            role.step(self.team)
        if self.team.scaler:
            self.team.scaler.update()
        return reported

    def _backward(self, turn: str, loss: torch.Tensor) -> None:
        if not loss.requires_grad:
            raise PluginError(f"{self.method.name}: the loss of turn {turn!r} reaches no {turn}")
        (self.team.scaler.scale(loss) if self.team.scaler else loss).backward()

    def _mean(self, turn: str, reported: list[Mapping[str, torch.Tensor]]) -> dict[str, float]:
        names = sorted(reported[0])
        means = [float(torch.stack([r[n] for r in reported]).mean()) for n in names]
        totals = self.team.total(means)
        return {f"{turn}/{n}": v / self.team.size for n, v in zip(names, totals, strict=True)}

    # ---- setting up -----------------------------------------------------------------------

    def _set_up(self) -> None:
        method, backbone, device = self.method, self.method.backbone, self.team.device
        backbone.load(device, dtype=self.train.precision)
        runs, spec, train = self.checkpoints.parent, self.spec, self.train
        if spec.teacher:
            export.replace_teacher_by_run(backbone, runs / spec.teacher)
        if train.merge_adapters or train.compile:
            backbone.tune(merge_adapters=train.merge_adapters, compile=train.compile)
        self.meter.watch(backbone)
        self.data = source(spec, self.context.runtime, method, device, self._tell)
        self.batch = self.data.batch
        shards = Shards(self.team, backbone) if train.shard else None
        for name, net in method.nets().items():
            self.roles[name] = make_role(
                method, name, net, seed=spec.seed, lr_scale=train.lr_scale, device=device,
                kind=train.optimizer, deal=shards.deal if shards else None,
            )  # fmt: skip
        if shards:
            shards.deal_frozen(role.net for role in self.roles.values())
            shards.keep_in_step(method.name)
        if spec.init:
            self.roles[method.student].start_from(export.read_tensors(runs / spec.init))
        method.bind({name: role.net for name, role in self.roles.items()})

    # ---- files ----------------------------------------------------------------------------

    def _write_log(self, lines: Sequence[str] | None = None) -> None:
        """Write train.jsonl anew, or lines at its end, so that losses are read while it trains."""
        if self.team.rank == 0:
            mode, text = ("w", self.log) if lines is None else ("a", lines)
            with (self.out / "train.jsonl").open(mode, encoding="utf-8") as file:
                file.writelines(text)

    def _save(self) -> None:
        self.watch.look(self.saved_at)
        cost = self._cost()
        if self.team.rank and not self.train.shard:
            return
        tensors = {k: v for role in self.roles.values() for k, v in role.tensors().items()}
        if self.team.rank:
            return
        record = {
            "updates": {name: role.updates for name, role in self.roles.items()},
            "scaler": self.team.scaler.state_dict() if self.team.scaler else {},
            "cost": cost,
        }
        self.saved_at = str(state.save(self.checkpoints, self.step, tensors, record, self.log))

    def _resume(self) -> None:
        if self.team.rank == 0:
            state.sweep(self.checkpoints)
        saved = state.latest(self.checkpoints, at_most=self.stop, tell=self._tell)
        if saved is None:
            return
        for role in self.roles.values():
            role.load(saved)
        if self.team.scaler:
            self.team.scaler.load_state_dict(saved.state["scaler"])
        cost = saved.state["cost"]
        if self.team.rank == 0:
            self.meter.resume(cost)
        else:  # the same names in every rank, whether or not this attempt evaluates any of them
            self.meter.evaluations.update(dict.fromkeys(cost["evaluations"], 0))
        self.step, self.log, self.saved_at = saved.step, list(saved.log), str(saved.path)

    def _warn(self) -> None:
        """Tell what the method finds amiss in the log, and keep it there."""
        rows = [row for row in map(json.loads, self.log) if "warning" not in row]
        for text in self.method.warnings(rows):
            self._tell(f"{self.method.name}: at step {self.step} {text}")
            self.log.append(json.dumps({"step": self.step, "warning": text}) + "\n")

    def _tick(self) -> None:
        """A sign of life before the first step, and the place to stop at."""
        if self.context.should_stop():
            raise Interrupted(f"stopped after step {self.step} of {self.train.updates}")
        now = time.perf_counter()
        if now - self.beat > HEARTBEAT_SECONDS:
            self.beat = now
            self.context.progress({"kind": "train", "step": self.step, "steps": self.stop})

    def _tell(self, text: str) -> None:
        """A line for the user; ranks above 0 see the same and say nothing (see `follower`)."""
        self.context.progress({"kind": "train", "note": text})

    def _finish(self) -> None:
        self.watch.look(self.saved_at)
        cost = self._cost()
        if self.team.rank:
            if self.train.shard:  # rank 0 writes what all of them hold
                net = self.roles[self.method.student].net
                (net.ema or net).tensors()
            return
        if self.roles:
            name = self.method.student
            export.write_student(self.out, self.roles[name].net, self.method.nets()[name])
            self._write_log()
        export.write_recipe(self.out, self.spec, self.method)
        write_json(self.out / "cost.json", cost)

    def _cost(self) -> dict[str, Any]:
        """Totals over all ranks; seconds are the wall clock of rank 0."""
        cost = self.meter.totals()
        names = sorted(cost["evaluations"])
        sums = self.team.total([cost["cpu_seconds"], *(cost["evaluations"][n] for n in names)])
        cost["cpu_seconds"] = sums[0]
        cost["evaluations"] = dict(zip(names, map(int, sums[1:]), strict=True))
        student = self.roles.get(self.method.student)
        return {**cost, "student_updates": student.updates if student else 0,
                "processes": self.team.size}  # fmt: skip


def _detached(losses: Losses) -> Mapping[str, torch.Tensor]:
    return {"loss": losses.total.detach(), **{n: v.detach() for n, v in losses.scalars.items()}}
