"""Putting in order what a killed run left: temporaries go, what it finished is accepted."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress

from portunix_vdisk.steps.step import Context
from portunix_vdisk.steps.sync.flush import Flush
from portunix_vdisk.steps.sync.plan import Record, is_ours
from portunix_vdisk.steps.sync.pulse import Pulse
from portunix_vdisk.steps.sync.record import TEMPORARY_MARK, State, SyncRecord
from portunix_vdisk.steps.sync.scan import FILE, NTFS_TICK, Descent, look


def settle(ctx: Context, record: SyncRecord, root: int) -> None:
    """Compare every intention with what is there, and leave none.

    Only names that the record has are removed, and only if they are formed as ours: the record of a disk from
    somebody else cannot make us delete anything else, nor leave the disk.

    Raises:
        OSError: the disk cannot be brought to stable storage.
        VdiskError: of the record; ``Interrupted``.
    """
    if not record.has_intentions:
        return
    pulse = Pulse(ctx)
    given_up: list[tuple[bytes, bytes]] = []
    with ExitStack() as stack:
        descent = Descent(root, os.fstat(root).st_dev)
        stack.callback(descent.close)
        for state in record.intentions():
            pulse.beat()
            if not (_well_formed(state) and _finished(state, descent)):
                given_up.append((state.folder, state.name))
    # What is accepted must be on stable storage first: the former state is forgotten with it.
    Flush(root).wait(pulse.beat)
    record.confirm(given_up=given_up, pause=pulse.beat)


def _well_formed(state: State) -> bool:
    names = [state.name, *([state.temporary] if state.temporary is not None else [])]
    if any(b"/" in name for name in names):
        return False
    if state.temporary is not None and TEMPORARY_MARK not in state.temporary:
        return False
    parts = state.folder.split(b"/") if state.folder else []
    return all(part not in (b"", b".", b"..") and b"\0" not in part for part in (*names, *parts))


def _finished(state: State, descent: Descent) -> bool:
    """Remove the temporary, and say whether the intended state is there."""
    try:
        folder = descent.open(os.fsdecode(state.folder))
        if state.temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(state.temporary, dir_fd=folder)
        there = look(os.fsdecode(state.name), folder)
    except OSError:
        return False
    if state.kind == FILE and there.mtime_ns // NTFS_TICK != state.mtime_ns // NTFS_TICK:
        return False  # a time that is kept roughly might be the former file's; then the next run compares contents
    return is_ours(there, [Record(state.kind, state.size, state.mtime_ns, os.fsdecode(state.link or b""), False)])
