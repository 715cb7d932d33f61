"""What image types and filesystems can: the one table that everything asks, and that ``portunix vdisk formats`` prints.

Sizes are bytes. *Opens* means by what the system brings along, without this program and without QEMU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from portunix_vdisk.platform.base import MIB, FileSystemType, ImageType

GIB, TIB = 1 << 30, 1 << 40
_MARGIN = 2 * MIB
"""What the partition table takes: one MiB before the partition, up to one behind it."""
_HOST_FILE = 16 * TIB
"""The largest file of an ext4 host with blocks of 4 KiB. Filesystems are made in a sparse file of their size."""

LINUX_DATA = "0fc63daf-8483-4772-8e79-3d69d8477de4"
"""GPT partition type "Linux filesystem data"."""
BASIC_DATA = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
"""GPT partition type "Microsoft basic data": Windows and macOS mount such partitions by themselves."""


LUKS = "ca7d7ccb-63ed-4c53-861c-1742536059cc"
"""GPT partition type "LUKS partition". Windows would offer to format what it calls its own and cannot read."""
LUKS_HEADER = 2 * MIB
"""What stands before the content of an encrypted partition."""


class System(StrEnum):
    """Where a disk may be opened."""

    LINUX = "linux"
    WINDOWS = "windows"
    WSL2 = "wsl2"
    MACOS = "macos"


_EVERYWHERE = frozenset(System)


@dataclass(frozen=True, slots=True)
class TypeFacts:
    """What an image type can.

    ``grain``: it has room for so many bytes at once, or has not. ``trim``: free blocks go back to the host while it is
    mounted (all others: ``compact``). ``snapshots``: the format keeps states of the disk inside the file.
    ``compression``: it holds compressed data.
    """

    article: str
    largest: int
    grain: int
    opens: frozenset[System]
    trim: bool = False
    snapshots: bool = False
    compression: bool = False
    unencrypted: str = ""
    """Why such images are never encrypted; empty where they may be."""


@dataclass(frozen=True, slots=True)
class FileSystemFacts:
    """What a filesystem can.

    ``smallest`` and ``largest`` are of the filesystem itself. ``largest_file`` is None where no disk is large enough
    to matter. ``grows`` and ``shrinks``: there are programs here that do it, and that can be trusted. ``links`` and
    ``modes``: symbolic and hard links, owners and permissions survive here, on this host.
    ``cased``: it tells capitals from small letters. ``any_name``: names may hold what Windows forbids.
    ``partition_type``: see :data:`LINUX_DATA`. ``unencrypted``: why it is never made in an encrypted partition.
    ``rooted``: why it cannot be mounted without root; empty where it can.
    """

    smallest: int
    largest: int
    opens: frozenset[System]
    partition_type: str
    links: bool = True
    modes: bool = True
    cased: bool = True
    any_name: bool = True
    largest_file: int | None = None
    grows: bool = True
    shrinks: bool = True
    unencrypted: str = ""
    rooted: str = ""


_RAW = frozenset({System.LINUX, System.MACOS})
_VHD = frozenset({System.LINUX, System.WINDOWS, System.WSL2})
_HERE = frozenset({System.LINUX})

_KERNEL_ONLY = "only the kernel shows it"

TYPES: dict[ImageType, TypeFacts] = {
    # QEMU refuses 2040 GiB: the block table would not address it.
    ImageType.VHD: TypeFacts("a VHD", 2039 * GIB, 2 * MIB, _VHD),
    ImageType.VHD_FIXED: TypeFacts("a fixed VHD", 2039 * GIB, 4096, _VHD, trim=True),
    ImageType.VHDX: TypeFacts("a VHDX", 64 * TIB, MIB, _VHD),
    ImageType.QCOW2: TypeFacts("a QCOW2", 64 * TIB, 64 << 10, _HERE, trim=True, snapshots=True),
    ImageType.IMG: TypeFacts("an image of raw bytes", _HOST_FILE, 4096, _RAW, trim=True),
    ImageType.LOOP: TypeFacts("an image of a bare filesystem", _HOST_FILE, 4096, _HERE, trim=True),
    ImageType.DMG: TypeFacts(
        "a DMG",
        _HOST_FILE,
        4096,
        _RAW,
        trim=True,
        unencrypted="macOS opens no LUKS, and Apple's encrypted images are another format",
    ),
}

FILE_SYSTEMS: dict[FileSystemType, FileSystemFacts] = {
    FileSystemType.EXT4: FileSystemFacts(
        # Below this a journal makes no sense.
        14 * MIB,
        _HOST_FILE,
        frozenset({System.LINUX, System.WSL2}),
        LINUX_DATA,
    ),
    FileSystemType.NTFS: FileSystemFacts(
        14 * MIB,
        _HOST_FILE,
        frozenset({System.LINUX, System.WINDOWS}),
        BASIC_DATA,
        any_name=False,
        # And it knows no place in an image at which a partition begins.
        rooted="ntfs-3g has root's rights while it starts, and the kernel keeps such programs out of what yours show",
    ),
    FileSystemType.FAT32: FileSystemFacts(
        # At least 65,525 clusters, else it is FAT16; at most 2^32 sectors.
        38 * MIB,
        2 * TIB - 512,
        _EVERYWHERE,
        BASIC_DATA,
        links=False,
        modes=False,
        cased=False,
        any_name=False,
        largest_file=4 * GIB - 1,
        grows=False,
        shrinks=False,
    ),
    FileSystemType.EXFAT: FileSystemFacts(
        14 * MIB,
        _HOST_FILE,
        _EVERYWHERE - {System.WSL2},
        BASIC_DATA,
        links=False,
        modes=False,
        cased=False,
        any_name=False,
        grows=False,
        shrinks=False,
        rooted="exfat-fuse always asks for what fusermount grants to root alone",
    ),
    # What mkfs.xfs and mkfs.btrfs want at least.
    FileSystemType.XFS: FileSystemFacts(
        300 * MIB,
        _HOST_FILE,
        frozenset({System.LINUX, System.WSL2}),
        LINUX_DATA,
        shrinks=False,
        unencrypted="mkfs.xfs relies on zeros that it does not write, and nothing reads as zeros in there",
        rooted=_KERNEL_ONLY,
    ),
    FileSystemType.BTRFS: FileSystemFacts(
        114 * MIB, _HOST_FILE, frozenset({System.LINUX, System.WSL2}), LINUX_DATA, rooted=_KERNEL_ONLY
    ),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """An image type with a filesystem inside. ``smallest`` and ``largest`` are of the disk."""

    type: ImageType
    file_system: FileSystemType
    smallest: int
    largest: int
    opens: tuple[System, ...]
    trim: bool
    snapshots: bool
    compression: bool
    encryption: bool
    unencrypted: str = ""
    """Why such disks are never encrypted; empty where they may be."""
    refused: str = ""
    """Why there are no such disks; empty where there are."""


def cell(type: ImageType, file_system: FileSystemType, *, encrypted: bool = False) -> Cell:
    """What is known about this pair, in a partition that is encrypted or not."""
    image, inside = TYPES[type], FILE_SYSTEMS[file_system]
    around = _MARGIN if type.partitioned else 0
    both = image.opens & inside.opens
    unencrypted, refused = image.unencrypted or inside.unencrypted, ""
    if encrypted:
        around += LUKS_HEADER
        both &= {System.LINUX}
        refused = unencrypted
    return Cell(
        type=type,
        file_system=file_system,
        smallest=inside.smallest + around,
        largest=min(image.largest, (inside.largest + around) // MIB * MIB, _HOST_FILE),
        opens=tuple(system for system in System if system in both),
        trim=image.trim and file_system not in UNTRIMMED and not encrypted,
        snapshots=image.snapshots,
        compression=image.compression,
        encryption=not unencrypted,
        unencrypted=unencrypted,
        refused=refused,
    )


UNTRIMMED = frozenset({FileSystemType.FAT32, FileSystemType.EXFAT})
"""Filesystems whose drivers here may not know how to give free blocks back."""


def cells() -> Iterator[Cell]:
    """All pairs."""
    return (cell(type, file_system) for type in ImageType for file_system in FileSystemType)
