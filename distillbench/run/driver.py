"""Run a plan: every stage that is not done, each once, on whatever runner was chosen.

The policy lives here and nowhere else: order, retries, failure isolation, signs of life, signals.
A stage counts as done when its commit marker is on the disk and every byte of it is as committed,
never because a worker said so; a run ends well when that holds for every stage of its plan.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence

from distillbench.errors import StageFailed
from distillbench.plan.stage import Plan, Stage
from distillbench.run.attempt import Attempt
from distillbench.run.elsewhere import Elsewhere
from distillbench.run.executor import Result, width
from distillbench.run.ledger import Ledger
from distillbench.run.options import Outcome, RunOptions, open_executor
from distillbench.run.order import Order
from distillbench.run.progress import ProgressLog, open_progress
from distillbench.run.signals import Signals
from distillbench.store.layout import Store
from distillbench.store.record import Failure

__all__ = ["execute"]

_TRIES: Mapping[str, int] = {"died": 3, "oom": 2}
_TICK = 0.2


def execute(
    plan: Plan,
    store: Store,
    options: RunOptions | None = None,
    *,
    progress: ProgressLog | None = None,
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

    def __init__(
        self, plan: Plan, store: Store, options: RunOptions, progress: ProgressLog
    ) -> None:
        self.name = secrets.token_hex(6)
        self.plan = plan
        self.store = store
        self.options = options
        self.progress = progress
        self.outcome = Outcome()
        self.ledger = Ledger(plan, store, self.outcome, progress, options)
        self.running: dict[str, Attempt] = {}
        self.elsewhere = Elsewhere(store, self.ledger.done)
        self.tries: dict[str, int] = dict.fromkeys(plan.stages, 0)
        self.signals = Signals()
        self.stopping = False
        self.cramped: float | None = None  # since when nothing that is left fits anywhere

    # ---- the run --------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Survey the store, then work until nothing is left that can run."""
        problems = self.ledger.survey()
        stages = self.plan.stages
        cached = frozenset(self.outcome.cached)
        work = sum(s.cost for k, s in stages.items() if k not in cached)
        self.progress.begin(self.plan.name, stages, len(self.outcome.cached), work)
        self.order = Order(stages, done=cached)
        for key, problem in problems.items():
            self._give_up(stages[key], problem, log=self.ledger.old_log(stages[key]))
        if self.order.left and not self.stopping:
            with self.signals.counted():
                self.executor = open_executor(self.plan, self.store, self.options, run=self.name)
            with self.signals.counted():  # again: Ray installs handlers of its own
                try:
                    self._work()
                except StageFailed as error:  # the runner itself is lost
                    self._lose_all(error.line)
                finally:
                    self.executor.close()
        if not self.stopping:
            self.ledger.account()
        return self.outcome

    def _work(self) -> None:
        while self.running or not self.stopping:
            if not self.stopping:
                self._look_elsewhere()
                self._hand_out()
                if not (self.running or self.elsewhere or self._room_may_come()):
                    return
            for result in self.executor.poll(_TICK):
                self._settle(result)
            self._watch()
            self.progress.tick()
            self._obey_signals()

    def _hand_out(self) -> None:
        while (stage := self.order.next(self.executor.free)) is not None:
            self.cramped = None
            holder = self.elsewhere.holder(stage)
            if holder is not None:
                self.progress.say(f"wait   {stage.name}: {holder.name} runs it")
                self.elsewhere.wait(stage)
                continue
            self.tries[stage.key] += 1
            self.running[stage.key] = Attempt(self.store, stage, run=self.name)
            self.progress.started(stage, self.tries[stage.key])
            self.executor.submit(stage, attempt=self.tries[stage.key])

    def _room_may_come(self) -> bool:
        """Whether to wait for machines; when that was in vain, what is left has failed."""
        left = self.order.left
        if not left:
            return False
        now = time.monotonic()
        slots = max((width(self.plan.stages[key]) for key in self.order.ready), default=0)
        what = f"{len(left)} stage(s) left, the widest of the next needs {slots} slot(s) on one "
        what += f"machine; there are {self.executor.widest} ({self.executor.room})"
        if self.cramped is None:
            self.cramped = now
            self.progress.say(f"wait   {what}; waiting {self.options.room_wait:.0f} s for more")
        if now - self.cramped <= self.options.room_wait:
            return True
        self._lose_all(f"no machine to run on: {what}")
        return False

    def _lose_all(self, why: str) -> None:
        """Give up every stage that runs or could run; the others are blocked by them."""
        for key in list(self.running):
            self._give_up(self.running.pop(key).stage, why, log="")
        for key in self.order.ready:
            self._give_up(self.plan.stages[key], why, log="")
        for key in self.order.left:
            if self.order.state(key) == "waiting":  # else blocked by one before it
                self._give_up(self.plan.stages[key], why, log="")

    # ---- how attempts end -----------------------------------------------------------------

    def _settle(self, result: Result) -> None:
        attempt = self.running.pop(result.key)
        stage = attempt.stage
        self._tell(attempt, result.notes)
        if result.status in ("done", "cached"):
            self._finish(stage, ran=result.status == "done")
        elif result.status == "busy":
            self.tries[stage.key] -= 1
            self.progress.stopped(stage, "another run has it")
            self.elsewhere.wait(stage)
        elif result.status == "stopped":
            self._stopped(stage, result.error)
        else:
            self._failed(stage, result)

    def _finish(self, stage: Stage, *, ran: bool) -> None:
        folder = self.store.path(stage.kind, stage.key)
        if not self.ledger.done(stage):
            os.listdir(folder.parent)  # a network file system may not have told us of it yet
        if not self.ledger.done(stage):
            error = f"{folder}: the worker reports success, but no commit marker is here"
            self._give_up(stage, f"{error}. Every node must see the same results folder", log="")
            return
        (self.outcome.ran if ran else self.outcome.cached).append(stage.key)
        self.order.done(stage.key)
        self.progress.finished(stage)
        for user in self.order.users(stage.key):
            if self.order.state(user) == "done":
                self._recheck(self.plan.stages[user])

    def _recheck(self, user: Stage) -> None:
        """A stage that was done may have been made from other bytes than its input has now."""
        problem = self.ledger.undone(user)
        if problem is None:
            return
        if self.options.retry_failed:
            self.ledger.make_way(user, problem)
            self.order.put_back(user.key)
        else:
            self._give_up(user, problem, log="")

    def _stopped(self, stage: Stage, why: str) -> None:
        self.progress.stopped(stage, why)
        if self.stopping:
            return
        # Not our doing: somebody stopped the worker, or took its lease over.
        self.tries[stage.key] -= 1
        self.order.put_back(stage.key)

    def _failed(self, stage: Stage, result: Result) -> None:
        log = result.log
        if result.status == "died":
            log = self.ledger.abandon(stage, run=self.name)
        if not self.order.fed(stage.key):  # its input was found to be altered meanwhile
            self.progress.stopped(stage, f"{result.error}; waiting for its input")
            self.order.put_back(stage.key)
            return
        if self.tries[stage.key] < _TRIES.get(result.status, 1):
            self.progress.stopped(stage, f"{result.error}; trying again")
            self.order.put_back(stage.key)
            return
        if result.status != "storage":
            tries = self.tries[stage.key]
            failure = Failure(result.error, log, attempt=tries, lasting=result.lasting)
            self.ledger.record(stage, failure)
        self._give_up(stage, result.error, log=log)
        if result.status == "storage":
            self._stop_early("the results folder cannot be written; stopping")

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

    # ---- other runs, hung stages, signals ---------------------------------------------------

    def _look_elsewhere(self) -> None:
        for stage in self.elsewhere.back():
            if self.ledger.done(stage):
                self._finish(stage, ran=False)
            else:
                self.order.put_back(stage.key)

    def _watch(self) -> None:
        """Pass progress on, and end attempts that stopped telling any."""
        for attempt in list(self.running.values()):
            event = attempt.news()
            self._tell(attempt, attempt.notes)
            if event is not None:
                self.progress.moved(attempt.stage, event)
            elif attempt.silent > self.options.stale_after:
                self._end_hung(attempt)
            elif attempt.lost:
                self._end_lost(attempt)
            elif not attempt.begun and width(attempt.stage) > self.executor.widest:
                self.executor.kill(attempt.stage.key)
                self._settle(Result(attempt.stage.key, "stopped", error="its machine is gone"))

    def _tell(self, attempt: Attempt, notes: Sequence[str]) -> None:
        for text in attempt.untold(notes):
            self.progress.say(f"note   {attempt.stage.name}: {text}")

    def _end_lost(self, attempt: Attempt) -> None:
        stage = attempt.stage
        self.executor.kill(stage.key)
        done = self.ledger.done(stage)
        error = "" if done else "its process is gone"
        self._settle(Result(stage.key, "done" if done else "died", error=error))

    def _end_hung(self, attempt: Attempt) -> None:
        stage = attempt.stage
        del self.running[stage.key]
        self.executor.kill(stage.key)
        log = self.ledger.abandon(stage, run=self.name)
        error = f"no sign of progress for {attempt.silent:.0f} s; killed"
        self.ledger.record(stage, Failure(error, log, attempt=self.tries[stage.key]))
        self._give_up(stage, error, log=log)

    def _obey_signals(self) -> None:
        if self.signals.count and not self.outcome.interrupted:
            self.outcome.interrupted = True
            self._stop("interrupted; running stages write their checkpoints (again: kill them)")
        elif self.signals.count > 1 and self.running:
            self.progress.say("killed; the next run continues from the last checkpoints")
            for key in list(self.running):
                self.executor.kill(key)
            self.running.clear()

    def _stop(self, why: str) -> None:
        self.progress.say(why)
        self.stopping = True
        if self.running:
            self.executor.stop()
