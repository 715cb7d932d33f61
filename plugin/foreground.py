"""A command in the person's own terminal: everything of theirs is its, and signals to us are signals to it.

It runs in our process group, so that the terminal's Ctrl-C, Ctrl-Z and the rest reach it as if we were not there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from portunix_vdisk.plugin.identity import Identity, privileged

NOT_FOUND = 127
CANNOT_RUN = 126
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""Signals that the terminal sends to the whole process group."""
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run_in_foreground(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Run it to its end: its exit code, or 128 and the number of the signal that ended it, as shells say it.

    127: there is no such command, 126: it cannot be run; a line on standard error says so. Under sudo it runs as the
    person who called sudo.

    Args:
        command: a name that is looked for in PATH of ``environment``, or a path seen from ``folder``; its arguments.
        environment: all of it.
        folder: its working folder. Our own stays as it is, so that the disk can be unmounted afterwards.
    """
    program = _find(command[0], environment.get("PATH", os.defpath), folder)
    if isinstance(program, int):
        return program
    with _Signals() as signals:
        try:
            child = subprocess.Popen(
                command, executable=program, env=dict(environment), cwd=folder, close_fds=True, **_as_caller()
            )
        except OSError as error:
            return _complain(CANNOT_RUN, f"{command[0]} cannot be run: {error.strerror}")
        signals.go_to(child)
        code = child.wait()
    _take_terminal_back()
    return 128 - code if code < 0 else code


def _find(name: str, path: str, folder: Path) -> str | int:
    if "/" in name:
        there = folder / name
        if not there.exists():
            return _complain(NOT_FOUND, f"{name}: no such file")
        if there.is_dir() or not os.access(there, os.X_OK):
            return _complain(CANNOT_RUN, f"{name} is no program that can be run")
        return str(there)
    # Relative folders in PATH are seen from where the command runs.
    path = os.pathsep.join(str(folder / each) for each in path.split(os.pathsep))
    found = shutil.which(name, path=path)
    return found or _complain(NOT_FOUND, f"{name}: there is no such command, on the disk or on this machine")


def _complain(code: int, text: str) -> int:
    with contextlib.suppress(OSError):
        print(f"error: {text.encode('utf-8', 'backslashreplace').decode()}", file=sys.stderr, flush=True)
    return code


class _Signals:
    """While it lasts, signals are passed on instead of ending us. What is ignored (by nohup, say) stays ignored."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._before: list[tuple[int, object]] = []

    def __enter__(self) -> _Signals:
        for number in (*_OF_THE_TERMINAL, *_PASSED_ON):
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                signal.signal(number, self._pass_on)
                self._before.append((number, before))
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before:
            signal.signal(number, before)  # type: ignore[arg-type]

    def go_to(self, child: subprocess.Popen[bytes]) -> None:
        """From now on they are for that process, and so are those that came before it was there."""
        self._child = child
        for number in self._early:
            child.send_signal(number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._child is None:
            self._early.append(number)
        elif number not in _OF_THE_TERMINAL or not _is_in_the_foreground():
            with contextlib.suppress(OSError):
                self._child.send_signal(number)


def _is_in_the_foreground() -> bool:
    """Whether the terminal's signals come to us; then our child has got them as well, being in our group."""
    with _terminal() as terminal:
        try:
            return terminal is not None and os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            return False


def _take_terminal_back() -> None:
    """A shell that was killed leaves the terminal to a group of its own that is gone."""
    with _terminal() as terminal:
        if terminal is None:
            return
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            # Whoever has put us into the background meanwhile (Ctrl-Z, bg) keeps the terminal.
            owner = os.tcgetpgrp(terminal)
            if owner != os.getpgrp() and not _exists(owner):
                os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _terminal() -> Iterator[int | None]:
    """Our controlling terminal, if there is one."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield terminal
    finally:
        os.close(terminal)


def _as_caller() -> Identity:
    """Under sudo the rights of the person who called it, and nothing of root's."""
    return Identity(user=os.geteuid(), group=os.getegid()) if privileged() else Identity()
