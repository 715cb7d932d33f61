"""Overlays: a disk that may be written to, while the image below stays as it is.

An overlay is a qcow2 file without a name of a backing file in it: what lies below is said each time. It is served over
NBD by a ``qemu-nbd`` with the rights of the person, so that nothing in either file is parsed by root; the attach
program shows what it offers as a block device. qemu-nbd ends with its only client.

Source of the format: QEMU's ``docs/interop/qcow2.txt``.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portunix_vdisk.platform.base import Extent, ImageType, OverlayMap
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import Corrupt, Failed, ToolFailed
from portunix_vdisk.platform.linux.block_server import same_rights
from portunix_vdisk.platform.linux.serving import started
from portunix_vdisk.platform.linux.storage_daemon import explained

_DRIVERS = {ImageType.VHD: "vpc", ImageType.IMG: "raw"}
_HEADER = struct.Struct(">4sI64xQ")
"""Magic, version; at byte 72 the incompatible features: bit 0 says that the file was not closed in order."""
_MAGIC = b"QFI\xfb"


def make_overlay(commands: Commands, overlay: Path, size: int) -> None:
    """Create an empty overlay; see :meth:`Platform.make_overlay`."""
    # Lazy reference counts bring the flag that tells whether the last writer got to its end.
    options = "lazy_refcounts=on,compat=1.1"
    try:
        commands.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, overlay.absolute(), str(size))
    except ToolFailed as error:
        raise _no_room(overlay, error) or error from error


@contextmanager
def served(commands: Commands, overlay: Path, image: Path, type: ImageType) -> Iterator[Path]:
    """Serve the disk of ``image`` with the changes of ``overlay`` to one client; gives the socket.

    Raises ``Refused`` where another program writes to the image, ``Corrupt``, ``Missing``.
    """
    disk = (
        f"driver=qcow2,file.driver=file,file.filename={_quoted(overlay)},"
        f"backing.driver={_DRIVERS[type]},backing.read-only=on,"
        f"backing.file.driver=file,backing.file.filename={_quoted(image)}"
    )
    # cache=unsafe: nothing of an overlay has to survive a power cut.
    words = ("--fork", "--cache=unsafe", "--discard=unmap", "--shared=1", "--image-opts", disk, "--socket")
    try:
        with started(commands, ("setpriv", *same_rights(), commands.need("qemu-nbd"), *words)) as socket:
            yield socket
    except ToolFailed as error:
        raise explained(error) from error


def map_overlay(commands: Commands, overlay: Path) -> OverlayMap:
    """What an overlay holds; see :meth:`Platform.map_overlay`. Raises ``Failed``, ``Corrupt``."""
    with overlay.open("rb") as file:
        header = file.read(_HEADER.size)
        length = os.fstat(file.fileno()).st_size
    if len(header) < _HEADER.size or header[:4] != _MAGIC or _HEADER.unpack(header)[2]:
        raise Failed(
            f"the overlay {display(str(overlay))} was not closed in order",
            state="the disk was not changed",
            hint="run the same command again",
        )
    output = commands.run("qemu-img", "map", "--output=json", "-f", "qcow2", overlay.absolute())
    return parse_overlay_map(output.stdout, length)


def parse_overlay_map(text: bytes, length: int) -> OverlayMap:
    """The output of ``qemu-img map --output=json`` for an overlay of ``length`` bytes. Raises ``Corrupt``."""
    end = 0
    decided: list[tuple[int, int]] = []
    extents: list[Extent] = []
    try:
        for entry in json.loads(text):
            start, count = entry["start"], entry["length"]
            if start != end or count <= 0:
                raise ValueError(f"unexpected entry {entry}")
            end = start + count
            if not entry["present"]:
                continue
            if decided and decided[-1][1] == start:
                decided[-1] = decided[-1][0], end
            else:
                decided.append((start, end))
            if entry["zero"]:
                continue
            if not 0 <= entry["offset"] <= length - count:
                raise ValueError(f"data outside the file: {entry}")
            extents.append(Extent(start, count, entry["offset"]))
    except (ValueError, LookupError, TypeError) as error:
        raise Corrupt(f"the map of the overlay makes no sense: {error}") from error
    return OverlayMap(end, tuple(decided), tuple(extents))


def _quoted(path: Path) -> str:
    """A file name as a value in QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


def _no_room(overlay: Path, error: ToolFailed) -> Failed | None:
    if "No space left" not in error.output:
        return None
    return Failed(f"no space left for the overlay {display(str(overlay))}", state="the disk was not changed")
