"""Making the disk in a VHDX larger or smaller, where it is. QEMU cannot.

Killed between any two writes, the file says either the one or the other size, and doing it again finishes it.

Source of the format: see :mod:`portunix_vdisk.platform.vhdx`.
"""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

from portunix_vdisk.platform import vhdx
from portunix_vdisk.platform.base import MIB
from portunix_vdisk.platform.linux.raw_image import RawImage

_ENTRY = 8
_STATE = 7


def resize_vhdx(descriptor: int, path: Path, size: int) -> None:
    """Make the disk in an open VHDX, whose log was replayed, one of ``size`` bytes; what is added reads as zeros.

    Raises ``Corrupt``, ``OSError``.
    """
    layout = vhdx.inspect(descriptor)
    if size < layout.size:
        _forget(RawImage(descriptor, path, 1 << 62), descriptor, layout, size)
    before, after = (vhdx.entries_of(each) * _ENTRY for each in (layout, replace(layout, size=size)))
    if after > before:
        place, room = layout.table
        if after > room:
            place = _move_table(descriptor, place, before, after)
        # They may be of blocks that it had once.
        os.pwrite(descriptor, bytes(after - before), place + before)
        os.fsync(descriptor)
    os.pwrite(descriptor, struct.pack("<Q", size), vhdx.size_place(descriptor))
    os.fsync(descriptor)


def _forget(file: RawImage, descriptor: int, layout: vhdx.VhdxLayout, size: int) -> None:
    """What lies behind ``size`` shall read as zeros, should the disk grow again."""
    first, within = divmod(size, layout.block)
    for number in range(first, -(-layout.size // layout.block)):
        at = layout.table[0] + vhdx.entry_number(layout, number) * _ENTRY
        entry = int.from_bytes(os.pread(descriptor, _ENTRY, at), "little")
        place = (entry >> 20) * MIB
        if not place or not entry & _STATE:
            continue
        kept = within if number == first else 0
        if not kept:
            os.pwrite(descriptor, bytes(_ENTRY), at)
        file.zero(place + kept, layout.block - kept)
    os.fsync(descriptor)


def _move_table(descriptor: int, place: int, used: int, wanted: int) -> int:
    """Copy the block table to the end of the file, where there is room for it; where it is now."""
    room = -(-wanted // MIB) * MIB
    end = -(-os.fstat(descriptor).st_size // MIB) * MIB
    os.ftruncate(descriptor, end + room)
    os.pwrite(descriptor, os.pread(descriptor, used, place), end)
    os.fsync(descriptor)
    vhdx.point_to_table(descriptor, end, room)
    return end
