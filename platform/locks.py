"""Operation locks: one operation at a time on one disk, and who holds it now.

A lock is a ``flock`` on a small file that names the holder. ``flock`` belongs to the open file, so children that
inherit the descriptor keep the lock when their parent is killed: an orphaned ``qemu-img`` still writes, and nobody
else may. The kernel releases it with the last descriptor, so there are no stale locks.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from portunix_vdisk.platform.errors import BadUsage, Failed, Refused
from portunix_vdisk.platform.linux.processes import start_time

_STEP = 0.02
_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, and since when, in seconds since the epoch.

    ``started`` is the start time of the process, in clock ticks since boot.
    """

    pid: int
    started: int
    operation: str
    since: float

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.since))
        if start_time(self.pid) == self.started:
            return f"pid {self.pid}, {self.operation}, since {clock}"
        return f"pid {self.pid} ({self.operation}, since {clock}) has ended, but a child of it still runs"


class OperationLock:
    """Exclusive lock ``<folder>/<key>.lock`` for as long as the context lasts.

    Args:
        folder: where lock files are; made if missing.
        key: what is locked, usually device and inode of an image; no slash.
        operation: what we do with it, for the person who has to wait ("export of my-dev").
        wait: seconds to wait for another holder.

    Raises:
        Refused: somebody else holds it; says who.
    """

    def __init__(self, folder: Path, key: str, operation: str, wait: float = 2.0) -> None:
        if not key or "/" in key or "\0" in key or key.startswith("."):
            raise BadUsage(f"{key!r} is no name for a lock")
        self.path = folder / f"{key}.lock"
        self._operation = operation
        self._wait = wait
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The descriptor that carries the lock, for :meth:`Platform.hold_in_children`."""
        if self._descriptor is None:
            raise ValueError("the lock is not held")
        return self._descriptor

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._wait
        try:
            while not self._try():
                if time.monotonic() >= deadline:
                    raise Refused(
                        f"another operation is using this disk: {holder_of(self.path) or 'unknown holder'}",
                        state="nothing was done",
                        hint="wait until it has ended, then run the same command again",
                    )
                time.sleep(_STEP)
        except OSError as error:
            raise Failed(f"cannot lock {self.path}: {error.strerror}", state="nothing was done") from error
        return self

    def _try(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            return False  # somebody removed the empty folder just now
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder unlinks the file. Whoever opened it before that now holds a lock on a file without a
            # name, which excludes nobody: it has to open again.
            if not os.path.samestat(os.fstat(descriptor), self.path.stat()):
                raise FileNotFoundError
            holder = Holder(os.getpid(), start_time(os.getpid()) or 0, self._operation, time.time())
            text = json.dumps(asdict(holder)).encode()
            os.ftruncate(descriptor, os.pwrite(descriptor, text, 0))
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        descriptor, self._descriptor = self.descriptor, None
        os.close(descriptor)
        _unlink_if_free(self.path)


def sweep(folder: Path) -> None:
    """Remove lock files that killed processes left; those that are held stay."""
    for path in folder.glob("*.lock"):
        _unlink_if_free(path)


def _unlink_if_free(path: Path) -> None:
    # A child that still runs keeps the lock; then the name must stay, or the next one would lock a new file.
    # So the file goes only if it can be locked once more.
    with suppress(OSError):
        again = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(again), path.stat()):
                path.unlink()
        finally:
            os.close(again)


def holder_of(path: Path) -> Holder | None:
    """Who wrote their name into a lock file; None if that cannot be told."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST))
        return Holder(int(found["pid"]), int(found["started"]), str(found["operation"]), float(found["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
