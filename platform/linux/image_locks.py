"""QEMU's locks on image files, as seen by somebody who is not QEMU.

Source: ``block/file-posix.c`` of QEMU: a byte range per permission, held with open-file-description locks; byte
100 + n says "I use permission n", byte 200 + n "nobody else may use it". Writing is permission 1.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from portunix_vdisk.platform.errors import Refused

_WRITES, _FORBIDS_WRITING = 101, 201
_FLOCK = struct.Struct("@hhqqi4x")


def refuse_if_open_elsewhere(descriptor: int, *, writing: bool) -> None:
    """Raise ``Refused`` if a virtual machine or a QEMU tool uses this open image in a way that ours would disturb."""
    for byte in (_WRITES, _FORBIDS_WRITING) if writing else (_WRITES,):
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        if _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK:
            raise Refused(
                "the image file is in use by another program (a virtual machine, qemu-img, or a mount without root)",
                state="nothing was changed",
                hint="stop that program, then run the same command again",
            )


def hold(descriptor: int, *, writing: bool) -> None:
    """Use an open image as QEMU would, as long as it is open here or in a process that inherits it."""
    for byte in _mine(writing=writing):
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))


def _mine(*, writing: bool) -> tuple[int, ...]:
    return (_WRITES, _FORBIDS_WRITING) if writing else (_FORBIDS_WRITING,)


@contextmanager
def held(descriptor: int, *, writing: bool) -> Iterator[None]:
    """Use an open image as QEMU would, so that nobody of its kind disturbs us either. Raises ``Refused``."""
    try:
        hold(descriptor, writing=writing)
        refuse_if_open_elsewhere(descriptor, writing=writing)
        yield
    finally:
        for byte in _mine(writing=writing):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))
