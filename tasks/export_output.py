"""Where an archive goes, and what must not be there."""

from __future__ import annotations

import os
from pathlib import Path

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.archive.status import ArchiveState, archive_status
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import disk_at


def output_of(session: Session, disk: Disk, given: str | None) -> Path:
    """Where the archive goes: what was asked for, else where the last export went, else NAME.zip here."""
    if given is None:
        return session.catalog.last_output(disk.uuid) or session.folder / f"{disk.name}.zip"
    path = Path(os.path.normpath(session.absolute(given)))
    return path / f"{disk.name}.zip" if given.endswith("/") or path.is_dir() else path


def refuse_on_itself(session: Session, disk: Disk, output: Path) -> None:
    """Refuse to write an archive of a disk onto that disk. Raises ``Refused``."""
    there = disk_at(session, output.parent)
    if there is not None and there[0].uuid == disk.uuid:
        raise Refused(
            f"{show_path(output)} lies on the disk itself",
            state="nothing was written",
            hint="name a file on another disk with --output",
        )


def refuse_other_content(output: Path, disk: Disk) -> None:
    """Refuse to write where something else is. Raises ``Refused``."""
    status = archive_status(output, disk.uuid)
    there = show_path(status.file)
    kept = "it was not touched"
    match status.state:
        case ArchiveState.OTHER_DISK:
            raise Refused(f"{there} is an archive of another disk", state=kept, hint="export to another file")
        case ArchiveState.NEWER:
            raise Refused(f"{there} was made by a newer version", state=kept, hint="export to another file")
        case ArchiveState.NOT_AN_ARCHIVE:
            raise Refused(f"{there} exists and is not an archive of ours", state=kept, hint="export to another file")
        case ArchiveState.DAMAGED:
            raise Refused(f"{status.problem}", state=kept, hint=f"export to another file, or move {there} away")
        case ArchiveState.ABSENT | ArchiveState.PARTIAL | ArchiveState.SEALED | ArchiveState.LOCKED:
            return
