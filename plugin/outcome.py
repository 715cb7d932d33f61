"""How an operation ended, as every surface reports it."""

from __future__ import annotations

from dataclasses import dataclass

from portunix_vdisk.platform.errors import ExitCode, VdiskError
from portunix_vdisk.plugin.text import readable
from portunix_vdisk.steps.step import Json


@dataclass(frozen=True, slots=True)
class Problem:
    """Why it failed: see :class:`portunix_vdisk.platform.errors.VdiskError`."""

    what: str
    state: str = ""
    hint: str = ""
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit code, the problem if there was one, the result object if there is one, and how many tasks ran."""

    exit_code: int
    problem: Problem | None = None
    result: Json = None
    tasks_run: int = 0
    tasks_up_to_date: int = 0

    @classmethod
    def failure(cls, error: VdiskError, traceback: str = "") -> Outcome:
        """The outcome of an operation that ended with this error."""
        problem = Problem(readable(error.what), readable(error.state), readable(error.hint), readable(traceback))
        return cls(int(error.code), problem)

    def envelope(self, operation: str | None) -> dict[str, Json]:
        """The one JSON object of ``--json``; its schema is ``plugin/schemas/envelope.json``."""
        problem = self.problem
        return {
            "operation": operation,
            "exit_code": int(self.exit_code),
            "error": {"what": problem.what, "state": problem.state, "hint": problem.hint} if problem else None,
            "tasks": {"run": self.tasks_run, "up_to_date": self.tasks_up_to_date},
            "result": self.result,
        }


INTERRUPTED = Outcome(
    int(ExitCode.INTERRUPTED),
    Problem(
        "interrupted",
        state="the work stops at its next safe point; everything finished so far is kept",
        hint="run the same command to continue",
    ),
)
"""What is said when the person doesn't wait for the safe point."""
