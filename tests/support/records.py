"""What a catalog says about a disk that there needn't be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from portunix_vdisk.platform.base import FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.steps.disk import Disk, DiskState


def disk(number: int = 0, **changes: Any) -> Disk:
    """The record of a disk, the same for the same number but for what is changed."""
    made = Disk(
        name=f"disk-{number}",
        uuid=str(UUID(int=number)),
        path=Path(f"/disks/disk-{number}.vhd"),
        type=ImageType.VHD,
        size=20 << 30,
        file_system=FileSystemType.EXT4,
        state=DiskState.CREATING,
        created_at="2025-01-01T00:00:00+00:00",
        partition=Partition(1 << 20, (20 << 30) - (2 << 20)),
        owner=Owner(1000, 1000),
    )
    return replace(made, **changes)
