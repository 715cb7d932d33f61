"""What is left after a reboot or an unmount by hand is told, and the next command goes on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux import state
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.linux.processes import end, identify
from portunix_vdisk.tests.platform.disks import Disk

FORMATS = {ImageType.VHD: "vpc", ImageType.VHDX: "vhdx", ImageType.QCOW2: "qcow2", ImageType.VHD_FIXED: "vpc"}


def disk_of(type: ImageType, originals: dict[ImageType, bytes], tmp_path: Path) -> Disk:
    image = tmp_path / f"disk.{type}"
    image.write_bytes(originals[type])
    return Disk(LinuxPlatform(), image, type)


def test_notes_of_before_a_reboot(disk: Disk, tmp_path: Path) -> None:
    """The notes are there, and nothing of what they speak of: as if /run had outlived the machine."""
    disk.attach()
    disk.mount(tmp_path / "here")
    folder = state.ROOT / state.key_of(disk.image.stat())
    notes = (folder / "state.json").read_bytes()
    disk.platform.detach(disk.image)
    folder.mkdir(parents=True)
    (folder / "state.json").write_bytes(notes)
    found = disk.platform.attachment(disk.image)
    assert found is not None
    assert found.mount_point is None and found.problem
    disk.attach()
    disk.mount(tmp_path / "here")
    (tmp_path / "here/file").write_text("works")
    found = disk.platform.attachment(disk.image)
    assert found is not None and not found.problem
    disk.platform.detach(disk.image)
    assert not folder.exists()


def test_unmounted_by_hand(disk: Disk, tmp_path: Path) -> None:
    disk.attach()
    disk.mount(tmp_path / "here")
    subprocess.run(["umount", tmp_path / "here"], check=True)
    found = disk.platform.attachment(disk.image)
    assert found is not None and found.mount_point is None
    disk.mount(tmp_path / "here")
    disk.platform.detach(disk.image)
    assert any("clean" in line for line in disk.repair())


def test_the_notes_are_gone_and_the_mount_is_not(img_disk: Disk, tmp_path: Path) -> None:
    """Somebody emptied /run: another mount of the image is refused, since a loop device has it."""
    img_disk.attach()
    img_disk.mount(tmp_path / "here")
    folder = state.ROOT / state.key_of(img_disk.image.stat())
    kept = tmp_path / "kept"
    shutil.move(folder, kept)
    try:
        assert img_disk.platform.attachment(img_disk.image) is None
        with pytest.raises(Refused, match="already attached as /dev/loop"):
            img_disk.attach()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(kept, folder)
    img_disk.platform.detach(img_disk.image)


@pytest.mark.parametrize("type", list(FORMATS))
def test_what_qemu_holds_open_is_not_attached(
    type: ImageType, originals: dict[ImageType, bytes], tmp_path: Path
) -> None:
    disk = disk_of(type, originals, tmp_path)
    options = ["--export-name=", "-t", "-k", str(tmp_path / "socket"), "--fork", f"--pid-file={tmp_path / 'pid'}"]
    subprocess.run(["qemu-nbd", "-f", FORMATS[type], *options, "--", disk.image], check=True)
    server = identify(int((tmp_path / "pid").read_text()))
    assert server is not None
    try:
        for read_only in (False, True):
            with pytest.raises(Refused, match="in use by another program") as caught:
                disk.attach(read_only=read_only)
            assert caught.value.code == 4
    finally:
        assert end(server, 10)
    assert disk.platform.attachment(disk.image) is None
    disk.attach()  # and the other way round
    if type is not ImageType.VHD_FIXED:
        words = ["qemu-io", "-f", FORMATS[type], "-c", "read 0 512", disk.image]
        refused = subprocess.run(words, check=False, capture_output=True, text=True)
        assert refused.returncode and "lock" in refused.stderr
    disk.platform.detach(disk.image)
