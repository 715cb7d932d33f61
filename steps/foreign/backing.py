"""The files below a QCOW2 that only holds changes to another one: its backing files.

Whoever made the image chose their names, and may have chosen any file of this machine. So they are only looked for
where the person allows it, and told; each has to say of what kind the next one is, and nothing guesses.

Source of the format: QEMU's ``docs/interop/qcow2.txt``.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Corrupt, NotFound, Refused

_HEADER: Final = struct.Struct(">4sIQI")
# magic, version, offset and length of the name
_LENGTH_AT: Final = 100
_LENGTH_OF_2: Final = 72
_FORMAT: Final = 0xE2792ACA
_LONGEST_NAME, _LONGEST_CHAIN, _MOST_EXTENSIONS = 1023, 16, 64
_KINDS: Final = {b"qcow2": ImageType.QCOW2, b"raw": ImageType.IMG}


@dataclass(frozen=True, slots=True)
class Layer:
    """A file below an image, and what it is."""

    path: Path
    type: ImageType


def layers_below(image: Path) -> tuple[Layer, ...]:
    """The files that a QCOW2 needs besides itself, the next one first; only their headers are read.

    Raises ``Refused`` for names that are no files or files of an unknown kind, ``NotFound``, ``Corrupt``.
    """
    found: list[Layer] = []
    here = image
    while (below := _below(here)) is not None:
        if len(found) == _LONGEST_CHAIN or below.path in (image, *(layer.path for layer in found)):
            raise Corrupt(f"{image} stands on too many other files, or on itself", state="nothing was changed")
        if not below.path.is_file():
            raise NotFound(f"{here} needs {below.path}, which is not there", state="nothing was changed")
        found.append(below)
        if below.type is not ImageType.QCOW2:
            break
        here = below.path
    return tuple(found)


def _below(image: Path) -> Layer | None:
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        header = os.pread(descriptor, _LENGTH_AT + 4, 0)
        if len(header) < _LENGTH_OF_2 or header[:4] != b"QFI\xfb":
            raise Corrupt(f"{image} is no QCOW2 file, and another one says that it is", state="nothing was changed")
        _, version, offset, length = _HEADER.unpack_from(header)
        if not offset:
            return None
        if length > _LONGEST_NAME:
            raise Corrupt(f"the name of a backing file in {image} is too long", state="nothing was changed")
        name = os.pread(descriptor, length, offset)
        at = int.from_bytes(header[_LENGTH_AT:], "big") if version > 2 else _LENGTH_OF_2
        kind = _format(descriptor, at)
    finally:
        os.close(descriptor)
    # What QEMU takes for a protocol: a word and a colon before any slash.
    if not name or b"\0" in name or b":" in name.split(b"/")[0]:
        raise Refused(f"{image} needs {name!r}, which is not the name of a file", state="nothing was opened")
    if kind not in _KINDS:
        raise Refused(
            f"{image} needs {name!r}, and does not say of what kind that is"
            if not kind
            else f"{image} needs a {kind!r}",
            state="nothing was opened",
            hint="make it one file where it comes from: qemu-img convert -O qcow2 FILE NEW-FILE",
        )
    return Layer(Path(os.path.realpath(image.parent / os.fsdecode(name))), _KINDS[kind])


def _format(descriptor: int, at: int) -> bytes:
    """What the extensions of the header say of the backing file; empty if nothing."""
    for _ in range(_MOST_EXTENSIONS):
        head = os.pread(descriptor, 8, at)
        if len(head) < 8:
            break
        kind, length = struct.unpack(">II", head)
        if not kind:
            break
        if kind == _FORMAT:
            return os.pread(descriptor, min(length, 32), at + 8)
        at += 8 + -(-length // 8) * 8
    return b""
