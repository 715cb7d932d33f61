"""The books of one run: what was done, what failed, and how paths and states are written in the record."""

from __future__ import annotations

import errno
import os
import secrets
from typing import NamedTuple

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.sync.plan import Action, Op, Plan, Work, signature
from portunix_vdisk.steps.sync.record import TEMPORARY_MARK, State
from portunix_vdisk.steps.sync.scan import FILE, FOLDER, Entry, entry_of, join, reason

CHANGED_THERE = "it was changed in the target meanwhile"
CHANGED_HERE = "the source changed while it was copied"
_NAME_MAX = 255
_FATAL = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESHUTDOWN)
)


class Job(NamedTuple):
    """An action and the name under which its result is made (empty: in place).

    ``entry`` is what the source has now; for regular files to copy, the action says enough.
    """

    work: Work
    action: Action
    temporary: str
    entry: Entry | None = None


class Applied:
    """What was really done."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self.deleted = 0
        self.folders = 0
        self.linked = 0
        self.metadata = 0


class Ledger:
    """Counts what is done and collects what failed; makes the rows of the record.

    Args:
        plan: failures are noted in its ``failed``.
        done: is counted up.
        prefix: path of the target below the disk's root, as bytes.
    """

    def __init__(self, plan: Plan, done: Applied, prefix: bytes) -> None:
        self.done = done
        self.failed: set[str] = set()
        self._notes = plan.failed
        self._prefix = prefix
        self._token = os.fsencode(secrets.token_hex(4))
        self._serial = 0
        self._folder: tuple[str, bytes] = ("", prefix)

    def fail(self, folder: str, name: str, why: str) -> None:
        """Note that something could not be done."""
        self.fail_path(join(folder, name), why)

    def fail_path(self, path: str, why: str) -> None:
        """Note that something could not be done."""
        self.failed.add(path)
        self._notes.add(path or ".", why)

    def key(self, folder: str, name: str) -> tuple[bytes, bytes]:
        """Folder and name as the record has them: below the disk's root."""
        if self._folder[0] != folder:
            inner = os.fsencode(folder)
            self._folder = folder, b"/".join((self._prefix, inner)) if self._prefix and inner else self._prefix or inner
        return self._folder[1], os.fsencode(name)

    def key_of_path(self, path: str) -> tuple[bytes, bytes]:
        """The same for a whole path."""
        folder, _, name = path.rpartition("/")
        return self.key(folder, name)

    def state(self, folder: str, name: str, entry: Entry, temporary: bytes | None = None) -> State:
        """A row of the record."""
        link = os.fsencode(entry.link) if entry.link else None
        return State(*self.key(folder, name), entry.kind, entry.size, entry.mtime_ns, link, temporary)

    def planned_state(self, folder: str, action: Action, temporary: bytes | None) -> State:
        """A row of the record for a file or folder as it was planned."""
        kind = FOLDER if action.op is Op.MAKE_FOLDER else FILE
        return State(*self.key(folder, action.name), kind, action.size, action.mtime_ns, None, temporary)

    def temporary(self, action: Action) -> bytes | None:
        """A name that nothing else has, at most 255 bytes; None for what is made in place."""
        if action.op in (Op.MAKE_FOLDER, Op.METADATA):
            return None
        self._serial += 1
        tail = b"%s%s%x" % (TEMPORARY_MARK, self._token, self._serial)
        return b"." + os.fsencode(action.name)[: _NAME_MAX - 1 - len(tail)] + tail


def still_expected(action: Action, folder: int) -> bool:
    """Whether a name in the open target folder is what the plan saw there. Raises ``OSError``."""
    try:
        info = os.stat(action.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return True  # what was there has gone by itself: nothing can be lost
    return bool(action.expected) and signature(entry_of(info)) == action.expected


def bearable(error: OSError) -> str:
    """Why one file failed in the target. Raises the error again if no other file would fare better."""
    if error.errno in _FATAL:
        raise error
    return f"in the target: {reason(error)}"


def target_trouble(error: OSError) -> Failed:
    """What to tell when the target cannot be written any more."""
    state = "what was copied so far is kept; no file is half written"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failed(
            "the target disk is full",
            state=state,
            hint="free some space on the disk, then run the same command again: it continues",
        )
    return Failed(
        f"the target disk cannot be written: {reason(error)}",
        state=state,
        hint="see that the disk is well and mounted, then run the same command again: it continues",
    )
