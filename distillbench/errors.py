"""One exception tree: each error knows its exit code and what the user should do next.

The command line prints `str(error)` in one line, then the hint, and exits with `exit_code`;
it never shows a traceback for one of these.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ArtifactError",
    "BadInput",
    "ConfigError",
    "DistillbenchError",
    "Interrupted",
    "MissingWeights",
    "NonFiniteLoss",
    "NotSupported",
    "PluginError",
    "StageFailed",
    "StorageError",
]


class DistillbenchError(Exception):
    """Base of all errors a user can cause or fix.

    Args:
        message: where, what and what is allowed, in one line.
        hint: what to do, in one line; empty when the message already says it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Keeps type and hint when an error crosses a process border.
        return (_rebuild, (type(self), str(self), self.hint))

    @property
    def line(self) -> str:
        """The whole error as one line."""
        if not self.hint:
            return str(self)
        joint = "; " if self.hint[0].islower() else ". "
        return f"{str(self).rstrip('.')}{joint}{self.hint}"


def _rebuild(kind: type[DistillbenchError], message: str, hint: str) -> DistillbenchError:
    error = kind.__new__(kind)
    DistillbenchError.__init__(error, message, hint=hint)
    return error


class BadInput(DistillbenchError):
    """The command, its arguments or a file the user named cannot be used as they are."""

    exit_code = 2


class ConfigError(BadInput):
    """An experiment file has errors; the message holds all of them, one a line."""

    def __init__(self, problems: list[str] | str) -> None:
        super().__init__(problems if isinstance(problems, str) else "\n".join(problems))

    @property
    def problems(self) -> list[str]:
        """The single errors, each `file:line:col: path: what; allowed; did you mean`."""
        return str(self).splitlines()


class PluginError(BadInput):
    """A plug-in is unknown, ambiguous, or is not what its folder says it is."""


class NotSupported(BadInput):
    """A method, backbone or metric was asked for what it cannot do."""


class MissingWeights(BadInput):
    """Weights are neither on this disk nor reachable; the message says where they belong."""


class StorageError(DistillbenchError):
    """The results folder cannot be read or written (permissions, full disk)."""


class ArtifactError(DistillbenchError):
    """A stored artifact is truncated or altered: its bytes differ from its `done.json`."""


class StageFailed(DistillbenchError):
    """A stage of the grid ended without its commit marker."""


class NonFiniteLoss(DistillbenchError):
    """A training loss became NaN or infinite; says the step, the turn and the checkpoint."""


class Interrupted(DistillbenchError):
    """A stage was asked to stop; its checkpoint is written and the same command resumes it."""

    exit_code = 130
