from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB, AttachRequest, FileSystemType, ImageType
from portunix_vdisk.platform.errors import Corrupt, Refused, VdiskError
from portunix_vdisk.platform.linux import loop, state
from portunix_vdisk.platform.linux.processes import end, identify
from portunix_vdisk.tests.platform.disks import PARTITION, Disk


@contextmanager
def mounted(disk: Disk, point: Path, *, read_only: bool = False) -> Iterator[Path]:
    disk.attach(read_only=read_only)
    disk.mount(point)
    try:
        yield point
    finally:
        disk.platform.unmount(disk.image)
        disk.platform.detach(disk.image)


def check_filesystem(disk: Disk) -> None:
    device = disk.attach(read_only=True)
    done = subprocess.run(["/usr/sbin/e2fsck", "-fn", device], capture_output=True, text=True, check=False)
    disk.platform.detach(disk.image)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_survive_detaching(disk: Disk, tmp_path: Path) -> None:
    point = tmp_path / "deep/mount\npoint \udcfe"
    dice = random.Random(2)
    contents = {f"file{n}": dice.randbytes(dice.randrange(300_000)) for n in range(30)}
    with mounted(disk, point):
        for name, data in contents.items():
            (point / name).write_bytes(data)
    assert not point.exists()
    disk.platform.check_image(disk.image, disk.type)
    with mounted(disk, point):
        assert {file.name: file.read_bytes() for file in point.iterdir() if file.is_file()} == contents
    check_filesystem(disk)


def test_each_verb_again_changes_nothing(disk: Disk, tmp_path: Path) -> None:
    platform = disk.platform
    point = tmp_path / "here"
    platform.unmount(disk.image)
    platform.detach(disk.image)
    assert platform.attachment(disk.image) is None
    first = platform.attach(AttachRequest(disk.image, disk.type, PARTITION, read_only=False))
    assert (first.image, first.mount_point, first.read_only, first.problem) == (disk.image, None, False, "")
    assert (first.daemon_pid is None) == disk.type.raw
    assert platform.attach(AttachRequest(disk.image, disk.type, PARTITION, read_only=False)) == first
    second = platform.mount(disk.image, FileSystemType.EXT4, point)
    assert (second.device, second.mount_point, second.mount_point_made) == (first.device, point, True)
    assert platform.mount(disk.image, FileSystemType.EXT4, point) == second == platform.attachment(disk.image)
    assert [each for each in platform.attachments() if each.image == disk.image] == [second]
    for _ in range(2):
        platform.unmount(disk.image)
        assert platform.attachment(disk.image) == first
    for _ in range(2):
        platform.detach(disk.image)
        assert platform.attachment(disk.image) is None


def test_detaching_unmounts(disk: Disk, tmp_path: Path) -> None:
    disk.attach()
    disk.mount(tmp_path / "here")
    disk.platform.detach(disk.image)
    assert not (tmp_path / "here").exists()


def test_mount_options_and_owner(disk: Disk, tmp_path: Path) -> None:
    with mounted(disk, tmp_path / "here") as point:
        options = subprocess.run(
            ["findmnt", "-no", "OPTIONS", point], capture_output=True, text=True, check=True
        ).stdout
        assert {"nosuid", "nodev"} <= set(options.strip().split(","))
        assert point.stat().st_uid == 0


def test_read_only(disk: Disk, tmp_path: Path) -> None:
    with mounted(disk, tmp_path / "here") as point:
        (point / "file").write_text("content")
    before = disk.image.read_bytes()
    with mounted(disk, tmp_path / "here", read_only=True) as point:
        found = disk.platform.attachment(disk.image)
        assert found is not None
        assert found.read_only
        assert (point / "file").read_text() == "content"
        with pytest.raises(OSError, match="Read-only"):
            (point / "other").write_text("")
        with pytest.raises(Refused, match="already attached read-only"):
            disk.attach()
    assert disk.image.read_bytes() == before


def test_read_only_with_an_unfinished_journal_says_so(img_disk: Disk, tmp_path: Path) -> None:
    img_disk.attach()
    img_disk.mount(tmp_path / "here")
    (tmp_path / "here/file").write_text("content")
    os.sync()
    copy = Disk(img_disk.platform, tmp_path / "copy.img", ImageType.IMG)
    copy.image.write_bytes(img_disk.image.read_bytes())  # as a crash would leave it
    img_disk.platform.detach(img_disk.image)
    copy.attach(read_only=True)
    with pytest.raises(Refused, match="not unmounted cleanly") as caught:
        copy.mount(tmp_path / "copy")
    assert "without --read-only" in caught.value.hint
    assert not (tmp_path / "copy").exists()
    copy.platform.detach(copy.image)
    assert copy.repair()
    check_filesystem(copy)


def test_a_busy_disk_stays(disk: Disk, tmp_path: Path) -> None:
    point = tmp_path / "here"
    disk.attach()
    disk.mount(point)
    with (point / "open").open("w") as file:
        for act in (disk.platform.unmount, disk.platform.detach, lambda _: disk.repair()):
            with pytest.raises(Refused, match=f"pid {os.getpid()}") as caught:
                act(disk.image)
            assert "stop these programs" in caught.value.hint
        file.write("still written")
    assert (point / "open").read_text() == "still written"
    disk.platform.detach(disk.image)


def test_a_busy_block_device_stays(disk: Disk) -> None:
    device = disk.attach()
    descriptor = os.open(device, os.O_RDONLY)
    release = loop.release
    try:
        loop.release = lambda name, patience=0.1: release(name, patience)  # type: ignore[assignment]
        with pytest.raises(Refused, match="still in use"):
            disk.platform.detach(disk.image)
        assert loop.look(Path(device).name) is not None
    finally:
        loop.release = release
        os.close(descriptor)
    disk.platform.detach(disk.image)


def test_mounted_in_two_places_is_refused(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    device = disk.attach()
    disk.mount(tmp_path / "here")
    subprocess.run(["mount", device, tmp_path / "other"], check=True)
    try:
        with pytest.raises(Refused, match="several places"):
            disk.platform.detach(disk.image)
    finally:
        subprocess.run(["umount", tmp_path / "other"], check=True)
    disk.platform.detach(disk.image)


def test_other_mount_points_are_refused(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="not attached"):
        disk.mount(tmp_path / "here")
    disk.attach()
    for point, kind, words in (
        (tmp_path / "full", Refused, "not empty"),
        (tmp_path / "file", Refused, "Not a directory"),
        (tmp_path / "file/below", Refused, "Not a directory"),
        (Path("/proc"), Refused, "already mounted"),
        (Path("/proc/nothing"), Refused, "cannot use"),
    ):
        with pytest.raises(kind, match=words):
            disk.mount(point)
    disk.mount(tmp_path / "here")
    with pytest.raises(Refused, match="already mounted at"):
        disk.mount(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    disk.platform.detach(disk.image)


def test_an_existing_mount_point_stays(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    with mounted(disk, tmp_path / "link"):
        found = disk.platform.attachment(disk.image)
        assert found is not None
        assert (found.mount_point, found.mount_point_made) == (tmp_path / "here", False)
        disk.mount(tmp_path / "link")
    assert (tmp_path / "here").is_dir()


def test_plain_umount_is_seen(disk: Disk, tmp_path: Path) -> None:
    disk.attach()
    disk.mount(tmp_path / "here")
    subprocess.run(["umount", tmp_path / "here"], check=True)
    found = disk.platform.attachment(disk.image)
    assert found is not None
    assert (found.mount_point, found.problem) == (None, "")
    disk.mount(tmp_path / "there")
    disk.platform.detach(disk.image)
    assert not (tmp_path / "here").exists()
    assert not (tmp_path / "there").exists()


def test_no_filesystem_on_it(disk: Disk, tmp_path: Path) -> None:
    with disk.platform.open_image(disk.image, disk.type, writable=True) as image:
        image.zero(PARTITION.start, 16 * MIB)
    disk.attach()
    with pytest.raises(Corrupt, match="damaged"):
        disk.mount(tmp_path / "here")
    assert not (tmp_path / "here").exists()
    disk.platform.detach(disk.image)


def test_an_attached_image_is_not_written_otherwise(disk: Disk) -> None:
    disk.attach()
    with pytest.raises(Refused, match="is attached"):
        disk.platform.open_image(disk.image, disk.type, writable=True)
    with pytest.raises(Refused, match="is attached"):
        disk.platform.create_image(disk.image, disk.type, MIB)
    disk.platform.detach(disk.image)


def test_another_program_writes_to_it(disk: Disk, tmp_path: Path) -> None:
    form = "vpc" if disk.type is ImageType.VHD else "raw"
    options = ["--export-name=", "-t", "-k", str(tmp_path / "socket"), "--fork", f"--pid-file={tmp_path / 'pid'}"]
    subprocess.run(["qemu-nbd", "-f", form, *options, "--", disk.image], check=True)
    server = identify(int((tmp_path / "pid").read_text()))
    assert server is not None
    try:
        for read_only in (False, True):
            with pytest.raises(Refused, match="in use by another program"):
                disk.attach(read_only=read_only)
    finally:
        assert end(server, 10)
    assert disk.platform.attachment(disk.image) is None


def test_somebody_elses_loop_device(img_disk: Disk) -> None:
    command = ["losetup", "--find", "--show", img_disk.image]
    device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        with pytest.raises(Refused, match=device):
            img_disk.attach()
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_ten_at_once_on_one_image(disk: Disk) -> None:
    devices: list[str | VdiskError] = []

    def attach() -> None:
        try:
            devices.append(disk.attach())
        except VdiskError as error:
            devices.append(error)

    threads = [threading.Thread(target=attach) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(devices) == 10
    assert len(set(devices)) == 1
    disk.platform.detach(disk.image)


def test_direct_io_is_never_used(disk: Disk) -> None:
    device = disk.attach()
    assert Path(f"/sys/block/{Path(device).name}/loop/dio").read_text().strip() == "0"
    disk.platform.detach(disk.image)


def test_the_state_is_readable_for_everybody_and_written_by_root(disk: Disk) -> None:
    disk.attach()
    folder = state.ROOT / state.key_of(disk.image.stat())
    assert (folder.stat().st_mode & 0o7777, folder.stat().st_uid) == (0o755, 0)
    assert (folder / "state.json").stat().st_mode & 0o7777 == 0o644
    disk.platform.detach(disk.image)


def test_not_everything_could_be_written(vhd_disk: Disk, tmp_path: Path) -> None:
    """The host's disk is full: told at unmount, once, and never swallowed."""
    small = tmp_path / "small"
    small.mkdir()
    size = vhd_disk.image.stat().st_size + (6 << 20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", small], check=True)
    try:
        disk = Disk(vhd_disk.platform, small / "disk.vhd", ImageType.VHD)
        disk.image.write_bytes(vhd_disk.image.read_bytes())
        disk.attach()
        disk.mount(tmp_path / "here")
        (tmp_path / "here/large").write_bytes(os.urandom(30 << 20))
        with pytest.raises(VdiskError, match="not everything could be written"):
            disk.platform.detach(disk.image)
        for _ in range(3):
            try:
                disk.platform.detach(disk.image)
                break
            except VdiskError:
                continue
        assert disk.platform.attachment(disk.image) is None
    finally:
        subprocess.run(["umount", small], check=True)
