"""import of a disk image that others made, instead of an archive: copy → register; or ``--in-place``: enter.

A copy is an image of ours, of any type, with the same content; in place, the file itself is the disk from then on.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, ForeignType, ImageType
from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.platform.home import calling_owner
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.foreign.copy import CopyForeign, rounded
from portunix_vdisk.steps.names import check_name, suggest_name
from portunix_vdisk.steps.register import Register
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.create_disk import declared, image_path, is_ours, known_disk
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.foreign_image import Examined, examine, is_image
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.import_archive import disk_name_in, import_graph
from portunix_vdisk.tasks.session import Session

_USABLE = frozenset(str(each) for each in FileSystemType)
_FOR_ARCHIVES = ("generation", "base", "salvage")
_FOR_IMAGES = ("in-place", "partition", "image-type", "allow-backing")


def import_any_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``import:NAME``, for an archive or for an image. Raises ``VdiskError``."""
    if not _is_image(session, options):
        for name in _FOR_IMAGES:
            if name in options:
                raise BadUsage(f"--{name} is for disk images, and this is an archive")
        return import_graph(session, options)
    for name in _FOR_ARCHIVES:
        if name in options:
            raise BadUsage(f"--{name} is for archives, and this is a disk image")
    if "in-place" in options:
        return _adopt_graph(session, options)
    return _copy_graph(session, options)


def _is_image(session: Session, options: Mapping[str, str]) -> bool:
    if "archive" not in options:
        return False
    path = session.absolute(options["archive"])
    if not path.is_file():
        return "in-place" in options
    return is_image(path, certain=any(name in options for name in _FOR_IMAGES))


def disk_name_of(session: Session, options: Mapping[str, str]) -> str:
    """The name that an import without a name gives its disk. Raises what reading the file raises."""
    if _is_image(session, options):
        return suggest_name(session.absolute(options["archive"]).name)
    return disk_name_in(session, options)


def _adopt_graph(session: Session, options: Mapping[str, str]) -> Graph:
    # The file itself: what a link means may change, and what is attached is never found through one.
    image = Path(os.path.realpath(session.absolute(options["archive"])))
    known = next((disk for disk in session.catalog.all() if disk.path == image), None)
    if known is not None and known.state is not DiskState.READY:
        raise Refused(f"{show_path(image)} belongs to the unfinished disk {known.name}", state="nothing was changed")
    if known is not None and options.get("name", known.name) != known.name:
        raise Refused(f"{show_path(image)} is the disk {known.name} already", state="nothing was changed")
    if "allow-backing" in options:
        raise BadUsage(
            "--in-place uses one file alone, and --allow-backing reads others too", hint="use one of the two"
        )
    disk = known or adopted(session, image, options)
    return Graph(
        operation="import",
        disk=disk.name,
        doc=f"enter {show_path(image)} into the catalog as {disk.name}",
        locks=(disk.path,),
        members=(entering(session, disk),),
        result=lambda values: {
            "disk": disk_json(session, disk),
            "image": show_path(image),
            "in_place": True,
            "changed": bool(session.ran),
        },
    )


def adopted(session: Session, image: Path, options: Mapping[str, str]) -> Disk:
    """The disk that an image is where it lies. Raises as :func:`examine`, and ``Refused`` for one we cannot write."""
    return _look(session, image, {**options, "in-place": "true"})[1]


def entering(session: Session, disk: Disk) -> Member:
    """What enters it into the catalog."""

    def entered(values: Values) -> bool:
        return session.catalog.by_uuid(disk.uuid) is not None

    def enter(ctx: Context) -> Json:
        session.writable_catalog().declare(disk)
        return {"uuid": disk.uuid}

    return Member("enter", "enter the image into the catalog, as it is and where it is", enter, entered)


def _copy_graph(session: Session, options: Mapping[str, str]) -> Graph:
    image = Path(os.path.realpath(session.absolute(options["archive"])))
    if image.is_relative_to(session.home.disks) and any(disk.path == image for disk in session.catalog.all()):
        raise Refused(f"{show_path(image)} is a disk of yours already", state="nothing was changed")
    found, wanted = _look(session, image, options)
    disk = _known(session, image, wanted) or wanted
    partial = durable.partial_of(disk.path)
    step = CopyForeign(image, found.kind, partial, disk.type, found.layers)

    def ready() -> bool:
        known = session.catalog.by_uuid(disk.uuid)
        return known is not None and known.state is DiskState.READY

    def copied(values: Values) -> bool:
        known = session.catalog.by_uuid(disk.uuid)
        return ready() or (known is not None and is_ours(known, values))

    def copy(ctx: Context) -> Json:
        with declared(session, disk):
            known = known_disk(session, disk.name)
            if known.partial_inode is None or not durable.has_inode(partial, known.partial_inode):
                step.prepare(ctx)
                stat = partial.stat()
                session.catalog.set_partial(disk.uuid, (stat.st_dev, stat.st_ino))
        result = step.run(ctx)
        inode = known_disk(session, disk.name).partial_inode
        return {"uuid": disk.uuid, "inode": list(inode or ()), "result": result}

    def register(ctx: Context) -> Json:
        return Register(session.home.catalog, disk.uuid, disk.path, imported=True).run(ctx)

    return Graph(
        operation="import",
        disk=disk.name,
        doc=f"make {disk.name} from {show_path(image)}",
        locks=(disk.path, image),
        members=(
            Member("copy", "copy the content into a new image, and read it back", copy, copied),
            Member("register", "give the image its name and enter it into the catalog", register, lambda _: ready()),
        ),
        result=lambda values: {
            "disk": disk_json(session, known_disk(session, disk.name)),
            "image": show_path(image),
            "in_place": False,
            "changed": bool(session.ran),
        },
    )


def _known(session: Session, image: Path, wanted: Disk) -> Disk | None:
    """The disk of that name, if it is a copy of this image as the image is now. Raises ``Refused`` for another one."""
    known = session.catalog.get(wanted.name)
    if known is None:
        return None
    if known.archive_root == wanted.archive_root and known.archive_path == image:
        untouched = known.path.exists() and durable.identity_of(known.path) == known.imported_identity
        if known.state is DiskState.IMPORTING or untouched:
            return known
    raise Refused(
        f"a disk called {wanted.name} exists already",
        state="nothing was changed",
        hint=f"portunix vdisk import {show_path(image)} --name ANOTHER-NAME",
    )


def _look(session: Session, image: Path, options: Mapping[str, str]) -> tuple[Examined, Disk]:
    """What an image is, and the disk that a copy of it will be; with ``--in-place`` that is itself.

    Raises ``NotFound``, ``Refused`` or ``Corrupt`` for what cannot be used, ``BadUsage`` for impossible options.
    """
    name = options.get("name") or suggest_name(image.name)
    check_name(name)
    found = examine(session, image, options)
    volume = found.volume
    in_place = "in-place" in options
    type = _type_for(found.kind, options.get("type"), in_place=in_place)
    if type is ImageType.LOOP and volume.number:
        raise BadUsage("this disk has a partition table, which an image of the type loop has not", hint="--type img")
    disk = Disk(
        name=name,
        uuid=str(uuid.uuid4()),
        path=image if in_place else image_path(session, name, type, options.get("path")),
        type=type,
        size=found.size if in_place else rounded(found.size),
        file_system=FileSystemType(volume.file_system),
        state=DiskState.READY if in_place else DiskState.IMPORTING,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        partition=volume.partition,
        owner=found.owner or calling_owner(),
    )
    if in_place:
        return found, disk
    return found, replace(disk, archive_path=image, archive_root=found.state)


def _type_for(kind: ImageType | ForeignType, wanted: str | None, *, in_place: bool) -> ImageType:
    """The type that the disk will have. Raises ``BadUsage`` or ``Refused``."""
    if wanted is not None and wanted not in set(map(str, ImageType)):
        raise BadUsage(f"there is no image type {wanted!r}", hint=f"one of: {', '.join(ImageType)}")
    if not in_place:
        return ImageType(wanted) if wanted else kind if isinstance(kind, ImageType) else ImageType.VHD
    if isinstance(kind, ForeignType):
        raise Refused(
            f"images of the kind {kind} are only read here, not written",
            state="nothing was changed",
            hint="without --in-place its content is copied into an image of another type",
        )
    if wanted not in (None, str(kind)):
        raise BadUsage(f"this is a {kind}, and stays one where it is", hint="leave out --type, or --in-place")
    return kind
