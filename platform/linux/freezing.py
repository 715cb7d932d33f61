"""Freezing a mounted filesystem for a moment, in such a way that it thaws whoever is killed meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from portunix_vdisk.platform.commands import Commands, display, ended
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux import freezer, mounts

_MARK = "freezing"
"""Name of the file in the state folder that says: somebody is at it, or was killed."""
_LINE = 100
_CANNOT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)


class Freezer:
    """One filesystem that can be frozen once.

    Args:
        watchdog: the process of :mod:`portunix_vdisk.platform.linux.freezer`, with pipes.
        descriptor: a folder on the filesystem.
        point: its mount point, for messages.
    """

    def __init__(self, watchdog: subprocess.Popen[bytes], descriptor: int, point: Path) -> None:
        self._watchdog = watchdog
        self._descriptor = descriptor
        self._point = point
        self._hear("ready")

    def freeze(self) -> None:
        """Return when everything is on the disk and nothing is written any more.

        Raises:
            Refused: this filesystem cannot be frozen, or somebody else has frozen it.
            Failed: the watchdog died.
        """
        self._say(b"freeze\n")
        self._hear("frozen")

    def thaw(self) -> float:
        """Let writers go on; how long in seconds they may have waited.

        Raises ``Failed`` if they went on earlier: what was done meanwhile is of no one moment.
        """
        self._say(b"thaw\n")
        return float(self._hear("thawed"))

    def _say(self, word: bytes) -> None:
        assert self._watchdog.stdin is not None
        with suppress(OSError):  # the answer will be missing
            os.write(self._watchdog.stdin.fileno(), word)

    def _hear(self, wanted: str) -> str:
        assert self._watchdog.stdout is not None
        line = b""
        while not line.endswith(b"\n") and len(line) < _LINE:
            part = os.read(self._watchdog.stdout.fileno(), _LINE)
            if not part:
                raise Failed(f"the process that freezes {self._shown} was killed", state="nothing was exported")
            line += part
        word, _, value = line.decode("ascii", errors="replace").strip().partition(" ")
        if word == wanted:
            return value
        if word == "late":
            raise Failed(
                f"{self._shown} could not be held still within {freezer.LIMIT:.0f} s: the machine is too busy",
                state="nothing was exported, and nothing is wrong with the disk",
                hint="run the same command again",
            )
        number = int(value) if word == "error" and value.isdecimal() else errno.EIO
        if number == errno.EBUSY:
            raise Refused(f"{self._shown} is frozen already, by another program", state="nothing was changed")
        if number in _CANNOT:
            raise Refused(
                f"the filesystem at {self._shown} cannot be held still for a moment",
                state="nothing was changed",
                hint="unmount the disk, export it, and mount it again",
            )
        raise Failed(f"cannot freeze {self._shown}: {os.strerror(number)}", state="nothing was changed")

    @property
    def _shown(self) -> str:
        return display(str(self._point))


@contextmanager
def freezable(commands: Commands, folder: Path, point: Path, device: int) -> Iterator[Freezer]:
    """The filesystem of this device number, mounted at ``point``, ready to be frozen. Needs root.

    However the context is left, it is thawed, and so it is if this process is killed. If the watchdog is killed, we
    thaw; if both are, the next command does: :func:`thaw_left`. ``folder`` is the state folder of the disk.

    Raises ``Refused`` where something else is mounted over it.
    """
    descriptor = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if mounts.device_below(descriptor) != device:
            raise Refused(f"something else is mounted over {display(str(point))}", state="nothing was changed")
        mark = folder / _MARK
        mark.touch()
        watchdog = _started(commands, descriptor)
        try:
            with ended(watchdog), _asked_to_end(watchdog):
                yield Freezer(watchdog, descriptor, point)
        finally:
            _thaw(descriptor)
            mark.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def thaw_left(folder: Path, point: Path) -> bool:
    """Thaw what somebody who was killed left frozen; whether there was anything. The caller has the disk's lock."""
    mark = folder / _MARK
    if not mark.exists():
        return False
    descriptor = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _thaw(descriptor)
    finally:
        os.close(descriptor)
        mark.unlink(missing_ok=True)


def _started(commands: Commands, descriptor: int) -> subprocess.Popen[bytes]:
    return commands.start(
        sys.executable,
        "-I",
        "-S",
        freezer.__file__,
        str(descriptor),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(descriptor,),
    )


@contextmanager
def _asked_to_end(watchdog: subprocess.Popen[bytes]) -> Iterator[None]:
    """It hears no signal: the end of its pipe is what ends it."""
    try:
        yield
    finally:
        assert watchdog.stdin is not None
        watchdog.stdin.close()
        watchdog.wait()


def _thaw(descriptor: int) -> bool:
    try:
        fcntl.ioctl(descriptor, freezer.FITHAW, 0)
    except OSError:
        return False  # it was not frozen
    return True


def settle(point: Path, patience: float = 3) -> None:
    """Write out most of what waits, since freezing waits for the rest, and writers with it. Raises ``OSError``."""
    deadline = time.monotonic() + patience
    while True:
        began = time.monotonic()
        mounts.sync(point)
        now = time.monotonic()
        if now - began < patience / 30 or now > deadline:
            return
