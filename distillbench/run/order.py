"""Which stage comes next: dependencies, and the longest chain of remaining work first."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from typing import Literal

from distillbench.plan.stage import Stage
from distillbench.run.executor import width

__all__ = ["Order", "chain_costs"]

State = Literal["waiting", "ready", "out", "done", "dropped"]


def chain_costs(stages: Mapping[str, Stage]) -> dict[str, float]:
    """Cost of the critical path that begins with each stage."""
    after: dict[str, float] = dict.fromkeys(stages, 0.0)
    for key in reversed(_by_dependency(stages)):
        after[key] += stages[key].cost
        for need in stages[key].needs:
            after[need] = max(after[need], after[key])
    return after


def _by_dependency(stages: Mapping[str, Stage]) -> list[str]:
    """Keys with every stage after the stages it needs, otherwise in the given order."""
    placed: dict[str, None] = {}
    stack = list(reversed(list(stages)))
    while stack:
        key = stack[-1]
        missing = [need for need in stages[key].needs if need not in placed]
        if key in placed or not missing:
            placed[stack.pop()] = None
        else:
            stack.extend(missing)
    return list(placed)


class Order:
    """The stages still to run, handed out when what they need is done."""

    def __init__(self, stages: Mapping[str, Stage], *, done: Collection[str]) -> None:
        self.stages = stages
        self._chain = chain_costs(stages)
        self._place = {key: i for i, key in enumerate(stages)}
        self._heap: list[tuple[float, int, str]] = []
        self._state: dict[str, State] = {k: "done" if k in done else "waiting" for k in stages}
        self._users: dict[str, list[str]] = {key: [] for key in stages}
        for key, stage in stages.items():
            for need in stage.needs:
                self._users[need].append(key)
        for key in stages:
            self._offer(key)

    @property
    def left(self) -> list[str]:
        """Keys neither handed out, done nor dropped."""
        return [key for key, state in self._state.items() if state in ("waiting", "ready")]

    @property
    def ready(self) -> list[str]:
        """Keys that could be handed out if there were room."""
        return [key for key, state in self._state.items() if state == "ready"]

    def state(self, key: str) -> State:
        """Where a stage stands."""
        return self._state[key]

    def users(self, key: str) -> list[str]:
        """Keys of the stages that read a stage's output."""
        return self._users[key]

    def fed(self, key: str) -> bool:
        """Whether everything a stage reads is done."""
        return all(self._state[need] == "done" for need in self.stages[key].needs)

    def next(self, free: int) -> Stage | None:
        """Hand out the first ready stage if it fits into `free` slots.

        Smaller stages never overtake a wide one: it would wait for ever on a busy machine.
        """
        while self._heap:
            key = self._heap[0][2]
            if self._state[key] == "ready":
                if width(self.stages[key]) > free:
                    return None
                self._state[key] = "out"
                heapq.heappop(self._heap)
                return self.stages[key]
            heapq.heappop(self._heap)
        return None

    def put_back(self, key: str) -> None:
        """Offer a stage once more that was handed out, or was done and is no longer."""
        self._state[key] = "waiting"
        self._offer(key)

    def done(self, key: str) -> None:
        """Mark a stage as done, which may make others ready."""
        self._state[key] = "done"
        for user in self._users[key]:
            self._offer(user)

    def drop(self, key: str) -> list[str]:
        """Take a failed stage out with all that would need it; return the latter."""
        self._state[key] = "dropped"
        dropped = []
        for user in self._users[key]:
            if self._state[user] in ("waiting", "ready"):
                dropped += [user, *self.drop(user)]
        return dropped

    def _offer(self, key: str) -> None:
        if self._state[key] == "waiting" and self.fed(key):
            self._state[key] = "ready"
            heapq.heappush(self._heap, (-self._chain[key], self._place[key], key))
