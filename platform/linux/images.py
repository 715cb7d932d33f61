"""Image files: create, map, check, and open for random access."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portunix_vdisk.platform import vhd
from portunix_vdisk.platform.base import MIB, SECTOR, BlockImage, Extent, ImageMap, ImageType
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import BadUsage, Corrupt, Failed, NotFound, ToolFailed
from portunix_vdisk.platform.linux.block_server import block_server
from portunix_vdisk.platform.linux.holes import data_of
from portunix_vdisk.platform.linux.image_locks import refuse_if_open_elsewhere
from portunix_vdisk.platform.linux.storage_daemon import explained
from portunix_vdisk.platform.nbd import NbdClient

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_BLOCK = 2 * MIB


def create_image(commands: Commands, path: Path, type: ImageType, size: int) -> None:
    """Create an empty image; see :meth:`Platform.create_image`. ``size`` is a multiple of 1 MiB."""
    if size <= 0 or size % MIB:
        raise BadUsage(f"the size of a disk is a multiple of 1 MiB, not {size} bytes")
    if type is ImageType.VHD and size > vhd.LARGEST:
        raise BadUsage("a VHD holds at most 2039 GiB", hint="choose a smaller size, or --type img")
    with _reported(path, "cannot create"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            if type is ImageType.IMG:
                os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)
    if type is ImageType.VHD:
        # Without force_size the size is rounded to what cylinders, heads and sectors can say.
        options = "subformat=dynamic,force_size=on"
        commands.run("qemu-img", "create", "-q", "-f", "vpc", "-o", options, path.absolute(), str(size))


def check_image(path: Path, type: ImageType) -> None:
    """Check the container; see :meth:`Platform.check_image`.

    ``qemu-img check`` knows no checks for VHD, so footer, header and block table are checked here. A raw image has no
    structures but its size.
    """
    with _reported(path, "cannot check"), _opened(path, os.O_RDONLY) as descriptor:
        if type is ImageType.VHD:
            vhd.inspect(descriptor)
        elif not (size := os.fstat(descriptor).st_size) or size % SECTOR:
            raise Corrupt(f"{display(str(path))} has {size} bytes, which is no whole number of sectors")


def map_image(commands: Commands, path: Path, type: ImageType) -> ImageMap:
    """Size and data extents; see :meth:`Platform.map_image`. Raises ``Corrupt`` for a map that makes no sense."""
    with _reported(path, "cannot read"), _opened(path, os.O_RDONLY) as descriptor:
        length = os.fstat(descriptor).st_size
        if type is ImageType.IMG:
            return ImageMap(
                length, tuple(Extent(start, end - start, start) for start, end in data_of(descriptor, length))
            )
        vhd.inspect(descriptor)
    try:
        output = commands.run("qemu-img", "map", "--output=json", "-f", "vpc", path.absolute())
    except ToolFailed as error:
        raise explained(error) from error
    return parse_map(output.stdout, length)


def parse_map(text: bytes, length: int) -> ImageMap:
    """The output of ``qemu-img map --output=json`` for an image file of ``length`` bytes, not trusted.

    Raises ``Corrupt`` where extents overlap, leave gaps, or lie outside the file.
    """
    end = 0
    extents: list[Extent] = []
    try:
        for entry in json.loads(text):
            start, count = entry["start"], entry["length"]
            if type(start) is not int or type(count) is not int or start != end or count <= 0:
                raise ValueError(f"unexpected entry {entry}")
            end = start + count
            if entry["zero"] or not entry["data"]:
                continue
            offset = entry["offset"]
            if type(offset) is not int or offset < 0 or offset + count > length:
                raise ValueError(f"data outside the file: {entry}")
            last = extents[-1] if extents else Extent(0, 0, 0)
            if last.length and last.start + last.length == start and last.offset + last.length == offset:
                extents[-1] = Extent(last.start, last.length + count, last.offset)
            else:
                extents.append(Extent(start, count, offset))
    except (ValueError, LookupError, TypeError) as error:
        raise Corrupt(f"the map of the image makes no sense: {error}") from error
    return ImageMap(end, tuple(extents))


@contextmanager
def open_image(commands: Commands, path: Path, type: ImageType, *, writable: bool) -> Iterator[BlockImage]:
    """Open the guest-visible disk; see :meth:`Platform.open_image`.

    What was written before a flush returned survives a power cut. Later writes may be lost by one, and a VHD that was
    growing meanwhile may then be refused as damaged; being killed harms nothing.
    """
    with _opened(path, os.O_RDWR if writable else os.O_RDONLY) as descriptor:
        if type is ImageType.IMG:
            if writable:
                refuse_if_open_elsewhere(descriptor, writing=True)
            yield from _finished(RawImage(descriptor, path), writable=writable)
            return
        layout = vhd.inspect(descriptor)
        if writable and not layout.footer_in_place:
            with _reported(path, "cannot restore the footer of"):
                vhd.restore_footer(descriptor, layout)
        with block_server(commands, path, read_only=not writable) as client:
            yield from _finished(VhdImage(client, descriptor, path), writable=writable)


def _finished(image: RawImage | VhdImage, *, writable: bool) -> Iterator[BlockImage]:
    yield image
    if writable:
        image.flush()


class RawImage:
    """A raw image: guest offsets are file offsets."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """See :meth:`BlockImage.read`."""
        _inside(offset, length, self.size)
        parts = []
        with _reported(self._path, "cannot read"):
            while length:
                part = os.pread(self._descriptor, length, offset)
                if not part:
                    raise Corrupt(f"{display(str(self._path))} became shorter while it was read")
                parts.append(part)
                offset += len(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """See :meth:`BlockImage.write`."""
        view = memoryview(data).cast("B")
        _inside(offset, len(view), self.size)
        with _reported(self._path, "cannot write to"):
            while len(view):
                count = os.pwrite(self._descriptor, view, offset)
                offset += count
                view = view[count:]

    def zero(self, offset: int, length: int) -> None:
        """See :meth:`BlockImage.zero`."""
        _inside(offset, length, self.size)
        if not length or _punch(self._descriptor, offset, length):
            return
        for start in range(offset, offset + length, _BLOCK):
            self.write(start, bytes(min(_BLOCK, offset + length - start)))

    def flush(self) -> None:
        """See :meth:`BlockImage.flush`."""
        with _reported(self._path, "cannot write to"):
            os.fsync(self._descriptor)


class VhdImage:
    """The disk inside a VHD, through a private block server; ``descriptor`` is the image file, for syncing it."""

    def __init__(self, client: NbdClient, descriptor: int, path: Path) -> None:
        self._client = client
        self._descriptor = descriptor
        self._path = path
        self.size = client.size
        self.read = client.read
        self.write = client.write

    def zero(self, offset: int, length: int) -> None:
        """See :meth:`BlockImage.zero`. A block that reads as zeros already is left alone: it may be a hole.

        The format has no way to give a block back, so one that holds data is filled with zeros.
        """
        end = offset + length
        while offset < end:
            count = min(_BLOCK - offset % _BLOCK, end - offset)
            if any(self._client.read(offset, count)):
                self._client.zero(offset, count)
            offset += count

    def flush(self) -> None:
        """See :meth:`BlockImage.flush`."""
        with _reported(self._path, "cannot write to"):
            os.fsync(self._descriptor)


def _inside(offset: int, length: int, size: int) -> None:
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"{length} bytes at {offset} are outside a disk of {size} bytes")


def _punch(descriptor: int, offset: int, length: int) -> bool:
    """Make a hole; False where the filesystem knows none."""
    library = ctypes.CDLL(None, use_errno=True)
    library.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return not library.fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    with _reported(path, "cannot open"):
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _reported(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {display(str(path))}") from error
    except OSError as error:
        raise Failed(f"{what} {display(str(path))}: {error.strerror}") from error
