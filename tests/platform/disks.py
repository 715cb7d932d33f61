"""The disk that the tests of the platform use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import MIB, FileSystemType, ImageType, Partition
from portunix_vdisk.platform.linux.machine import LinuxPlatform

SIZE = 64 * MIB
PARTITION = Partition(MIB, SIZE - 2 * MIB)


@dataclass(frozen=True, slots=True)
class Disk:
    """An image with a filesystem."""

    platform: LinuxPlatform
    image: Path
    type: ImageType

    def attach(self, *, read_only: bool = False) -> str:
        return self.platform.attach(self.image, self.type, PARTITION, read_only=read_only).device

    def mount(self, point: Path) -> None:
        self.platform.mount(self.image, FileSystemType.EXT4, point)

    def repair(self) -> list[str]:
        return self.platform.repair(self.image, self.type, PARTITION, FileSystemType.EXT4)
