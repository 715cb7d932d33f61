"""What cannot be attached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB, AttachRequest, Partition
from portunix_vdisk.platform.errors import Corrupt, NotFound, Refused
from portunix_vdisk.tests.platform.disks import PARTITION, Disk


@pytest.mark.parametrize(
    "partition",
    [
        Partition(MIB, 64 * MIB),
        Partition(-MIB, MIB),
        Partition(MIB, 0),
        Partition(MIB, -512),
        Partition(MIB + 1, MIB),
        Partition(1 << 60, MIB),
    ],
)
def test_partitions_outside_the_disk(disk: Disk, partition: Partition) -> None:
    with pytest.raises(Corrupt, match="does not lie on the disk"):
        disk.platform.attach(AttachRequest(disk.image, disk.type, partition, read_only=False))


def test_only_regular_files_are_attached(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(disk.image)
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "link", Refused),
        (tmp_path / "pipe", Refused),
        (tmp_path, Refused),
        (tmp_path / "none", NotFound),
        (Path("/dev/null"), Refused),
        (Path("/dev/loop-control"), Refused),
    ):
        with pytest.raises(kind):
            disk.platform.attach(AttachRequest(path, disk.type, PARTITION, read_only=False))
