"""Running programs that are no tools of the host: those that lie on a disk."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from portunix_vdisk.platform.commands import Commands, display, ended
from portunix_vdisk.platform.errors import Failed, ToolFailed

_PAUSE = 0.2
_LAST_WORDS = 40
_LONGEST_LINE = 64 << 10


def run_program(
    commands: Commands,
    program: Path,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    told: Callable[[str], None],
) -> None:
    """Run a program to its end; see :meth:`Platform.run_program`."""
    words = [str(program), *arguments]
    # So that it ends with us, even if we are killed: else it would go on to write to the disk.
    guard = commands.find("setpriv")
    first, *rest = [guard, "--pdeathsig", "KILL", "--", *words] if guard else words
    try:
        process = commands.start(
            first,
            *rest,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            folder=folder,
            environment=environment,
        )
    except OSError as error:
        raise Failed(f"{display(str(program))} cannot be started: {error.strerror or error}") from error
    last: deque[str] = deque(maxlen=_LAST_WORDS)
    with ended(process):
        try:
            for line in _lines(process):
                if line:
                    last.append(line)
                told(line)
        except BaseException:
            _end_all(process)
            raise
        process.wait()
    if process.returncode:
        raise ToolFailed([display(word) for word in words], process.returncode, "\n".join(last))


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Each line that it prints, and empty ones while it is silent, until it and all that it started are silent."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(_PAUSE):
                if process.poll() is not None:  # what it left running holds the pipe, and is nobody's business
                    break
                yield ""
                continue
            block = os.read(descriptor, _LONGEST_LINE)
            if not block:
                break
            *whole, rest = (rest + block).replace(b"\r", b"\n").split(b"\n")
            yield from map(display, whole)
            if len(rest) > _LONGEST_LINE:
                yield display(rest)
                rest = b""
    if rest:
        yield display(rest)


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started: they are a session of their own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
