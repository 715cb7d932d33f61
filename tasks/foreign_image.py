"""Images that others made: what such a file is, and where on it the filesystem lies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, ForeignType, ImageType, Owner
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Corrupt, NotFound, Refused
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.foreign.backing import Layer, layers_below
from portunix_vdisk.steps.foreign.containers import Container, container_of, is_archive
from portunix_vdisk.steps.foreign.copy import opened
from portunix_vdisk.steps.foreign.filesystems import Read
from portunix_vdisk.steps.foreign.owners import owner_in
from portunix_vdisk.steps.foreign.volumes import Volume, choose, volumes_of
from portunix_vdisk.tasks.archives import count_of
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.session import Session

_USABLE = frozenset(str(each) for each in FileSystemType)


@dataclass(frozen=True, slots=True)
class Examined:
    """An image that somebody else made.

    ``layers``: the files below it that may be read too. ``size``: bytes of the disk in it. ``volume``: the part of that
    which is meant. ``state``: a word for the content that all these files have now. ``owner``: whose disk it is, if it
    tells.
    """

    kind: ImageType | ForeignType
    layers: tuple[Layer, ...]
    size: int
    volume: Volume
    state: str
    owner: Owner | None


def examine(session: Session, image: Path, options: Mapping[str, str]) -> Examined:
    """Look at an image, with what the person says of it.

    Raises ``NotFound``, ``Refused`` or ``Corrupt`` for what cannot be used, ``BadUsage`` for impossible options.
    """
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
        volume = choose(volumes_of(inside.read, inside.size), number, _USABLE)
        state = "-".join(f"{one.device}-{one.inode}-{one.size}-{one.mtime_ns}" for one in about)
        place = volume.partition
        owner = owner_in(inside.read, place.start, place.length) if volume.file_system == "ext4" else None
        return Examined(kind, layers, inside.size, volume, f"image-{state}", owner)


def is_image(path: Path, *, certain: bool = False) -> bool:
    """Whether a file is no archive but an image; ``certain``: the person says so."""
    with _file(path) as (read, length):
        if is_archive(read):
            return False
        if certain or container_of(read, length, path.name) is not Container.RAW:
            return True
        try:
            return any(volume.content for volume in volumes_of(read, length))
        except Corrupt:
            return False


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
