"""Making image files larger or smaller, see :class:`portunix_vdisk.platform.sizing.Sizing`; filesystems by root."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from portunix_vdisk.platform.base import Attachment, FileSystemType, ImageType
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux import filesystem_size, vhd_size, vhdx_size
from portunix_vdisk.platform.linux.containers import disk_size
from portunix_vdisk.platform.linux.image_locks import held
from portunix_vdisk.platform.linux.mounting import Mounting
from portunix_vdisk.platform.linux.raw_image import reported


class Verb(Protocol):
    """Runs a verb of the attach program."""

    def __call__(self, verb: str, image: Path, *options: str) -> dict[str, object]:
        """Its result."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Changes sizes; what needs root is done by ``root`` if we are that, else by the attach program."""

    commands: Commands
    root: Mounting
    attachment: Callable[[Path], Attachment | None]
    verb: Verb

    def size(self, path: Path, type: ImageType) -> int:
        """See :class:`Sizing`."""
        with reported(path, "cannot read"):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return disk_size(descriptor, type)
            finally:
                os.close(descriptor)

    def image(self, path: Path, type: ImageType, size: int) -> None:
        """See :class:`Sizing`."""
        if self.attachment(path) is not None:
            raise Refused(f"{display(str(path))} is attached", state="nothing was changed", hint="unmount the disk")
        with reported(path, "cannot change the size of"):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._image(descriptor, path, type, size)
            finally:
                os.close(descriptor)

    def _image(self, descriptor: int, path: Path, type: ImageType, size: int) -> None:
        if type is ImageType.QCOW2:
            words = ("-f", "qcow2", "--shrink", path.absolute(), str(size))
            self.commands.run("qemu-img", "resize", "-q", *words)
            os.fsync(descriptor)
            return
        with held(descriptor, writing=True):
            match type:
                case ImageType.VHD:
                    vhd_size.resize_dynamic(descriptor, path, size)
                case ImageType.VHD_FIXED:
                    vhd_size.resize_fixed(descriptor, size)
                case ImageType.VHDX:
                    vhdx_size.resize_vhdx(descriptor, path, size)
                case _:
                    os.ftruncate(descriptor, size)
                    os.fsync(descriptor)
        if disk_size(descriptor, type) != size:
            raise Failed(f"{display(str(path))} did not become a disk of {size} bytes")

    def smallest(self, image: Path, fs: FileSystemType) -> int:
        """See :class:`Sizing`."""
        image = image.absolute()
        if os.geteuid() == 0:
            return filesystem_size.smallest(self.root, image, fs)
        found = self.verb("smallest", image, f"--fs={fs}")["bytes"]
        return found if isinstance(found, int) else 0

    def filesystem(self, image: Path, fs: FileSystemType, size: int) -> None:
        """See :class:`Sizing`."""
        image = image.absolute()
        if os.geteuid() == 0:
            filesystem_size.resize(self.root, image, fs, size)
        else:
            self.verb("resize", image, f"--fs={fs}", f"--size={size}")
