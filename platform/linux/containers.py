"""What QEMU calls our types of images, and what their headers say."""

from __future__ import annotations

import os

from portunix_vdisk.platform import qcow2, vhd, vhdx
from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Corrupt

_DRIVERS = {ImageType.VHD: "vpc", ImageType.VHD_FIXED: "vpc", ImageType.VHDX: "vhdx", ImageType.QCOW2: "qcow2"}
GROWING = (ImageType.VHD, ImageType.VHDX)
"""Types whose files have no way to give a block back, so that their tables only ever grow."""


def driver_of(type: ImageType) -> str:
    """The driver of QEMU. Always said, never guessed: a guest could write the header of another format."""
    return _DRIVERS.get(type, "raw")


def disk_size(descriptor: int, type: ImageType) -> int:
    """Bytes of the guest-visible disk in an open image. Raises ``Corrupt``, ``Refused``, ``OSError``."""
    match type:
        case ImageType.VHD:
            return vhd.inspect(descriptor).size
        case ImageType.VHD_FIXED:
            layout = vhd.inspect(descriptor)
            if not layout.fixed:
                raise Corrupt("this VHD is no fixed one any more: its bytes are not those of the disk")
            return layout.size
        case ImageType.VHDX:
            return vhdx.inspect(descriptor).size
        case ImageType.QCOW2:
            return qcow2.inspect(descriptor).size
    return os.fstat(descriptor).st_size
