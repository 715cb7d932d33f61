"""The types of images and filesystems that there are. What they can: :mod:`portunix_vdisk.platform.formats`."""

from __future__ import annotations

from enum import StrEnum


class ImageType(StrEnum):
    """Container format of an image file; what each can is in :mod:`portunix_vdisk.platform.formats`."""

    VHD = "vhd"
    """Dynamic VHD (Microsoft "Virtual Hard Disk Image Format Specification" 1.0)."""
    VHD_FIXED = "vhd-fixed"
    """Fixed VHD: raw bytes, and a footer of 512 bytes behind them."""
    VHDX = "vhdx"
    """Dynamic VHDX (Microsoft [MS-VHDX])."""
    QCOW2 = "qcow2"
    """QEMU's format, version 3."""
    IMG = "img"
    """Raw bytes with a partition table."""
    LOOP = "loop"
    """Raw bytes of a bare filesystem, without a partition table."""
    DMG = "dmg"
    """Apple's UDRW: raw bytes with a partition table."""

    @property
    def extension(self) -> str:
        """What the names of such files end in, without the point."""
        return "vhd" if self is ImageType.VHD_FIXED else self.value

    @property
    def raw(self) -> bool:
        """Whether offsets on the disk are offsets in the file."""
        return self in (ImageType.IMG, ImageType.LOOP, ImageType.DMG, ImageType.VHD_FIXED)

    @property
    def partitioned(self) -> bool:
        """Whether there is a partition table."""
        return self is not ImageType.LOOP


class ForeignType(StrEnum):
    """Kinds of images that we read and never write."""

    VMDK = "vmdk"
    """VMware's, in one file."""
    VDI = "vdi"
    """VirtualBox'."""
    LAYERED = "layered"
    """A QCOW2 that only holds changes to other files."""
    UDIF = "udif"
    """Apple's, compressed or not, with a trailer."""


class FileSystemType(StrEnum):
    """Filesystem inside the partition."""

    EXT4 = "ext4"
    NTFS = "ntfs"
    FAT32 = "fat32"
    EXFAT = "exfat"
    XFS = "xfs"
    BTRFS = "btrfs"
