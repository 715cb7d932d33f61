"""What no input may do: take long, take much memory, write where it was not asked to, raise what nobody expects."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 10
"""Of CPU time, of all threads: the machine may be busy. Waiting for nothing is caught by the clock, later."""
PATIENCE = 180
MEGABYTES = 300

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NAMES = {"os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "os.link": (1,)}
_NAMES |= {"os.symlink": (1,), "os.truncate": (0,), "os.chmod": (0,), "os.utime": (0,), "shutil.rmtree": (0,)}
_allowed: list[str] = []
_armed = False


class Guilty(BaseException):
    """A finding. No ``Exception``, so that nothing under test takes it for one of its own."""


def allow(folder: Path) -> None:
    """From now on, while an input is judged, only files in this folder may be written, renamed or removed."""
    _allowed.append(f"{folder}{os.sep}")


def _watch(event: str, details: tuple[Any, ...]) -> None:
    if not _armed:
        return
    if event == "open":
        places = (details[0],) if isinstance(details[2], int) and details[2] & _WRITING else ()
    else:
        places = tuple(details[number] for number in _NAMES.get(event, ()))
    for place in places:
        if isinstance(place, int):
            continue
        path = os.path.realpath(os.fsdecode(place))
        if not f"{path}{os.sep}".startswith(tuple(_allowed)):
            raise Guilty(f"{event} of {path}, outside the target")


def _late(number: int, frame: object) -> None:
    raise Guilty(f"not done after {SECONDS if number == signal.SIGPROF else PATIENCE} s")


def peak() -> int:
    """Most memory that this process ever had, in MB; getrusage would count what its parent had when it began."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    assert found is not None
    return int(found[1]) // 1000


def start(overhead: int = 0) -> None:
    """Begin to watch; ``overhead`` is how many MB the fuzzer itself needs on top."""
    global MEGABYTES
    MEGABYTES += overhead
    sys.addaudithook(_watch)
    signal.signal(signal.SIGALRM, _late)
    signal.signal(signal.SIGPROF, _late)


@contextmanager
def judged() -> Iterator[None]:
    """Run one input."""
    global _armed
    before = peak()
    signal.alarm(PATIENCE)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _armed = True
    try:
        yield
    finally:
        _armed = False
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    if peak() > max(before, MEGABYTES):
        raise Guilty(f"memory went from {before} to {peak()} MB")


def one(target: Callable[[bytes], None], data: bytes) -> None:
    """Judge one input of a target, which itself lets pass what may be raised."""
    with judged():
        target(data)
