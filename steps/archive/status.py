"""What lies at the place where an export is to go."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from portunix_vdisk.platform.base import FileIdentity
from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.archive.layout import NewerVersion, NotAnArchive
from portunix_vdisk.steps.archive.members import read_first
from portunix_vdisk.steps.archive.partial import never_begun
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.durable import partial_of


class ArchiveState(StrEnum):
    """What is there."""

    ABSENT = "absent"
    PARTIAL = "partial"
    """An unfinished export of this disk, or a finished one that only lacks its name."""
    SEALED = "sealed"
    """A finished archive of this disk."""
    OTHER_DISK = "other disk"
    """An archive, finished or not, of another disk."""
    NEWER = "newer version"
    DAMAGED = "damaged"
    NOT_AN_ARCHIVE = "not an archive"


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """State of an output; ``source``, ``root`` and ``archive_uuid`` are known when sealed.

    ``file`` is the file that is in that state: the output or its partial; ``size`` is its size in bytes.
    """

    state: ArchiveState
    file: Path
    size: int = 0
    archive_uuid: str = ""
    root: str = ""
    source: FileIdentity | None = None
    problem: str = ""


def archive_status(output: Path, disk_uuid: str) -> ArchiveStatus:
    """What is at ``output`` or, if nothing is, at its partial. Reads the index, no chunks. Never raises for content."""
    partial = partial_of(output)
    if output.exists() and not (partial.exists() and partial.samefile(output)):
        return _finished(output, disk_uuid)
    if partial.exists():
        return _unfinished(partial, disk_uuid)
    return ArchiveStatus(ArchiveState.ABSENT, output)


def _finished(path: Path, disk_uuid: str) -> ArchiveStatus:
    try:
        with ArchiveReader(path) as reader:
            return ArchiveStatus(
                ArchiveState.SEALED if reader.header.disk_uuid == disk_uuid else ArchiveState.OTHER_DISK,
                path,
                reader.size,
                reader.header.archive_uuid,
                reader.index.root.hex(),
                reader.index.source,
            )
    except VdiskError as error:
        return ArchiveStatus(_state_of(error), path, problem=error.what)


def _unfinished(path: Path, disk_uuid: str) -> ArchiveStatus:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return ArchiveStatus(ArchiveState.DAMAGED, path, problem=f"{path}: {error.strerror}")
    try:
        size = os.fstat(descriptor).st_size
        if never_begun(descriptor):
            return ArchiveStatus(ArchiveState.PARTIAL, path, size)
        _, header = read_first(descriptor)
        state = ArchiveState.PARTIAL if header.disk_uuid == disk_uuid else ArchiveState.OTHER_DISK
        return ArchiveStatus(state, path, size, header.archive_uuid)
    except VdiskError as error:
        return ArchiveStatus(_state_of(error), path, problem=f"{path}: {error.what}")
    except OSError as error:
        return ArchiveStatus(ArchiveState.DAMAGED, path, problem=f"{path}: {error.strerror}")
    finally:
        os.close(descriptor)


def _state_of(error: VdiskError) -> ArchiveState:
    match error:
        case NewerVersion():
            return ArchiveState.NEWER
        case NotAnArchive():
            return ArchiveState.NOT_AN_ARCHIVE
        case _:
            return ArchiveState.DAMAGED
