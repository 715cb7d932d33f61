"""The folder of the record: locked while a sync writes, and a damaged record moved aside in it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.step import Context
from portunix_vdisk.steps.sync.record import FILE_NAME, FOLDER_NAME, SIDES, Damaged, SyncRecord
from portunix_vdisk.steps.sync.scan import shown


def lock_folder(root: int, *, make: bool) -> int | None:
    """Descriptor of the ``.vdisk`` folder below an open root, locked against other syncs; None if there is none.

    Raises:
        Refused: another sync is running, or something else has that name.
        OSError: it cannot be opened or made.
    """
    if make:
        with suppress(FileExistsError):
            os.mkdir(FOLDER_NAME, 0o700, dir_fd=root)
    try:
        descriptor = os.open(FOLDER_NAME, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise Refused(
            f"{FOLDER_NAME} at the disk's root is not a folder",
            state="nothing was written",
            hint=f"move it away: {FOLDER_NAME} is where the record of what was synced is kept",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Refused(
            "another sync is writing to this disk", state="nothing was written", hint="wait until it is done"
        ) from error
    return descriptor


def _set_aside(folder: Path) -> Path:
    """Move a damaged database, or what stands in its place, out of the way; gives its new path.

    One that was moved before is replaced. Raises ``OSError``.
    """
    aside = folder / f"{FILE_NAME}.damaged"
    for side in reversed(SIDES):
        path = folder / f"{FILE_NAME}{side}"
        if os.path.lexists(path):
            path.rename(folder / f"{aside.name}{side}")
    return aside


def open_record(ctx: Context, root: Path, *, dry_run: bool) -> SyncRecord:
    """The disk's record; a damaged one is moved aside and everything counts as never synced."""
    folder = root / FOLDER_NAME
    try:
        return SyncRecord(folder)
    except Damaged as damage:
        text = f"the record of what was synced, {shown(os.fspath(folder))}/{FILE_NAME}, is damaged ({damage})"
        if dry_run:
            ctx.warn(f"{text}: everything counts as never synced")
            return SyncRecord(folder / "none")
        aside = _set_aside(folder)
        ctx.warn(f"{text}: it was moved to {aside.name}; everything counts as never synced, and is compared by content")
        return SyncRecord(folder)
