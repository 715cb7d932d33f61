"""Whose disk an image is that came without a catalog: its top folder tells, where the filesystem keeps owners.

Source: Linux, Documentation/filesystems/ext4/inodes.rst (i_uid, i_gid, l_i_uid_high, l_i_gid_high).
"""

from __future__ import annotations

import struct

from portunix_vdisk.platform.base import Owner
from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.ext4_shape import read_shape
from portunix_vdisk.steps.foreign.filesystems import Read

_TOP = 2
"""The inode of the top folder; the first is 1."""


def owner_in(read: Read, start: int, length: int) -> Owner | None:
    """Who owns the top folder of the ext4 filesystem at ``start``; None if that is root, or cannot be told."""

    def inside(offset: int, size: int) -> bytearray:
        return bytearray(read(start + offset, size))

    try:
        shape = read_shape(inside, length)
        raw = inside(shape.tables[0][0] * shape.block_size + (_TOP - 1) * shape.inode_size, 128)
        uid, gid = struct.unpack_from("<2xH20xH", raw)
        high_uid, high_gid = struct.unpack_from("<HH", raw, 120)
    except (Doubt, struct.error):
        return None
    return Owner(uid | high_uid << 16, gid | high_gid << 16) if uid | high_uid else None
