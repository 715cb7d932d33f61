"""Plain doit runs in the terminal: doit's reporter with our bars, and the listener that draws them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from portunix_vdisk.platform.errors import Interrupted, Refused
from portunix_vdisk.plugin.asking import ask_person, can_ask
from portunix_vdisk.plugin.display import Display
from portunix_vdisk.plugin.text import readable
from portunix_vdisk.steps.step import Question
from portunix_vdisk.tasks.reporting import ConsoleReporter


class TerminalListener:
    """Draws what happens in this process, and asks the person at its terminal."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self._cancelled = False

    def task_started(self, task: str, title: str) -> None:
        """Its bar is called by its title."""
        self.display.started(readable(task), readable(title))

    def task_finished(self, task: str, seconds: float) -> None:
        """The reporter shows it."""

    def task_skipped(self, task: str) -> None:
        """The reporter shows it."""

    def task_failed(self, task: str) -> None:
        """The reporter shows it."""

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """Move the bar."""
        self.display.progress(readable(task), done, total, unit)

    def log(self, level: str, text: str) -> None:
        """A line above the bar."""
        self.display.log(level, readable(text))

    def ask(self, question: Question) -> str:
        """Ask at the terminal. Raises ``Refused`` without one, ``Interrupted`` on Ctrl-C."""
        if not can_ask():
            raise Refused(
                f"this has to be answered first: {question.text}",
                state="nobody can be asked here (no terminal)",
                hint=f"answer it with {question.option}",
            )
        self.display.close()
        try:
            return ask_person(question)
        except KeyboardInterrupt:
            self._cancelled = True
            raise Interrupted("interrupted", hint="run the same command to continue") from None

    def cancelled(self) -> bool:
        """True after Ctrl-C at a question; at any other time the engine itself watches for it."""
        return self._cancelled


class DoitReporter(ConsoleReporter):  # type: ignore[misc]
    """doit's console output, with bars. A reporter must never raise, or doit ends in the middle of a task."""

    desc = "console output with progress bars"

    def __init__(self, outstream: TextIO, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self.outstream: TextIO = outstream
        self.display = Display()

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: Sequence[str]) -> None:
        """Become the listener of the tasks that are about to run."""
        from portunix_vdisk.tasks.listening import set_listener

        set_listener(TerminalListener(self.display))

    def write(self, text: str) -> None:
        """Write without getting into the bar; text that the stream cannot show is shown as escapes."""
        self.display.close()
        encoding = getattr(self.outstream, "encoding", None) or "utf-8"
        shown = readable(text).encode(encoding, "backslashreplace").decode(encoding)
        try:
            self.outstream.write(shown)
        except (OSError, ValueError):  # nobody reads any more
            self.outstream = sys.__stderr__ or self.outstream

    def add_failure(self, task: Any, fail: Any) -> None:
        """Our errors are already written for people; others get doit's own report."""
        words = str(getattr(fail, "message", "")).strip()
        if not getattr(fail, "report", True):
            return
        self.failures.append({"task": task, "exception": fail})
        if not task.actions:  # a group fails because a member did, which was told already
            return
        if words and getattr(fail, "exception", None) is None and not getattr(fail, "traceback", None):
            first, *rest = words.splitlines()
            self.write(f"!! {task.name} failed: {first}\n" + "".join(f"   {line}\n" for line in rest))
        else:
            self.write(f"!! {task.name} failed: {fail.get_msg()}\n")

    def skip_ignore(self, task: Any) -> None:
        """A task that a person told doit to ignore."""
        self.write(f"!! {task.title()} (ignored)\n")

    def cleanup_error(self, exception: Any) -> None:
        """A teardown failed."""
        self.write(f"{exception.get_msg()}\n")

    def complete_run(self) -> None:
        """Give the terminal back; failures were shown when they happened."""
        self.display.close()
        for message in self.runtime_errors:
            self.write(f"error: {message}\n")
