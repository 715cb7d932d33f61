"""How far things are: one bar on a terminal, now and then a plain line elsewhere.

It writes to standard error; standard output belongs to results. It never raises: a terminal that went away must not
stop the work.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

_LINE_INTERVAL = 5.0


class Display:
    """One operation's progress and remarks. Usable from several threads.

    Args:
        quiet: show warnings only.
        stream: standard error, unless a test looks on.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._terminal = is_terminal(self._stream)
        self._lock = threading.RLock()
        self._bar: tqdm[NoReturn] | None = None
        self._task = ""
        self._titles: dict[str, str] = {}
        self._last_line = time.monotonic()

    def started(self, task: str, title: str) -> None:
        """Progress of this task is shown under its title from now on."""
        with self._lock:
            self._titles[task] = title or task

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """How far a task is; ``total`` 0 means that nobody knows."""
        if self._quiet:
            return
        with self._lock:
            try:
                if self._terminal:
                    self._draw(task, done, total, unit)
                else:
                    self._write_now_and_then(task, done, total, unit)
            except (OSError, ValueError):
                self._quiet = True  # the terminal is gone

    def log(self, level: str, text: str) -> None:
        """A remark; with ``quiet`` only if it is a warning."""
        if not (self._quiet and level == "info"):
            self.line(text if level == "info" else f"{level}: {text}")

    def line(self, text: str) -> None:
        """A line above the bar."""
        with self._lock:
            try:
                if self._bar is not None:
                    self._bar.clear()
                self._stream.write(f"{text}\n")
                self._stream.flush()
                if self._bar is not None:
                    self._bar.refresh()
            except (OSError, ValueError):
                self._quiet = True

    def close(self) -> None:
        """Take the bar away; it comes back with the next progress."""
        with self._lock:
            if self._bar is not None:
                try:
                    self._bar.close()
                except (OSError, ValueError):
                    self._quiet = True
                self._bar = None
                self._task = ""

    def _draw(self, task: str, done: int, total: int, unit: str) -> None:
        if self._bar is not None and self._bar.unit != _bar_unit(unit):
            self.close()
        if self._bar is None:
            self._bar = _new_bar(self._stream, unit)
        if task != self._task:
            self._task = task
            self._bar.reset(total or None)
            self._bar.set_description_str(self._titles.get(task, task), refresh=False)
        self._bar.total = total or None
        if done < self._bar.n:
            self._bar.n = done
        self._bar.update(done - self._bar.n)

    def _write_now_and_then(self, task: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if now - self._last_line < _LINE_INTERVAL:
            return
        self._last_line = now
        share = (
            f"{100 * done // total} %, {amount(done, unit)} of {amount(total, unit)}" if total else amount(done, unit)
        )
        self.line(f"{self._titles.get(task, task)}: {share}")


def is_terminal(stream: TextIO) -> bool:
    """True if the stream is shown to somebody."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def amount(count: int, unit: str) -> str:
    """A number of bytes or things, for people."""
    from portunix_vdisk.tasks.sizes import show_size

    return show_size(count) if unit == "B" else f"{count:,} {unit}"


def _new_bar(stream: TextIO, unit: str) -> tqdm[NoReturn]:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread of its own
    tqdm.set_lock(threading.RLock())  # its default one is shared between processes and costs a semaphore
    known = _knows_its_size(stream)
    return tqdm(
        file=stream,
        unit=_bar_unit(unit),
        unit_scale=True,
        ncols=None if known else 80,
        nrows=None if known else 24,
        dynamic_ncols=known,
        leave=False,
        mininterval=0.1,
        smoothing=0.1,
    )


def _knows_its_size(stream: TextIO) -> bool:
    """False for serial lines and the like, on which tqdm would show nothing at all."""
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False


def _bar_unit(unit: str) -> str:
    return unit if unit == "B" else f" {unit}"
