"""Changing the size of disks as steps see it: one narrow protocol, as :mod:`portunix_vdisk.platform.base`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from portunix_vdisk.platform.kinds import FileSystemType, ImageType


class Sizing(Protocol):
    """Makes images and filesystems larger or smaller, where they are.

    A filesystem is that of an attached disk which is not mounted. Every method raises ``Missing`` without the program
    or privilege that it needs, and ``ToolFailed``.
    """

    def size(self, path: Path, type: ImageType) -> int:
        """Bytes of the disk inside an image. Raises ``NotFound``, ``Corrupt``."""

    def image(self, path: Path, type: ImageType, size: int) -> None:
        """Make the disk inside an image that nobody uses one of ``size`` bytes, a multiple of 1 MiB.

        What is added reads as zeros; what is cut off is lost. Killed at any moment, the disk has the one size or the
        other, and a second run finishes. Raises ``Refused`` where somebody uses it, ``Corrupt``.
        """

    def smallest(self, image: Path, fs: FileSystemType) -> int:
        """Bytes below which the filesystem cannot shrink, as its own program estimates; it is checked before.

        Raises ``Corrupt`` for a damaged one, ``Refused`` for one that was not unmounted in order.
        """

    def filesystem(self, image: Path, fs: FileSystemType, size: int) -> None:
        """Make the filesystem at most ``size`` bytes large, and as large as it can be; it is checked before and after.

        Killed meanwhile, it may be damaged: whoever has no copy of it works on an overlay. Raises as :meth:`smallest`.
        """
