"""Who hears of a plain doit run: silence, until doit's reporter brings a terminal."""

from __future__ import annotations

import sys

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.step import Question
from portunix_vdisk.tasks.session import Listener, Session

_current: Session | None = None


def set_current(session: Session) -> None:
    """Remember the session that doit runs in this process."""
    global _current
    _current = session


def set_listener(listener: Listener) -> None:
    """The running doit session talks to ``listener`` from now on; without such a session nothing happens."""
    if _current is not None:
        _current.listener = listener


class Silent:
    """Warnings go to standard error, questions are refused, everything else is left to doit's reporter."""

    def task_started(self, task: str, title: str) -> None:
        """Nothing."""

    def task_finished(self, task: str, seconds: float) -> None:
        """Nothing."""

    def task_skipped(self, task: str) -> None:
        """Nothing."""

    def task_failed(self, task: str) -> None:
        """Nothing."""

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """Nothing."""

    def log(self, level: str, text: str) -> None:
        """A line on standard error."""
        sys.stderr.write(f"{text}\n")

    def ask(self, question: Question) -> str:
        """Raises ``Refused``: there is nobody to ask."""
        raise Refused(f"nobody can be asked: {question.text}", hint=f"answer beforehand with {question.option}")

    def cancelled(self) -> bool:
        """Never."""
        return False
