"""Run a plan: every stage that is not done, each once, on whatever runner was chosen.

The policy lives here and nowhere else: order, retries, failure isolation, signs of life, signals.
A stage counts as done when its commit marker is on the disk, never because a worker said so.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distillbench.errors import StorageError
from distillbench.run.attempt import Attempt
from distillbench.run.executor import Result
from distillbench.run.options import Outcome, RunOptions, open_executor
from distillbench.run.order import Order
from distillbench.run.progress import Progress, open_progress
from distillbench.run.stage import Plan, Stage, lineage
from distillbench.store.claim import Holder
from distillbench.store.layout import Store
from distillbench.store.record import Failure

__all__ = ["execute"]

_TRIES: Mapping[str, int] = {"died": 3, "oom": 2}
_TICK = 0.2
_LOOK_EVERY = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def execute(
    plan: Plan,
    store: Store,
    options: RunOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Outcome:
    """Bring every stage of the plan to its commit, or say why not.

    Raises:
        BadInput: the machine lacks what was asked for; nothing was started.
        StorageError: the store cannot be written.
    """
    options = options or RunOptions()
    store.prepare()
    shown = progress or open_progress(store.root.parent / plan.name / "log.txt")
    try:
        return _Driver(plan, store, options, shown).run()
    finally:
        shown.close()


class _Driver:
    """One run of one plan."""

    def __init__(self, plan: Plan, store: Store, options: RunOptions, progress: Progress) -> None:
        self.name = secrets.token_hex(6)
        self.plan = plan
        self.store = store
        self.options = options
        self.progress = progress
        self.outcome = Outcome()
        self.running: dict[str, Attempt] = {}
        self.elsewhere: dict[str, float] = {}  # claimed by another run -> when to look again
        self.tries: dict[str, int] = dict.fromkeys(plan.stages, 0)
        self.signals = 0
        self.stopping = False

    # ---- the run --------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Survey the store, then work until nothing is left that can run."""
        problems = self._survey()
        stages = self.plan.stages
        work = sum(s.cost for k, s in stages.items() if k not in self.outcome.cached)
        self.progress.begin(self.plan.name, stages, len(self.outcome.cached), work)
        self.order = Order(stages, done=self.outcome.cached)
        for key in [k for k in problems if k not in self.outcome.blocked]:
            problem = problems[key]
            self._give_up(stages[key], problem, log=self._old_log(key))
        if self.order.left and not self.stopping:
            with self._signals():
                self.executor = open_executor(self.plan, self.store, self.options, run=self.name)
            with self._signals():  # again: Ray installs handlers of its own
                try:
                    self._work()
                finally:
                    self.executor.close()
        return self.outcome

    def _survey(self) -> dict[str, str]:
        """Sort the stages into cached, new (in no list) and, returned, those with a problem."""
        problems = {}
        for key, stage in self.plan.stages.items():
            problem = self.store.problem(stage.kind, key)
            if problem is not None and self.options.retry_failed:
                aside = self.store.reset(stage.kind, key)
                if aside is not None:
                    self.progress.say(f"altered files of {stage.label or key} moved to {aside}")
            elif problem is not None:
                problems[key] = problem
            if self.store.is_done(stage.kind, key):
                self.outcome.cached.append(key)
        return problems

    def _work(self) -> None:
        while self.running or not self.stopping:
            if not self.stopping:
                self._look_elsewhere()
                self._hand_out()
                if not (self.running or self.elsewhere):
                    return
            for result in self.executor.poll(_TICK):
                self._settle(result)
            self._watch()
            self.progress.tick()
            self._obey_signals()

    def _hand_out(self) -> None:
        while (stage := self.order.next(self.executor.free)) is not None:
            holder = self._holder(stage)
            if holder is not None:
                self._wait_for(stage, holder)
                continue
            self.tries[stage.key] += 1
            self.running[stage.key] = Attempt(self.store, stage, run=self.name)
            self.progress.started(stage, self.tries[stage.key])
            self.executor.submit(stage, attempt=self.tries[stage.key])

    # ---- how attempts end -----------------------------------------------------------------

    def _settle(self, result: Result) -> None:
        stage = self.running.pop(result.key).stage
        if result.status in ("done", "cached"):
            self._finish(stage, ran=result.status == "done")
        elif result.status == "busy":
            self.tries[stage.key] -= 1
            self.progress.stopped(stage, "another run has it")
            self.elsewhere[stage.key] = time.monotonic() + _LOOK_EVERY
        elif result.status == "stopped":
            self._stopped(stage, result.error)
        else:
            self._failed(stage, result)

    def _finish(self, stage: Stage, *, ran: bool) -> None:
        folder = self.store.path(stage.kind, stage.key)
        os.listdir(folder.parent)  # a network file system may not have told us of it yet
        if not self.store.is_done(stage.kind, stage.key):
            error = f"{folder}: the worker reports success, but no commit marker is here"
            self._give_up(stage, f"{error}. Every node must see the same results folder", log="")
            return
        (self.outcome.ran if ran else self.outcome.cached).append(stage.key)
        self.order.done(stage.key)
        self.progress.finished(stage)

    def _stopped(self, stage: Stage, why: str) -> None:
        self.progress.stopped(stage, why)
        if self.stopping:
            return
        # Not our doing: somebody stopped the worker, or took its claim over.
        self.tries[stage.key] -= 1
        self.order.put_back(stage.key)

    def _failed(self, stage: Stage, result: Result) -> None:
        log = result.log
        if result.status == "died":
            log = self.store.abandon(stage.kind, stage.key, run=self.name)
        if self.tries[stage.key] < _TRIES.get(result.status, 1):
            self.progress.stopped(stage, f"{result.error}; trying again")
            self.order.put_back(stage.key)
            return
        if result.status != "storage":
            self._record(stage, result.error, log, lasting=result.lasting)
        self._give_up(stage, result.error, log=log)
        if result.status == "storage":
            self._stop_early("the results folder cannot be written; stopping")

    def _record(self, stage: Stage, error: str, log: str, *, lasting: bool = True) -> None:
        tries = self.tries[stage.key]
        failure = Failure(error=error, log=log, attempt=tries, lasting=lasting)
        try:
            if not lasting and self.store.problem(stage.kind, stage.key) is not None:
                return  # what is on record lasts
            self.store.fail(stage.kind, stage.key, failure)
            self.store.log("failed", stage.kind, stage.key, error=error)
        except StorageError as problem:
            self.progress.say(f"the failure could not be recorded: {problem.line}")

    def _give_up(self, stage: Stage, error: str, *, log: str) -> None:
        """Take a stage and its descendants out of the run; all others go on."""
        blocked = self.order.drop(stage.key)
        self.outcome.failed[stage.key] = error
        self.outcome.blocked += blocked
        self.progress.failure(stage, error, log, len(blocked))
        if self.options.fail_fast:
            self._stop_early("stopping at the first failure; running stages write checkpoints")

    def _stop_early(self, why: str) -> None:
        if not self.stopping:
            self.outcome.blocked += self.order.left
            self._stop(why)

    def _old_log(self, key: str) -> str:
        path = self.store.failure_log(self.plan.stages[key].kind, key)
        return str(path) if path.exists() else ""

    # ---- other runs, hung stages, signals ---------------------------------------------------

    def _wait_for(self, stage: Stage, holder: Holder) -> None:
        self.progress.say(f"wait   {stage.label or stage.key}: {holder.name} runs it")
        self.elsewhere[stage.key] = time.monotonic() + _LOOK_EVERY

    def _holder(self, stage: Stage) -> Holder | None:
        """Who runs the stage, or another one that writes its checkpoints."""
        keys = dict.fromkeys((stage.key, lineage(stage)))
        holders = (self.store.holder(stage.kind, key) for key in keys)
        return next((holder for holder in holders if holder is not None), None)

    def _look_elsewhere(self) -> None:
        for key in [k for k, when in self.elsewhere.items() if when < time.monotonic()]:
            stage = self.plan.stages[key]
            if self.store.is_done(stage.kind, key):
                del self.elsewhere[key]
                self._finish(stage, ran=False)
            elif self._holder(stage) is None:
                del self.elsewhere[key]
                self.order.put_back(key)
            else:
                self.elsewhere[key] = time.monotonic() + _LOOK_EVERY

    def _watch(self) -> None:
        """Pass progress on, and end attempts that stopped telling any."""
        for attempt in list(self.running.values()):
            event = attempt.news()
            if event is not None:
                self.progress.moved(attempt.stage, event)
            elif attempt.silent > self.options.stale_after:
                self._end_hung(attempt)

    def _end_hung(self, attempt: Attempt) -> None:
        stage = attempt.stage
        del self.running[stage.key]
        self.executor.kill(stage.key)
        log = self.store.abandon(stage.kind, stage.key, run=self.name)
        error = f"no sign of progress for {attempt.silent:.0f} s; killed"
        self._record(stage, error, log)
        self._give_up(stage, error, log=log)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count SIGINT and SIGTERM instead of dying of them."""

        def count(number: int, frame: Any) -> None:
            self.signals += 1

        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread alone
            return
        before = {number: signal.signal(number, count) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _obey_signals(self) -> None:
        if self.signals and not self.outcome.interrupted:
            self.outcome.interrupted = True
            self._stop("interrupted; running stages write their checkpoints (again: kill them)")
        elif self.signals > 1 and self.running:
            self.progress.say("killed; the next run continues from the last checkpoints")
            for key in list(self.running):
                self.executor.kill(key)
            self.running.clear()

    def _stop(self, why: str) -> None:
        self.progress.say(why)
        self.stopping = True
        if self.running:
            self.executor.stop()
