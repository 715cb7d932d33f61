"""import of a disk image that others made, instead of an archive: ``--in-place`` enters the file into the catalog."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, ImageType
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import BadUsage, Corrupt, NotFound, Refused
from portunix_vdisk.platform.home import calling_owner
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.foreign.containers import Container, container_of, is_archive
from portunix_vdisk.steps.foreign.filesystems import Read
from portunix_vdisk.steps.foreign.volumes import Volume, choose, volumes_of
from portunix_vdisk.steps.names import check_name, suggest_name
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.archives import count_of
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.import_archive import import_graph
from portunix_vdisk.tasks.session import Session

_USABLE = frozenset(str(each) for each in FileSystemType)
_FOR_ARCHIVES = ("generation", "base", "salvage")
_FOR_IMAGES = ("in-place", "partition", "image-type")


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
    if "in-place" not in options:
        raise Refused(
            "images made elsewhere are not copied yet",
            state="nothing was changed",
            hint="import it where it is, with --in-place",
        )
    return _adopt_graph(session, options)


def _is_image(session: Session, options: Mapping[str, str]) -> bool:
    if "archive" not in options:
        return False
    path = session.absolute(options["archive"])
    if not path.is_file():
        return "in-place" in options
    with _file(path) as (read, length):
        if is_archive(read):
            return False
        if any(name in options for name in _FOR_IMAGES):
            return True
        if container_of(read, length, path.name) is not Container.RAW:
            return True
        try:
            return any(volume.content for volume in volumes_of(read, length))
        except Corrupt:
            return False


def _adopt_graph(session: Session, options: Mapping[str, str]) -> Graph:
    # The file itself: what a link means may change, and what is attached is never found through one.
    image = Path(os.path.realpath(session.absolute(options["archive"])))
    known = next((disk for disk in session.catalog.all() if disk.path == image), None)
    if known is not None and known.state is not DiskState.READY:
        raise Refused(f"{show_path(image)} belongs to the unfinished disk {known.name}", state="nothing was changed")
    if known is not None and options.get("name", known.name) != known.name:
        raise Refused(f"{show_path(image)} is the disk {known.name} already", state="nothing was changed")
    disk = known or plan_adoption(session, image, options)

    def entered(values: Values) -> bool:
        return session.catalog.by_uuid(disk.uuid) is not None

    def enter(ctx: Context) -> Json:
        session.writable_catalog().declare(disk)
        return {"uuid": disk.uuid}

    return Graph(
        operation="import",
        disk=disk.name,
        doc=f"enter {show_path(image)} into the catalog as {disk.name}",
        locks=(disk.path,),
        members=(Member("enter", "enter the image into the catalog, as it is and where it is", enter, entered),),
        result=lambda values: {
            "disk": disk_json(session, disk),
            "image": show_path(image),
            "in_place": True,
            "changed": bool(session.ran),
        },
    )


def plan_adoption(session: Session, image: Path, options: Mapping[str, str]) -> Disk:
    """The catalog entry for an image of somebody else's.

    Raises ``NotFound``, ``Refused`` or ``Corrupt`` for what cannot be used, ``BadUsage`` for impossible options.
    """
    name = options.get("name") or suggest_name(image.name)
    check_name(name)
    number = count_of(options["partition"], "partition") if "partition" in options else None
    with _file(image) as (read, length):
        container = container_of(read, length, image.name, options.get("image-type", ""))
        bare = container is Container.RAW and volumes_of(read, length)[0].number == 0
    type = _type_of(container, bare=bare)
    if "type" in options and options["type"] != str(type):
        raise Refused(f"{show_path(image)} is a {type}, and stays one where it is", hint="leave out --type")
    with session.platform.open_image(image, type, writable=False) as disk:
        volume = choose(volumes_of(disk.read, disk.size), number, _USABLE)
        size = disk.size
    return _disk(name, image, type, size, volume)


def _disk(name: str, path: Path, type: ImageType, size: int, volume: Volume) -> Disk:
    return Disk(
        name=name,
        uuid=str(uuid.uuid4()),
        path=path,
        type=type,
        size=size,
        file_system=FileSystemType(volume.file_system),
        state=DiskState.READY,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        partition=volume.partition,
        owner=calling_owner(),
    )


def _type_of(container: Container, *, bare: bool) -> ImageType:
    """Our type of image for a file of this kind. Raises ``Refused`` where there is none."""
    known = {str(each): each for each in ImageType}
    if container is Container.RAW:
        return known["loop"] if bare and "loop" in known else known["img"]
    if str(container) not in known:
        raise Refused(
            f"an image of the kind {container} cannot be used where it is",
            state="nothing was changed",
            hint=f"convert it: qemu-img convert -f {container} -O vpc -o force_size=on FILE NEW-FILE.vhd",
        )
    return known[str(container)]


@contextmanager
def _file(path: Path) -> Iterator[tuple[Read, int]]:
    """A file's own bytes. Raises ``NotFound`` or ``Refused``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"there is no file {show_path(path)}") from None
    except OSError as error:
        raise Refused(f"cannot open {show_path(path)}: {error.strerror}", state="nothing was changed") from error
    try:
        if not path.is_file():
            raise Refused(f"{display(str(path))} is not a regular file", state="nothing was changed")
        yield (lambda offset, length: os.pread(descriptor, length, offset)), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
