"""Image files: create, map, check, and open for random access."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from portunix_vdisk.platform import qcow2, vhd, vhdx
from portunix_vdisk.platform.base import MIB, SECTOR, BlockImage, Extent, ImageMap, ImageType
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import BadUsage, Corrupt, ToolFailed
from portunix_vdisk.platform.formats import TYPES
from portunix_vdisk.platform.linux import vhd_image
from portunix_vdisk.platform.linux.block_server import block_server
from portunix_vdisk.platform.linux.containers import disk_size, driver_of
from portunix_vdisk.platform.linux.holes import data_of
from portunix_vdisk.platform.linux.image_locks import held, refuse_if_open_elsewhere
from portunix_vdisk.platform.linux.image_map import parse_map
from portunix_vdisk.platform.linux.raw_image import RawImage, punch, reported
from portunix_vdisk.platform.linux.storage_daemon import explained
from portunix_vdisk.platform.nbd import NbdClient

_BLOCK = MIB
"""No more than a block of any container, so that zeroing takes no room for one that was empty."""
_OFTEN = 8 * MIB
"""Bytes after which the server writes down the tables that it keeps in memory."""
_CREATION = {
    # Without force_size the size is rounded to what cylinders, heads and sectors can say.
    ImageType.VHD: "subformat=dynamic,force_size=on",
    ImageType.VHD_FIXED: "subformat=fixed,force_size=on",
    # The default blocks of 16 MiB make three times the file for a tree of small files.
    ImageType.VHDX: f"subformat=dynamic,block_size={vhdx.BLOCK}",
    ImageType.QCOW2: "compat=1.1,cluster_size=64K",
}
"""Options of ``qemu-img create``."""


def create_image(commands: Commands, path: Path, type: ImageType, size: int) -> None:
    """Create an empty image; see :meth:`Platform.create_image`. ``size`` is a multiple of 1 MiB."""
    if size <= 0 or size % MIB:
        raise BadUsage(f"the size of a disk is a multiple of 1 MiB, not {size} bytes")
    largest = TYPES[type].largest
    if size > largest:
        raise BadUsage(
            f"{TYPES[type].article} holds at most {largest >> 30} GiB", hint="choose a smaller size, or --type img"
        )
    driver = driver_of(type)
    with reported(path, "cannot create"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            if driver == "raw":
                os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)
    if driver != "raw":
        arguments = ("create", "-q", "-f", driver, "-o", _CREATION[type])
        commands.run("qemu-img", *arguments, path.absolute(), str(size))
    if driver != "raw" and type.raw:
        # QEMU gives the first block a place, so that others see what kind of file it is; nobody needs that here.
        with reported(path, "cannot create"), _opened(path, os.O_RDWR) as descriptor:
            punch(descriptor, 0, size)


def check_image(commands: Commands, path: Path, type: ImageType) -> None:
    """Check the container; see :meth:`Platform.check_image`.

    ``qemu-img check`` knows no checks for VHD and few for VHDX, so their footer, headers and block tables are checked
    here. A raw image has no structures but its size.
    """
    with reported(path, "cannot check"), _opened(path, os.O_RDONLY) as descriptor:
        if type is ImageType.VHDX:
            vhdx.extents(descriptor)
        elif not (size := disk_size(descriptor, type)) or size % SECTOR:
            raise Corrupt(f"{display(str(path))} has {size} bytes, which is no whole number of sectors")
    if type is ImageType.QCOW2:
        # 3: clusters that belong to nothing, which a killed writer leaves; they cost room and no data.
        found = commands.run("qemu-img", "check", "-q", "-f", "qcow2", path.absolute(), accept=range(256))
        if found.status not in (0, 3):
            words = display(found.stderr + found.stdout).strip().splitlines()
            raise Corrupt(
                f"the image {display(str(path))} is damaged: {words[-1] if words else f'status {found.status}'}",
                hint=f"copy it first, then: qemu-img check -r all {display(str(path))}",
            )


def map_image(commands: Commands, path: Path, type: ImageType) -> ImageMap:
    """Size and data extents; see :meth:`Platform.map_image`. Raises ``Corrupt`` for a map that makes no sense."""
    with reported(path, "cannot read"), _opened(path, os.O_RDONLY) as descriptor:
        size = disk_size(descriptor, type)
        if type.raw:
            return ImageMap(size, tuple(Extent(start, end - start, start) for start, end in data_of(descriptor, size)))
        if type is ImageType.VHDX:
            _replay(commands, descriptor, path)
            return ImageMap(size, vhdx.extents(descriptor)[1])
        if type is ImageType.VHD:
            return ImageMap(size, tuple(vhd_image.extents(descriptor)))
        length = os.fstat(descriptor).st_size
        snapshots = qcow2.inspect(descriptor).snapshots
    try:
        output = commands.run("qemu-img", "map", "--output=json", "-f", driver_of(type), path.absolute())
    except ToolFailed as error:
        raise explained(error) from error
    return replace(parse_map(output.stdout, length), snapshots=snapshots)


def _replay(commands: Commands, descriptor: int, path: Path) -> None:
    """Let QEMU finish what a killed writer of a VHDX had written down, but not done."""
    if not vhdx.inspect(descriptor).log_pending:
        return
    refuse_if_open_elsewhere(descriptor, writing=True)
    found = commands.run("qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", path.absolute(), accept=range(256))
    if vhdx.inspect(descriptor).log_pending:
        words = display(found.stderr).strip().splitlines()
        raise Corrupt(
            f"the log of {display(str(path))} cannot be replayed: {words[-1] if words else 'QEMU does not say why'}",
            state="the image was not changed",
            hint="is the file writable? Else restore it from a copy or an export",
        )


@contextmanager
def open_image(commands: Commands, path: Path, type: ImageType, *, writable: bool) -> Iterator[BlockImage]:
    """Open the guest-visible disk; see :meth:`Platform.open_image`.

    What was written before a flush returned survives a power cut. Later writes may be lost by one, and a VHD that was
    growing meanwhile may then be refused as damaged; being killed harms nothing.
    """
    with _opened(path, os.O_RDWR if writable else os.O_RDONLY) as descriptor:
        size = disk_size(descriptor, type)
        if type.raw:
            with held(descriptor, writing=True) if writable else nullcontext():
                yield from _finished(RawImage(descriptor, path, size), writable=writable)
            return
        if type is ImageType.VHD:
            with held(descriptor, writing=writable):
                layout = vhd.inspect(descriptor)
                if writable and not layout.footer_in_place:
                    with reported(path, "cannot restore the footer of"):
                        vhd.restore_footer(descriptor, layout)
                yield from _finished(vhd_image.VhdImage(descriptor, path), writable=writable)
            return
        if type is ImageType.VHDX:
            _replay(commands, descriptor, path)
        with block_server(commands, path, read_only=not writable, format=driver_of(type)) as client:
            yield from _finished(ServedImage(client, descriptor, path), writable=writable)


def _finished(image: BlockImage, *, writable: bool) -> Iterator[BlockImage]:
    yield image
    if writable:
        image.flush()


class ServedImage:
    """The disk inside a container, through a private block server; ``descriptor`` is the image file, for syncing it."""

    def __init__(self, client: NbdClient, descriptor: int, path: Path) -> None:
        self._client = client
        self._descriptor = descriptor
        self._path = path
        self.size = client.size
        self.read = client.read
        self._kept_back = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """See :meth:`BlockImage.write`."""
        self._client.write(offset, data)
        self._kept_back += len(data)
        if self._kept_back >= _OFTEN:
            # Cheap, for nothing is synced; and whoever is killed finds that much less to do again.
            self._kept_back = 0
            self._client.flush()

    def zero(self, offset: int, length: int) -> None:
        """See :meth:`BlockImage.zero`. A block that reads as zeros already is left alone: it may be a hole.

        VHD and VHDX have no way to give a block back, so one that holds data is filled with zeros.
        """
        end = offset + length
        while offset < end:
            count = min(_BLOCK - offset % _BLOCK, end - offset)
            if any(self._client.read(offset, count)):
                self._client.zero(offset, count)
            offset += count

    def flush(self) -> None:
        """See :meth:`BlockImage.flush`."""
        # The server hands over what it keeps in memory, such as the tables of a QCOW2, and syncs nothing itself.
        self._client.flush()
        with reported(self._path, "cannot write to"):
            os.fsync(self._descriptor)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    with reported(path, "cannot open"):
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
