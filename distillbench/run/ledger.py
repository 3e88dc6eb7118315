"""What a run says of each stage, held against what the store holds."""

from __future__ import annotations

from distillbench.errors import StorageError
from distillbench.plan.stage import Plan, Stage
from distillbench.run.options import Outcome, RunOptions
from distillbench.run.progress import ProgressLog
from distillbench.run.redo import Surveyed, to_redo
from distillbench.store import redo
from distillbench.store.layout import Store
from distillbench.store.record import Failure

__all__ = ["Ledger"]


class Ledger:
    """The lists of an outcome, and the records behind them."""

    def __init__(
        self, plan: Plan, store: Store, outcome: Outcome, progress: ProgressLog, options: RunOptions
    ) -> None:
        self.plan = plan
        self.store = store
        self.outcome = outcome
        self.progress = progress
        self.redo = options.retry_failed
        self.anew = to_redo(plan, Surveyed.of(plan, store)) if options.redo_changed else set()

    def survey(self) -> dict[str, str]:
        """Sort the stages into cached, new (in no list) and, returned, those with a problem."""
        problems = {}
        if self.anew:
            what = f"{len(self.anew)} stage(s) that other code made, or that stand on such"
            self.progress.say(f"redo   {what}; the old ones stay until the new ones are there")
        for key, stage in self.plan.stages.items():
            if key in self.anew:
                redo.ask(self.store.path(stage.kind, key))
                continue
            problem = self.store.problem(stage.kind, key)
            if problem is not None and self.redo:
                self.make_way(stage, problem)
            elif problem is not None:
                problems[key] = self._earlier(stage) or problem
            elif self.store.path(stage.kind, key).is_dir():  # every byte was just compared
                self.outcome.cached.append(key)
        return problems

    def make_way(self, stage: Stage, problem: str) -> None:
        """Forget a stage's failure, so that it runs again; altered files are kept and named."""
        aside = self.store.reset(stage.kind, stage.key)
        if aside is not None:
            self.progress.say(f"redo   {stage.kind} {stage.key}: {problem}")
            self.progress.say(f"altered files of {stage.name} moved to {aside}")

    def done(self, stage: Stage) -> bool:
        """Whether a stage is done; one that is made anew only when its successor is there."""
        there = self.store.is_current if stage.key in self.anew else self.store.is_done
        return there(stage.kind, stage.key)

    def undone(self, stage: Stage) -> str | None:
        """Why a stage that was done is no longer, which takes it off the lists; None if it is."""
        lists = [found for found in (self.outcome.cached, self.outcome.ran) if stage.key in found]
        problem = self.store.problem(stage.kind, stage.key) if lists else None
        if problem is not None:
            for found in lists:
                found.remove(stage.key)
        return problem

    def account(self) -> None:
        """Nothing is done that is not on the disk, and nothing may end in no list."""
        if self.anew:
            self.store.sweep()  # what was replaced, where nothing stands on it any more
        told = {*self.outcome.failed, *self.outcome.blocked}
        for key, stage in self.plan.stages.items():
            if key in told or self.done(stage):
                continue
            why = self.undone(stage) or self.store.reason(stage.kind, key)
            why = f"not done at the end of the run: {why or 'no commit marker is on the disk'}"
            self.outcome.failed[key] = why
            self.progress.failure(stage, why, "", 0)

    def record(self, stage: Stage, failure: Failure) -> None:
        """Keep a failure for later runs; one on record that lasts is not replaced by another."""
        try:
            if not failure.lasting and self.store.problem(stage.kind, stage.key) is not None:
                return
            self.store.fail(stage.kind, stage.key, failure)
            self.store.log("failed", stage.kind, stage.key, error=failure.error)
        except StorageError as problem:
            self.progress.say(f"the failure could not be recorded: {problem.line}")

    def abandon(self, stage: Stage, *, run: str) -> str:
        """Clean up after a process of ours that is dead; the path of its log, "" for none."""
        try:
            return self.store.abandon(stage.kind, stage.key, run=run)
        except StorageError as problem:
            self.progress.say(f"its log could not be kept: {problem.line}")
            return ""

    def old_log(self, stage: Stage) -> str:
        """Path of the log of the attempt that failed, "" when there is none."""
        path = self.store.failure_log(stage.kind, stage.key)
        return str(path) if path.exists() else ""

    def _earlier(self, stage: Stage) -> str:
        """The failure an earlier run recorded; "" when the stage has files that are the problem."""
        if self.store.path(stage.kind, stage.key).is_dir():
            return ""
        failure = self.store.failure(stage.kind, stage.key)
        return f"{failure.error} (in an earlier run; --retry-failed tries again)" if failure else ""
