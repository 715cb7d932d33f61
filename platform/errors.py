"""What can go wrong, in one shape.

Every failure that a person may see is a :class:`VdiskError`: what failed and why, the state things are in now, and the
command that continues or undoes it. The class decides the exit code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    INTEGRITY = 5
    MISSING = 6
    INTERRUPTED = 130


class VdiskError(Exception):
    """A failure with a message for a person.

    Args:
        what: what failed and why; one sentence, no full stop needed.
        state: what state things are in now ("nothing was written").
        hint: the command or action that continues or undoes it.
    """

    code: ExitCode = ExitCode.FAILED

    def __init__(self, what: str, state: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.state = state
        self.hint = hint

    def lines(self) -> list[str]:
        """The message as up to three lines: what, state, hint."""
        return [line for line in (self.what, self.state, self.hint) if line]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class Failed(VdiskError):
    """The operation failed; exit code 1."""


class BadUsage(VdiskError):
    """The request makes no sense as written; exit code 2."""

    code = ExitCode.USAGE


class NotFound(VdiskError):
    """What was named does not exist; exit code 3."""

    code = ExitCode.NOT_FOUND


class Refused(VdiskError):
    """The state of things forbids it: mounted, busy, exists, locked; exit code 4."""

    code = ExitCode.REFUSED


class Corrupt(VdiskError):
    """Data is not what its checksum says; exit code 5."""

    code = ExitCode.INTEGRITY


class WrongPassword(Corrupt):
    """The password opens nothing; exit code 5."""


class Incomplete(Corrupt):
    """All was done that could be, but some data is not what its checksum says; exit code 5, and there is a result.

    Args:
        what: as for every error.
        state: as for every error.
        hint: as for every error.
        result: the operation's result object, by its schema.
    """

    def __init__(self, what: str, state: str, hint: str, result: Mapping[str, object]) -> None:
        super().__init__(what, state, hint)
        self.result = result


class Missing(VdiskError):
    """A host tool or a privilege is missing; exit code 6."""

    code = ExitCode.MISSING


class NoRoot(Missing):
    """Root's rights cannot be had; exit code 6."""


class Interrupted(VdiskError):
    """Stopped at a safe point on request; running the same command continues; exit code 130."""

    code = ExitCode.INTERRUPTED


class ToolFailed(Failed):
    """An external command returned an error.

    Args:
        command: the command line as it was run (never holds secrets).
        status: its exit status; negative for a signal.
        output: the last words it printed.
    """

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        self.command = tuple(command)
        self.status = status
        self.output = output.strip()
        last = self.output.splitlines()[-1] if self.output else "it printed nothing"
        super().__init__(f"{command[0]} failed with status {status}: {last}", hint=f"command: {' '.join(command)}")
