"""Every image type with every filesystem, plain and encrypted: made, mounted, filled, mounted again, checked."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import uuid
from pathlib import Path

import pytest
from silent import Silent

from portunix_vdisk.platform.base import MIB, AttachRequest, FileSystemType, ImageType, Owner
from portunix_vdisk.platform.formats import FILE_SYSTEMS, LUKS, Cell, cells
from portunix_vdisk.platform.linux import mounts
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.allocate import Allocate
from portunix_vdisk.steps.attaching import RepairAttachment
from portunix_vdisk.steps.encrypt import EncryptPartition
from portunix_vdisk.steps.format import Format
from portunix_vdisk.steps.gpt import parse_gpt
from portunix_vdisk.steps.partition import PartitionImage, plan_partition
from portunix_vdisk.steps.step import Context

SECRET = b"correct horse battery"
UUID = "12345678-1234-4234-9234-123456789abc"
OFTEN = {
    (ImageType.VHDX, FileSystemType.NTFS, False),
    (ImageType.QCOW2, FileSystemType.EXFAT, False),
    (ImageType.LOOP, FileSystemType.FAT32, False),
    (ImageType.VHD_FIXED, FileSystemType.EXT4, False),
    (ImageType.DMG, FileSystemType.EXFAT, False),
    (ImageType.QCOW2, FileSystemType.NTFS, True),
}
"""What is tried in every run."""
CHECKERS: dict[FileSystemType, tuple[str, ...]] = {
    FileSystemType.EXT4: ("e2fsck", "-fn"),
    FileSystemType.NTFS: ("ntfsfix", "-n"),
    FileSystemType.FAT32: ("fsck.vfat", "-n"),
    FileSystemType.EXFAT: ("fsck.exfat", "-n"),
    FileSystemType.XFS: ("xfs_repair", "-n"),
    FileSystemType.BTRFS: ("btrfs", "check", "--readonly"),
}


def _cases() -> list[object]:
    found = []
    for each in cells():
        for encrypted in (False, True) if each.encryption else (False,):
            often = (each.type, each.file_system, encrypted) in OFTEN
            name = f"{each.type}-{each.file_system}{'-encrypted' if encrypted else ''}"
            found.append(pytest.param(each, encrypted, id=name, marks=() if often else pytest.mark.full))
    return found


def digests(top: Path) -> dict[str, str]:
    """What is below a folder."""
    return {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }


def fill(top: Path, *, links: bool) -> None:
    """Files of odd sizes, deep folders, one that goes again, one that is overwritten in its middle."""
    dice = random.Random(7)
    (top / "deep/er/still").mkdir(parents=True)
    for number in range(25):
        (top / ("deep/er" if number % 2 else ".") / f"a file {number}.bin").write_bytes(dice.randbytes(number * 3001))
    (top / "deep/er/still/large.bin").write_bytes(dice.randbytes(5 * MIB))
    with (top / "deep/er/still/large.bin").open("r+b") as file:
        file.seek(2 * MIB + 17)
        file.write(dice.randbytes(70_000))
    (top / "gone").write_bytes(dice.randbytes(MIB))
    (top / "gone").unlink()
    (top / "old name").write_bytes(b"renamed")
    (top / "old name").rename(top / "deep" / "new name")
    if links:
        (top / "link").symlink_to("deep/new name")
        os.link(top / "deep/new name", top / "other name")
        (top / "run.sh").write_bytes(b"#!/bin/sh\n")
        (top / "run.sh").chmod(0o750)


@pytest.mark.parametrize(("cell", "encrypted"), _cases())
def test_made_filled_and_mounted_again(platform: LinuxPlatform, tmp_path: Path, cell: Cell, encrypted: bool) -> None:
    type, fs = cell.type, cell.file_system
    size = max(64 * MIB, -(-cell.smallest // MIB) * MIB + 16 * MIB)
    image, point, scratch = tmp_path / f"disk.{type.extension}", tmp_path / "point", tmp_path / "scratch"
    place, secret = plan_partition(size, type), SECRET if encrypted else b""
    ctx = Context(platform, Silent())
    Allocate(image, type, size).run(ctx)
    PartitionImage(image, type, size, fs, UUID, "matrix", encrypted=encrypted).run(ctx)
    if encrypted:
        EncryptPartition(image, type, place, scratch, secret).run(ctx)
    Format(image, type, place, fs, "matrix", str(uuid.uuid4()), Owner(0, 0), scratch, secret).run(ctx)
    platform.check_image(image, type)
    if type.partitioned:
        with platform.open_image(image, type, writable=False) as disk:
            (entry,) = parse_gpt(disk.read, disk.size)
        assert (entry.partition, entry.type_guid) == (place, LUKS if encrypted else FILE_SYSTEMS[fs].partition_type)

    platform.attach(AttachRequest(image, type, place, read_only=False, secret=secret))
    platform.mount(image, fs, point)
    fill(point, links=FILE_SYSTEMS[fs].links)
    expected = digests(point)
    platform.unmount(image)
    assert not point.exists()
    platform.detach(image)
    platform.check_image(image, type)

    held = platform.attach(AttachRequest(image, type, place, read_only=True, secret=secret))
    done = subprocess.run([*CHECKERS[fs], held.device], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    platform.mount(image, fs, point)
    assert digests(point) == expected
    assert len(expected) >= 27
    with pytest.raises(OSError):
        (point / "written").write_bytes(b"x")
    if FILE_SYSTEMS[fs].links:
        assert (point / "link").readlink() == Path("deep/new name")
        assert (point / "other name").stat().st_nlink == 2
        assert (point / "run.sh").stat().st_mode & 0o7777 == 0o750
    platform.detach(image)
    if not encrypted:
        RepairAttachment(image, type, place, fs).run(ctx)
    assert not any(str(entry.point).startswith(str(tmp_path)) for entry in mounts.mounted())
