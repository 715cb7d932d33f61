"""archive mount: attach → mount. archive unmount: unmount → detach. Looking into an archive without importing it.

What is up to date is read off the system. The archive plays the part of the image: its attachment is found by it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from portunix_vdisk.platform.base import Attachment, FileSystemType
from portunix_vdisk.platform.errors import Missing, NotFound, Refused
from portunix_vdisk.steps.archive.bases import base_chain
from portunix_vdisk.steps.archive.documents import DiskFacts
from portunix_vdisk.steps.archive.random_access import disk_of
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.attaching import AttachServed, DetachImage, UnmountImage
from portunix_vdisk.steps.luks import MAGIC, is_encrypted
from portunix_vdisk.steps.names import suggest_name
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.archives import bases_at, count_of
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.mount_disk import unmount_graph
from portunix_vdisk.tasks.serve_archive import command_of
from portunix_vdisk.tasks.served import Served
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import keys_of, unlock_chain


def archive_mount_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``archive-mount:NAME``, NAME being the archive's file name without extension.

    Raises what opening the archive raises; ``Missing`` for a filesystem that we cannot mount.
    """
    archive = Path(os.path.realpath(session.absolute(options["archive"])))
    bases = bases_at(session, options)
    unlock_chain(session, archive, bases)
    asked = count_of(options["generation"], "generation") if "generation" in options else None
    with ArchiveReader(archive, asked, bases=bases) as reader:
        disk, generation = reader.index.disk, reader.index.generation
    label = f"generation {generation}"
    wanted = session.absolute(options["mountpoint"]).resolve() if "mountpoint" in options else None
    served = Served(session, archive, label, _file_system(disk), disk.owner, wanted, "archive unmount")

    def attach(ctx: Context) -> Json:
        held = served.held
        if held is not None and held.problem:
            ctx.warn(f"{show_path(archive)}: {held.problem}; it is mounted anew")
            DetachImage(held.image).run(ctx)
        elif held is not None and held.label != label:
            raise Refused(
                f"{show_path(archive)} is mounted already: {held.label} of it",
                state="nothing was changed",
                hint="portunix vdisk archive unmount it first",
            )
        _refuse_encrypted(archive, generation, bases, disk)
        server = command_of(archive, generation, bases, session.home)
        return AttachServed(archive, disk.partition, server, label, keys_of(base_chain(archive, bases))).run(ctx)

    def result(values: Mapping[str, Values]) -> Json:
        held = served.held
        return {
            "archive": show_path(archive),
            "generation": generation,
            "disk": disk.name,
            "uuid": disk.uuid,
            "size": show_size(disk.size),
            "size_bytes": disk.size,
            "file_system": disk.file_system,
            **served.where(),
            "server_pid": held.server_pid if held else None,
            "changed": bool(session.ran),
        }

    return Graph(
        operation="archive mount",
        disk=_label(archive),
        doc=f"mount {show_path(archive)} for reading",
        locks=(archive,),
        members=served.members(attach, "show the disk in the archive as a block device"),
        result=result,
    )


def archive_unmount_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``archive-unmount:NAME``. Raises ``NotFound`` or ``Refused``."""
    text = options.get("archive")
    held = _mounted_archive(session, text) if text else _only_mounted_archive(session)
    if held is not None:
        return _unmount_graph(session, held.image, held.mount_point, "archive unmount")
    assert text is not None
    archive = session.absolute(text)
    if not archive.is_file():
        raise NotFound(f"{text} is neither an archive nor a folder on which one is mounted")
    return _unmount_graph(session, archive, None, "archive unmount")


def unmount_anything_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``unmount``, of a disk or else of an archive. Raises ``NotFound`` or ``Refused``."""
    try:
        return unmount_graph(session, options)
    except NotFound:
        mounted = list(_mounted_archives(session))
        held = _mounted_archive(session, options["disk"]) if "disk" in options else None
        if "disk" not in options and len(mounted) == 1:
            held = mounted[0]
        if held is None:
            raise
    return _unmount_graph(session, held.image, held.mount_point, "unmount")


def _unmount_graph(session: Session, archive: Path, point: Path | None, operation: str) -> Graph:
    def held() -> Attachment | None:
        return session.platform.attachment(archive)

    def unmount(ctx: Context) -> Json:
        now = held()
        if now is not None and now.mount_point and session.folder.resolve().is_relative_to(now.mount_point):
            raise Refused(
                f"{show_path(now.mount_point)} is busy: your shell's folder is on it", hint="cd away and unmount again"
            )
        if now is not None and now.problem:
            ctx.warn(f"{show_path(archive)}: {now.problem}")
        return UnmountImage(archive).run(ctx)

    def unmounted(values: Values) -> bool:
        now = held()
        return now is None or (now.mount_point is None and not now.problem)

    return Graph(
        operation=operation,
        disk=_label(archive),
        doc=f"unmount {show_path(archive)}",
        locks=(archive,),
        members=(
            Member("unmount", "take the files away", unmount, unmounted),
            Member(
                "detach",
                "take the block device away",
                lambda ctx: DetachImage(archive).run(ctx),
                lambda values: held() is None,
            ),
        ),
        result=lambda values: {
            "archive": show_path(archive),
            "mount_point": show_path(point) if point else None,
            "changed": bool(session.ran),
        },
    )


def _mounted_archives(session: Session) -> Iterator[Attachment]:
    return (held for held in session.platform.attachments() if held.server_pid is not None)


def _mounted_archive(session: Session, text: str) -> Attachment | None:
    """The attachment of the archive that ``text`` names, itself or by the folder on which it is mounted."""
    path = session.absolute(text)
    real = Path(os.path.realpath(path))
    for held in _mounted_archives(session):
        if real in (held.mount_point, held.image):
            return held
    found = session.platform.attachment(path)
    return found if found is not None and found.server_pid is not None else None


def _only_mounted_archive(session: Session) -> Attachment:
    mounted = list(_mounted_archives(session))
    if not mounted:
        raise NotFound("no archive is mounted")
    if len(mounted) > 1:
        names = ", ".join(show_path(held.mount_point or held.image) for held in mounted)
        raise Refused(f"several archives are mounted: {names}", hint="name the one you mean")
    return mounted[0]


def _refuse_encrypted(archive: Path, generation: int, bases: Sequence[Path], disk: DiskFacts) -> None:
    """Refuse a disk that was archived encrypted. Raises ``Refused``, and what reading the archive raises."""
    with ArchiveReader(archive, generation, bases=bases) as reader, disk_of(reader) as content:
        start = content.read(disk.partition.start, len(MAGIC))
    if is_encrypted(start):
        raise Refused(
            f"{disk.name} was encrypted when it was archived, and is so in {show_path(archive)}",
            state="nothing was changed",
            hint=f"portunix vdisk import {show_path(archive)}, then mount the disk",
        )


def _file_system(disk: DiskFacts) -> FileSystemType:
    try:
        return FileSystemType(disk.file_system)
    except ValueError:
        raise Missing(
            f"the disk in the archive has the filesystem {disk.file_system}, which cannot be mounted here",
            state="nothing was changed",
            hint="update portunix-vdisk",
        ) from None


def _label(archive: Path) -> str:
    return suggest_name(show_path(archive.stem))
