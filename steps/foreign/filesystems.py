"""What lies in a partition, by its first bytes.

Sources: the description of the superblock or boot sector of each filesystem; for LUKS its "On-Disk Format".
"""

from __future__ import annotations

from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""``read(offset, length)``; gives less at the end."""

# offset in the volume, what is there, name
_MAGICS = (
    (0, b"LUKS\xba\xbe", "luks"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (82, b"FAT32   ", "fat32"),
    (54, b"FAT16   ", "fat16"),
    (54, b"FAT12   ", "fat12"),
    (0, b"XFSB", "xfs"),
    (1024 + 56, b"\x53\xef", "ext4"),
    (4086, b"SWAPSPACE2", "swap"),
    (0x10000 + 64, b"_BHRfS_M", "btrfs"),
)


def content_of(read: Read, start: int, length: int) -> str:
    """Name of what the ``length`` bytes at ``start`` hold; empty if nothing known."""
    for offset, magic, name in _MAGICS:
        if offset + len(magic) <= length and read(start + offset, len(magic)) == magic:
            return name
    return ""
