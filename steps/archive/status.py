"""What lies at the place where an export is to go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.archive.commit import is_update
from portunix_vdisk.steps.archive.keyring import Locked
from portunix_vdisk.steps.archive.layout import NewerVersion, NotAnArchive
from portunix_vdisk.steps.archive.members import read_first
from portunix_vdisk.steps.archive.partial import never_begun
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.storage import ArchiveFile, exists
from portunix_vdisk.steps.durable import partial_of
from portunix_vdisk.steps.source import SourceIdentity


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
    LOCKED = "locked"
    """A finished archive whose password is needed to tell more."""


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
    source: SourceIdentity | None = None
    problem: str = ""


def archive_status(output: Path, disk_uuid: str) -> ArchiveStatus:
    """What is at ``output`` or, if nothing is, at its partial. Reads the index, no chunks. Never raises for content."""
    partial = partial_of(output)
    if is_update(output):
        return _finished(output, disk_uuid)
    if exists(partial):
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
        with ArchiveFile(path) as file:
            if never_begun(file):
                return ArchiveStatus(ArchiveState.PARTIAL, path, file.size)
            _, header = read_first(file)
            state = ArchiveState.PARTIAL if header.disk_uuid == disk_uuid else ArchiveState.OTHER_DISK
            return ArchiveStatus(state, path, file.size, header.archive_uuid)
    except VdiskError as error:
        return ArchiveStatus(_state_of(error), path, problem=f"{path}: {error.what}")
    except OSError as error:
        return ArchiveStatus(ArchiveState.DAMAGED, path, problem=f"{path}: {error.strerror}")


def _state_of(error: VdiskError) -> ArchiveState:
    match error:
        case Locked():
            return ArchiveState.LOCKED
        case NewerVersion():
            return ArchiveState.NEWER
        case NotAnArchive():
            return ArchiveState.NOT_AN_ARCHIVE
        case _:
            return ArchiveState.DAMAGED
