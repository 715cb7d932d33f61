"""create: allocate → partition → format → register, all on a partial image."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, ImageType
from portunix_vdisk.platform.errors import BadUsage, NotFound, Refused
from portunix_vdisk.platform.home import calling_owner
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.allocate import Allocate, check_size
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.encrypt import EncryptPartition
from portunix_vdisk.steps.format import Format
from portunix_vdisk.steps.names import check_name
from portunix_vdisk.steps.partition import PartitionImage, part_uuid, plan_partition
from portunix_vdisk.steps.register import Register
from portunix_vdisk.steps.sizes import parse_size, show_size
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import disk_json
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import disk_secret


def create_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``create:NAME``. Raises ``BadUsage`` or ``Refused`` for parameters that cannot be."""
    name = options["name"]
    check_name(name)
    disk = _plan(session, name, options)
    partial = durable.partial_of(disk.path)
    scratch = session.home.run / f"{disk.uuid}.fs"

    def done(values: Values) -> bool:
        known = session.catalog.get(name)
        return known is not None and (known.state is DiskState.READY or is_ours(known, values))

    def allocate(ctx: Context) -> Json:
        disk_secret(session, disk, new=True)  # asked for before anything is made
        with declared(session, disk):
            made = Allocate(partial, disk.type, disk.size).run(ctx)
        assert isinstance(made, Mapping)
        inode = (int(str(made["device"])), int(str(made["inode"])))
        session.catalog.set_partial(disk.uuid, inode)
        return {"uuid": disk.uuid, "inode": list(inode)}

    def stamped(ctx: Context, result: Json) -> Json:
        known = session.catalog.by_uuid(disk.uuid)
        inode = known.partial_inode if known else None
        return {"uuid": disk.uuid, "inode": list(inode or ()), "result": result}

    def partition(ctx: Context) -> Json:
        what = (disk.type, disk.size, disk.file_system, disk.uuid, name, disk.encrypted)
        return stamped(ctx, PartitionImage(partial, *what).run(ctx))

    def encrypt(ctx: Context) -> Json:
        secret = disk_secret(session, disk, new=True)
        return stamped(ctx, EncryptPartition(partial, disk.type, disk.partition, scratch, secret).run(ctx))

    def format(ctx: Context) -> Json:
        step = Format(
            partial=partial,
            type=disk.type,
            partition=disk.partition,
            file_system=disk.file_system,
            label=name,
            uuid=part_uuid(disk.uuid, "filesystem"),
            owner=disk.owner,
            scratch=scratch,
            secret=disk_secret(session, disk, new=True),
        )
        return stamped(ctx, step.run(ctx))

    def register(ctx: Context) -> Json:
        return Register(session.home.catalog, disk.uuid, disk.path, imported=False).run(ctx)

    def registered(values: Values) -> bool:
        known = session.catalog.get(name)
        return known is not None and known.state is DiskState.READY

    def undo() -> None:
        undo_unfinished(session, name)

    return Graph(
        operation="create",
        disk=name,
        doc=f"make the virtual disk {name} ({show_size(disk.size)}, {disk.type})",
        locks=(disk.path,),
        members=(
            Member("allocate", "make an empty image file", allocate, done, undo),
            Member("partition", "write the partition table", partition, done),
            *([Member("encrypt", "make a key, locked by the password", encrypt, done)] if disk.encrypted else []),
            Member("format", f"make the {disk.file_system} filesystem", format, done),
            Member("register", "give the image its name and enter it into the catalog", register, registered),
        ),
        result=lambda values: {
            "disk": disk_json(session, known_disk(session, name)),
            "changed": bool(session.ran),
            "template": None,
        },
    )


def is_ours(disk: Disk, values: Values) -> bool:
    """True if the journal's values are about the very file that the disk's partial image is now.

    A partial that has got its final name already was complete, whatever the journal knows.
    """
    if disk.partial_inode is None:
        return False
    if is_published(disk):
        return True
    recorded = values.get("uuid") == disk.uuid and values.get("inode") == list(disk.partial_inode)
    return recorded and durable.has_inode(durable.partial_of(disk.path), disk.partial_inode)


def is_published(disk: Disk) -> bool:
    """True if the finished image has its final name, whatever the catalog says."""
    return disk.partial_inode is not None and durable.has_inode(disk.path, disk.partial_inode)


def abort_graph(session: Session, operation: str, name: str) -> Graph:
    """The graph that undoes an interrupted ``create`` or ``import``. Raises ``NotFound`` or ``Refused``."""
    disk = session.catalog.get(name)
    if disk is None:
        raise NotFound(f"there is no unfinished disk called {name}", state="nothing was removed")
    if disk.state is DiskState.READY:
        raise Refused(f"{name} is finished", hint=f"portunix vdisk delete {name} deletes it")

    def gone(values: Values) -> bool:
        return session.catalog.get(name) is None

    def undo(ctx: Context) -> Json:
        return {"removed": undo_unfinished(session, name)}

    return Graph(
        operation=operation,
        disk=name,
        doc=f"undo the interrupted {operation} of {name}",
        locks=(disk.path,),
        members=(Member("abort", "remove the partial image and forget the disk", undo, gone),),
        result=lambda values: {"disk": None, "changed": bool(session.ran)},
    )


def undo_unfinished(session: Session, name: str) -> bool:
    """Remove the partial image and the catalog entry of a disk that never became ready; tells if there was one."""
    disk = session.catalog.get(name)
    if disk is None or disk.state is DiskState.READY:
        return False
    durable.partial_of(disk.path).unlink(missing_ok=True)
    # Killed between the two names of publishing: the file is still the unfinished disk's, by its inode.
    if disk.partial_inode and durable.has_inode(disk.path, disk.partial_inode):
        disk.path.unlink()
    (session.home.run / f"{disk.uuid}.fs").unlink(missing_ok=True)
    session.catalog.remove(disk.uuid)
    return True


def image_path(session: Session, name: str, type: ImageType, place: str | None) -> Path:
    """Where the image goes: a file, a folder (existing, or with a trailing slash), or the default folder."""
    file_name = f"{name}.{type.extension}"
    if place is None:
        session.home.make()
        return session.home.disks / file_name
    path = session.absolute(place)
    if place.endswith("/") or path.is_dir():
        return path / file_name
    if path.suffix != f".{type.extension}":
        raise BadUsage(f"{place} is no folder, and not the name of a {type} image", hint=f"end it in .{type.extension}")
    return path


def refuse_occupied(path: Path) -> None:
    """Refuse to make an image where something is already. Raises ``Refused``."""
    for taken in (path, durable.partial_of(path)):
        if taken.exists() or taken.is_symlink():
            raise Refused(f"{taken} exists", state="it was not touched", hint="choose another --name or --path")


def _plan(session: Session, name: str, options: Mapping[str, str]) -> Disk:
    """The disk as it is known, or as it would be made. Raises for parameters that contradict what exists."""
    known = session.catalog.get(name)
    type = image_type(options.get("type"), fixed=options.get("fixed") == "true")
    file_system = _file_system(options)
    size = parse_size(options["size"]) if "size" in options else None
    if known is not None:
        _must_agree(
            known,
            size,
            type if "type" in options or type is ImageType.VHD_FIXED else None,
            file_system if "fs" in options or options.get("portable") == "true" else None,
            options.get("path"),
            session,
        )
        if options.get("encrypted") == "true" and not known.encrypted:
            raise Refused(f"a disk called {name} exists already, and is not encrypted", state="nothing was changed")
        return known
    if size is None:
        raise BadUsage(f"how large shall {name} be?", hint=f"portunix vdisk create --name {name} --size 20GB")
    encrypted = options.get("encrypted") == "true"
    check_size(size, type, file_system, encrypted=encrypted)
    return Disk(
        name=name,
        uuid=str(uuid.uuid4()),
        path=image_path(session, name, type, options.get("path")),
        type=type,
        size=size,
        file_system=file_system,
        state=DiskState.CREATING,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        partition=plan_partition(size, type),
        owner=calling_owner(),
        partial_inode=None,
        archive_uuid=None,
        archive_root=None,
        encrypted=encrypted,
        imported_identity=None,
    )


def image_type(text: str | None, *, fixed: bool = False) -> ImageType:
    """The type that a person named. Raises ``BadUsage``."""
    try:
        type = ImageType(text or ImageType.VHD)
    except ValueError:
        raise BadUsage(f"{text} is no image type", hint=f"one of: {', '.join(ImageType)}") from None
    if not fixed:
        return type
    if type not in (ImageType.VHD, ImageType.VHD_FIXED):
        raise BadUsage(f"there is no fixed {type}", hint="--fixed goes with --type vhd")
    return ImageType.VHD_FIXED


def _file_system(options: Mapping[str, str]) -> FileSystemType:
    text = options.get("fs")
    if options.get("portable") == "true":
        if text not in (None, FileSystemType.NTFS):
            raise BadUsage(f"--portable means NTFS, and --fs says {text}", hint="use one of the two")
        text = FileSystemType.NTFS
    try:
        return FileSystemType(text or FileSystemType.EXT4)
    except ValueError:
        raise BadUsage(f"{text} is no filesystem", hint=f"one of: {', '.join(FileSystemType)}") from None


def _must_agree(
    known: Disk,
    size: int | None,
    type: ImageType | None,
    file_system: FileSystemType | None,
    place: str | None,
    session: Session,
) -> None:
    differences = []
    if size is not None and size != known.size:
        differences.append(f"its size is {show_size(known.size)}")
    if type is not None and type is not known.type:
        differences.append(f"its type is {known.type}")
    if file_system is not None and file_system is not known.file_system:
        differences.append(f"its filesystem is {known.file_system}")
    if place is not None and image_path(session, known.name, known.type, place) != known.path:
        differences.append(f"its image is {known.path}")
    if known.state is DiskState.IMPORTING:
        differences.append("it is being imported")
    if differences:
        raise Refused(
            f"a disk called {known.name} exists already, and {' and '.join(differences)}",
            state="nothing was changed",
            hint=f"choose another --name, or portunix vdisk delete {known.name} first",
        )


@contextmanager
def declared(session: Session, disk: Disk) -> Iterator[None]:
    """Enter a disk that is being made, unless an interrupted run did so already. Raises ``Refused``.

    If what follows fails before it has made the partial image, the entry is taken back: nothing was created.
    """
    known = session.writable_catalog().get(disk.name)
    if known is not None and known.uuid != disk.uuid:
        raise Refused(f"{disk.name} was made by another command meanwhile", hint="run the same command again")
    if known is None:
        refuse_occupied(disk.path)
        session.catalog.declare(disk)
    try:
        yield
    except Exception:
        if known is None and not durable.partial_of(disk.path).exists():
            session.catalog.remove(disk.uuid)
        raise


def known_disk(session: Session, name: str) -> Disk:
    """The disk of that name. Raises ``NotFound``."""
    disk = session.catalog.get(name)
    if disk is None:
        raise NotFound(f"there is no disk called {name}")
    return disk
