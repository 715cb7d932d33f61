"""Processes of Linux: who they are, how they end. Process ids are recycled, so each is known with its start time."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_AGAIN = 0.25
"""Seconds after which an unanswered signal is sent again."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same id.

    ``started`` is its start time in clock ticks since boot (field 22 of ``/proc/PID/stat``, proc(5)).
    """

    pid: int
    started: int

    def alive(self) -> bool:
        """True while it runs; a zombie has ended."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Start time of a running process in clock ticks since boot; None if there is none, or only a zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The command's name is in parentheses and may itself hold blanks and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def identify(pid: int) -> ProcessIdentity | None:
    """The running process of that id."""
    started = start_time(pid)
    return None if started is None else ProcessIdentity(pid, started)


def arguments_of(pid: int) -> list[bytes]:
    """Command line of a process; empty if it has ended."""
    with suppress(OSError):
        return (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    return []


def running() -> Iterator[int]:
    """Ids of all processes."""
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            yield int(folder.name)


def visible() -> bool:
    """Whether we can see the processes of others."""
    return os.geteuid() == 0 or (_PROC / "1" / "stat").exists()


def end(process: ProcessIdentity, patience: float) -> bool:
    """SIGTERM a process and wait up to ``patience`` seconds; True when it has ended. Needs the right to signal it.

    Waiting for the process descriptor and not for the id to vanish: an orphan that has ended keeps its id until
    process 1 gets round to it, which takes seconds on some systems.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # Only now is the id pinned: if it is still the same process, the signal cannot reach another.
        if not process.alive():
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + patience
        while True:
            # Again and again: QEMU's programs only set a flag, and forget a signal that comes just before they
            # wait for events, or before they have started in earnest.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if poll.poll(_AGAIN * 1000):
                return True
            if time.monotonic() > deadline:
                return False
    finally:
        os.close(descriptor)


def users_of(*devices: int) -> list[str]:
    """Processes with a file or folder open on a filesystem of these device numbers, as ``pid 12 (bash)``.

    Its folders, its program, what it has open and what it has mapped into its memory. Sees all processes only as root.
    """
    found = []
    for pid in running():
        folder = _PROC / str(pid)
        places = [folder / "cwd", folder / "root", folder / "exe"]
        with suppress(OSError):
            places += (folder / "fd").iterdir()
        if any(_number_of(place) in devices for place in places) or not _mapped(folder).isdisjoint(devices):
            with suppress(OSError):
                name = (folder / "comm").read_bytes().decode(errors="backslashreplace").strip()
                found.append(f"pid {pid} ({name})")
    return found


def _number_of(place: Path) -> int | None:
    """The filesystem on which it is."""
    try:
        return place.stat().st_dev
    except OSError:
        return None


def _mapped(folder: Path) -> set[int]:
    """The filesystems of all files that are mapped. Source: proc(5), ``/proc/PID/maps``."""
    try:
        lines = (folder / "maps").read_bytes().splitlines()
    except OSError:
        return set()
    numbers = {line.split(maxsplit=4)[3] for line in lines}
    return {os.makedev(int(major, 16), int(minor, 16)) for major, _, minor in (one.partition(b":") for one in numbers)}
