"""Which disk a person means."""

from __future__ import annotations

import os
from pathlib import Path

from portunix_vdisk.platform.base import Attachment
from portunix_vdisk.platform.errors import NotFound, Refused
from portunix_vdisk.steps.disk import CLONE, Disk, DiskState
from portunix_vdisk.steps.names import nearest
from portunix_vdisk.steps.resize.filesystem import changes_of
from portunix_vdisk.tasks.session import Session


def find_disk(session: Session, text: str) -> Disk:
    """The disk that ``text`` names.

    With a ``/``: that image file, or the disk mounted at that folder. Otherwise a name in the catalog, the file name
    of a registered image, or a file in the caller's folder; two different answers are refused.

    Raises:
        NotFound: nothing matches; the hint lists near names.
        Refused: the text means two different disks.
    """
    disks = session.catalog.all()
    if "/" in text:
        found = _by_path(session, session.absolute(text), disks)
        if found is None:
            image = session.absolute(text).is_file()
            raise NotFound(
                f"{text} is not a registered disk",
                hint=f"portunix vdisk import {text} --in-place enters it"
                if image
                else "portunix vdisk list shows all disks and where their images are",
            )
        return found
    matches = {disk.uuid: disk for disk in disks if disk.name == text}
    if not matches:
        matches = {disk.uuid: disk for disk in disks if disk.path.name == text}
    here = session.absolute(text)
    stranger = here.is_file() and not any(_same(here, disk.path) for disk in disks)
    if local := _by_path(session, here, disks):
        matches[local.uuid] = local
    if len(matches) > 1 or (matches and stranger):
        places = sorted({str(disk.path) for disk in matches.values()} | ({str(here)} if stranger else set()))
        raise Refused(f"{text} means two things: {' and '.join(places)}", hint="name the one you mean by its full path")
    if matches:
        return next(iter(matches.values()))
    if stranger:
        raise NotFound(
            f"{here} is an image that is not registered", hint=f"portunix vdisk import {here} --in-place enters it"
        )
    names = [disk.name for disk in disks]
    near = nearest(text.rsplit(".", 1)[0], names) or nearest(text, names)
    hint = f"did you mean {' or '.join(near)}?" if near else "portunix vdisk list shows all disks"
    raise NotFound(f"there is no disk called {text}", hint=hint)


def only_mounted_disk(session: Session) -> Disk:
    """The disk that is meant when none is named: the one the caller's folder is on, or the only mounted one.

    Raises ``NotFound`` when none is mounted, ``Refused`` when several are.
    """
    mounted = [(disk, held) for disk in session.catalog.all() if (held := attachment_of(session, disk))]
    for disk, held in mounted:
        if held.mount_point and session.folder.resolve().is_relative_to(held.mount_point):
            return disk
    if len(mounted) == 1:
        return mounted[0][0]
    if not mounted:
        raise NotFound("no disk is mounted", hint="portunix vdisk list shows all disks")
    raise Refused(
        f"several disks are mounted: {', '.join(disk.name for disk, _ in mounted)}", hint="name the one you mean"
    )


def attachment_of(session: Session, disk: Disk) -> Attachment | None:
    """How the disk is attached at this moment, if it is."""
    return session.platform.attachment(disk.path) if disk.path.exists() else _vanished(session, disk)


def disk_at(session: Session, path: Path) -> tuple[Disk, Attachment] | None:
    """The mounted disk on which ``path``, or its nearest existing parent, lies."""
    place = Path(os.path.realpath(path))
    for disk in session.catalog.all():
        held = attachment_of(session, disk)
        if held and held.mount_point and place.is_relative_to(held.mount_point):
            return disk, held
    return None


def must_be_ready(disk: Disk) -> None:
    """Refuse to use a disk that is not whole. Raises ``Refused`` or ``NotFound``."""
    if disk.state is not DiskState.READY:
        made = "clone" if (disk.archive_root or "").startswith(CLONE) else "import"
        verb = "create" if disk.state is DiskState.CREATING else made
        raise Refused(
            f"{disk.name} is not finished: its {verb} was interrupted",
            hint=f"run the same {verb} command to continue, or portunix vdisk {verb} --abort to undo it",
        )
    if not disk.path.is_file():
        raise NotFound(
            f"the image of {disk.name} has vanished: {disk.path}",
            state="the disk is still in the catalog",
            hint=f"bring the file back, or portunix vdisk delete {disk.name} to forget it",
        )
    if changes_of(disk.path).exists():
        raise Refused(
            f"{disk.name} was being resized when that was interrupted, and its filesystem may be half written",
            state="nothing is lost: the rest of it lies beside the image",
            hint=f"run the same command again to finish it: portunix vdisk resize {disk.name} --size …",
        )


def _vanished(session: Session, disk: Disk) -> Attachment | None:
    return next((held for held in session.platform.attachments() if held.image == disk.path), None)


def _by_path(session: Session, path: Path, disks: list[Disk]) -> Disk | None:
    for disk in disks:
        if disk.path == path or _same(path, disk.path):
            return disk
    real = Path(os.path.realpath(path))
    for disk in disks:
        held = attachment_of(session, disk)
        if held and held.mount_point == real:
            return disk
    return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
