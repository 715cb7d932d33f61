"""import of a disk image that others made, instead of an archive: copy → register; or ``--in-place``: enter.

A copy is an image of ours, of any type, with the same content; in place, the file itself is the disk from then on.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, ForeignType, ImageType
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import BadUsage, Corrupt, NotFound, Refused
from portunix_vdisk.platform.home import calling_owner
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.foreign.backing import Layer, layers_below
from portunix_vdisk.steps.foreign.containers import Container, container_of, is_archive
from portunix_vdisk.steps.foreign.copy import CopyForeign, opened, rounded
from portunix_vdisk.steps.foreign.filesystems import Read
from portunix_vdisk.steps.foreign.volumes import choose, volumes_of
from portunix_vdisk.steps.names import check_name, suggest_name
from portunix_vdisk.steps.register import Register
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.archives import count_of
from portunix_vdisk.tasks.create_disk import declared, image_path, is_ours, known_disk
from portunix_vdisk.tasks.describe import disk_json, show_path
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
    disk = known or _look(session, image, options)[2]

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


def _copy_graph(session: Session, options: Mapping[str, str]) -> Graph:
    image = Path(os.path.realpath(session.absolute(options["archive"])))
    if image.is_relative_to(session.home.disks) and any(disk.path == image for disk in session.catalog.all()):
        raise Refused(f"{show_path(image)} is a disk of yours already", state="nothing was changed")
    kind, layers, wanted = _look(session, image, options)
    disk = _known(session, image, wanted) or wanted
    partial = durable.partial_of(disk.path)
    step = CopyForeign(image, kind, partial, disk.type, layers)

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


def _look(
    session: Session, image: Path, options: Mapping[str, str]
) -> tuple[ImageType | ForeignType, tuple[Layer, ...], Disk]:
    """What an image is, which files below it may be read, and the disk that a copy of it will be.

    With ``--in-place`` that is itself.

    Raises ``NotFound``, ``Refused`` or ``Corrupt`` for what cannot be used, ``BadUsage`` for impossible options.
    """
    name = options.get("name") or suggest_name(image.name)
    check_name(name)
    number = count_of(options["partition"], "partition") if "partition" in options else None
    with _file(image) as (read, length):
        container = container_of(read, length, image.name, options.get("image-type", ""))
        bare = container is Container.RAW and volumes_of(read, length)[0].number == 0
    kind, layers = _kind_of(container, bare=bare), tuple[Layer, ...]()
    if kind is ImageType.QCOW2 and "allow-backing" in options and (layers := layers_below(image)):
        kind = ForeignType.LAYERED
        session.log("info", f"reading {', '.join(show_path(layer.path) for layer in layers)} too")
    about = [durable.identity_of(path) for path in (image, *(layer.path for layer in layers))]
    with opened(session.platform, image, kind, layers) as inside:
        size = inside.size
        volume = choose(volumes_of(inside.read, size), number, _USABLE)
    in_place = "in-place" in options
    type = _type_for(kind, options.get("type"), in_place=in_place)
    if type is ImageType.LOOP and volume.number:
        raise BadUsage("this disk has a partition table, which an image of the type loop has not", hint="--type img")
    disk = Disk(
        name=name,
        uuid=str(uuid.uuid4()),
        path=image if in_place else image_path(session, name, type, options.get("path")),
        type=type,
        size=size if in_place else rounded(size),
        file_system=FileSystemType(volume.file_system),
        state=DiskState.READY if in_place else DiskState.IMPORTING,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        partition=volume.partition,
        owner=calling_owner(),
    )
    if in_place:
        return kind, layers, disk
    # What the content is called: this very state of the files.
    root = "image-" + "-".join(f"{one.device}-{one.inode}-{one.size}-{one.mtime_ns}" for one in about)
    return kind, layers, replace(disk, archive_path=image, archive_root=root)


def _kind_of(container: Container, *, bare: bool) -> ImageType | ForeignType:
    """What reads such a file. Raises ``Refused`` where nothing does."""
    if container is Container.RAW:
        return ImageType.LOOP if bare else ImageType.IMG
    for types in (ImageType, ForeignType):
        for each in types:
            if str(each) == str(container):
                return each
    raise Refused(
        f"images of the kind {container} cannot be read here yet",
        state="nothing was changed",
        hint="convert it: qemu-img convert -O qcow2 FILE NEW-FILE",
    )


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
