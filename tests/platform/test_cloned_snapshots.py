"""Snapshots of disks on plain loop devices: where the host's filesystem lets files share blocks, and elsewhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux import freezer
from portunix_vdisk.platform.linux.cloning import clone_of
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.tests.platform.disks import Disk
from portunix_vdisk.tests.platform.test_snapshots import mounted_copy, noise, whole

MAKE = {"btrfs": ("mkfs.btrfs", "-q"), "xfs": ("mkfs.xfs", "-q"), "xfs without": ("mkfs.xfs", "-q", "-m", "reflink=0")}


@contextmanager
def host(folder: Path, kind: str) -> Iterator[Path | None]:
    """A folder on a filesystem of this kind; None where the kernel doesn't know it."""
    image, point = folder / "host", folder / "host mounted"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([*MAKE[kind], image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, point], capture_output=True, text=True, check=False)
    if done.returncode:
        assert kind.split()[0] not in Path("/proc/filesystems").read_text(), done.stderr
        yield None
        return
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


def attached(platform: LinuxPlatform, original: bytes, folder: Path, point: Path) -> Disk:
    disk = Disk(platform, folder / "disk.img", ImageType.IMG)
    disk.image.write_bytes(original)
    disk.attach()
    disk.mount(point)
    return disk


def refused(disk: Disk, folder: Path) -> None:
    with pytest.raises(Refused) as caught:
        disk.platform.take_snapshot(disk.image, [folder])
    assert "mount --live" in caught.value.hint
    assert not clone_of(disk.image).exists()


@pytest.mark.parametrize("kind", ["btrfs", pytest.param("xfs", marks=pytest.mark.full)])
def test_it_stays_while_the_disk_is_overwritten(
    platform: LinuxPlatform, originals: dict[ImageType, bytes], tmp_path: Path, kind: str
) -> None:
    point = tmp_path / "mnt"
    with host(tmp_path, kind) as folder:
        if folder is None:
            disk = attached(platform, originals[ImageType.IMG], tmp_path, point)
            refused(disk, tmp_path)
            platform.detach(disk.image)
            return
        disk = attached(platform, originals[ImageType.IMG], folder, point)
        try:
            for number in range(8):
                (point / f"old{number}").write_bytes(noise(700_000, number))
            taken = platform.take_snapshot(disk.image, [tmp_path])
            assert not taken.served and 0 < taken.waited < freezer.LIMIT
            print(f"{kind}: writers waited {taken.waited * 1000:.1f} ms")
            for number in range(8):
                (point / f"old{number}").write_bytes(noise(700_000, 100 + number))
            subprocess.run(["sync", "-f", point], check=True)
            with mounted_copy(whole(disk, taken, tmp_path / "copy"), tmp_path / "look") as look:
                assert all((look / f"old{number}").read_bytes() == noise(700_000, number) for number in range(8))
            assert [path.name for path in folder.iterdir()] == ["disk.img"]
            platform.take_snapshot(disk.image, [tmp_path])
            platform.take_snapshot(disk.image, [tmp_path])  # what a killed process left is replaced,
        finally:
            platform.detach(disk.image)
        assert [path.name for path in folder.iterdir()] == ["disk.img"]  # and goes with the attachment
        assert any("clean" in line for line in disk.repair())


def test_elsewhere_the_way_out_is_named(img_disk: Disk, tmp_path: Path) -> None:
    img_disk.attach()
    img_disk.mount(tmp_path / "mnt")
    refused(img_disk, tmp_path)
    img_disk.platform.detach(img_disk.image)


@pytest.mark.full
def test_on_an_xfs_that_was_made_without_it(
    platform: LinuxPlatform, originals: dict[ImageType, bytes], tmp_path: Path
) -> None:
    with host(tmp_path, "xfs without") as folder:
        disk = attached(platform, originals[ImageType.IMG], folder or tmp_path, tmp_path / "mnt")
        try:
            refused(disk, tmp_path)
        finally:
            platform.detach(disk.image)
