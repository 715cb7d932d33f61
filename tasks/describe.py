"""Disks as the result objects that every surface shows."""

from __future__ import annotations

import os

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.formats import cell
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.install.record import InstalledPackage
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Json
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import attachment_of


def show_path(path: os.PathLike[str] | str) -> str:
    """A path as text for a person; bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def disk_json(session: Session, disk: Disk) -> dict[str, Json]:
    """The stable description of a disk: the specification's keys first, then ours."""
    held = attachment_of(session, disk)
    try:
        used = disk.path.stat().st_blocks * 512
        missing = False
    except OSError:
        used = 0
        missing = disk.state is DiskState.READY
    return {
        "name": disk.name,
        "path": show_path(disk.path),
        "size": show_size(disk.size),
        "type": disk.type.extension,
        "mount_point": show_path(held.mount_point) if held and held.mount_point else None,
        "compressed": False,
        "encrypted": disk.encrypted,
        "created_at": disk.created_at,
        "uuid": disk.uuid,
        "size_bytes": disk.size,
        "used_bytes": used,
        "fixed": disk.type is ImageType.VHD_FIXED,
        "file_system": str(disk.file_system),
        "opens_on": [str(system) for system in cell(disk.type, disk.file_system, encrypted=disk.encrypted).opens],
        "state": "missing" if missing else str(disk.state),
        "partition": {"start": disk.partition.start, "length": disk.partition.length},
        "device": held.device if held else None,
        "read_only": held.read_only if held else False,
        "rootless": held.rootless if held else False,
        "owner": {"uid": disk.owner.uid, "gid": disk.owner.gid},
        "shown_as_yours": held.mapped if held else False,
        "problem": held.problem if held else "",
    }


def package_json(package: InstalledPackage) -> dict[str, Json]:
    """A package of a language, as results have it."""
    return {"language": package.language, "name": package.name, "version": package.version}
