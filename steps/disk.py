"""What is known about a disk, and about the archives made from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import FileIdentity, FileSystemType, ImageType, Owner, Partition


class DiskState(StrEnum):
    """How far a disk has come. Only a ``ready`` disk has an image at its path."""

    CREATING = "creating"
    IMPORTING = "importing"
    READY = "ready"


CLONE: Final = "clone-"
"""What the root of a disk begins with that was cloned from another one; its UUID and state follow."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One entry of the catalog."""

    name: str
    """What people call it; unique, see :func:`portunix_vdisk.steps.names.check_name`."""
    uuid: str
    """Identity of the disk, for ever; also the GUID of its partition table."""
    path: Path
    """Absolute path of the image file; unique."""
    type: ImageType
    size: int
    """Guest-visible bytes."""
    file_system: FileSystemType
    state: DiskState
    created_at: str
    """ISO 8601, UTC."""
    partition: Partition
    owner: Owner
    partial_inode: tuple[int, int] | None = None
    """Device and inode of the partial file that we made: proof that a file of that name is ours to continue or remove.
    None before it was made and from the moment the disk is ready."""
    archive_uuid: str | None = None
    """The archive it was imported from."""
    archive_root: str | None = None
    """Merkle root of the content it was imported from."""
    archive_path: Path | None = None
    """Where that archive was: an interrupted import continues from there."""
    encrypted: bool = False
    """Whether the partition is, with LUKS."""
    imported_identity: FileIdentity | None = None
    """Identity of the image right after the import: where it still holds, nobody has used the disk since."""


@dataclass(frozen=True, slots=True)
class Export:
    """One archive file that a disk was exported to, or is being exported to."""

    disk_uuid: str
    output: Path
    """Absolute path of the archive."""
    started_at: str
    """When the last run to this file began; ISO 8601, UTC."""
    root: str | None = None
    """Merkle root of the last finished export to this file, None if none has finished."""
    finished_at: str | None = None
    """When that one finished; ISO 8601, UTC."""
