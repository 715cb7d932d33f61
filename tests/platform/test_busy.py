"""A disk that cannot be unmounted says who uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB, AttachRequest, FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux import loop, mounts
from portunix_vdisk.platform.linux.fleece_file import fleece_file
from portunix_vdisk.platform.linux.freezing import freezable
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.linux.mount_point import Caller
from portunix_vdisk.platform.linux.mounting import Mounting

WHOLE = Partition(0, 128 * MIB)

USER = """
import mmap, os, sys
point, how = sys.argv[1:]
match how:
    case "folder":
        os.chdir(point)
    case "root":
        os.chroot(point)
    case "file":
        held = open(point + "/file")
    case "map":
        with open(point + "/file") as file:
            held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print("uses it", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", params=[FileSystemType.EXT4, FileSystemType.BTRFS])
def empty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[FileSystemType, Path]:
    """Btrfs has other device numbers for its files than for its mount."""
    image = tmp_path_factory.mktemp("empty") / "disk.img"
    with image.open("wb") as file:
        file.truncate(WHOLE.length)
    uuid = "0b2f3d52-7d3c-4d19-8f0e-3c6f1a0d7c11"
    LinuxPlatform().make_filesystem(image, request.param, label="x", uuid=uuid, owner=Owner(0, 0))
    return request.param, image


@pytest.fixture
def point(empty: tuple[FileSystemType, Path], platform: LinuxPlatform, tmp_path: Path) -> Iterator[Path]:
    """Mounted."""
    fs, original = empty
    image = tmp_path / "disk.img"
    subprocess.run(["cp", "--sparse=always", original, image], check=True)
    platform.attach(AttachRequest(image, ImageType.IMG, WHOLE, read_only=False))
    platform.mount(image, fs, tmp_path / "here")
    (tmp_path / "here/file").write_text("content")
    yield tmp_path / "here"
    platform.detach(image)


def refusal(platform: LinuxPlatform, point: Path) -> str:
    with pytest.raises(Refused) as caught:
        platform.unmount(point.parent / "disk.img")
    assert "stays mounted" in caught.value.state
    return caught.value.what


@pytest.mark.parametrize("how", ["folder", "root", "file", "map"])
def test_a_process_is_named(platform: LinuxPlatform, point: Path, how: str) -> None:
    words = [sys.executable, "-c", USER, str(point), how]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"uses it\n"
        name = Path(f"/proc/{user.pid}/comm").read_text().strip()
        assert f"in use by pid {user.pid} ({name})" in refusal(platform, point)
        user.communicate()


def test_other_mounts_and_devices_are_named(platform: LinuxPlatform, point: Path) -> None:
    with ExitStack() as undo:
        (point / "below").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", point / "below"], check=True)
        undo.callback(subprocess.run, ["umount", point / "below"], check=True)
        assert f"what is mounted at {point}/below" in refusal(platform, point)
    with ExitStack() as undo:
        (point / "inner").write_bytes(bytes(MIB))
        descriptor = os.open(point / "inner", os.O_RDWR)
        bound = loop.bind(descriptor, 0, MIB, read_only=False)
        undo.callback(loop.release, bound.name)
        os.close(descriptor)
        assert f"{bound.device} on {point}/inner" in refusal(platform, point)


def test_the_filesystem_is_known_by_the_number_of_its_mount(point: Path) -> None:
    entry = next(each for each in mounts.mounted() if each.point == point)
    (point.parent / "state").mkdir()
    with freezable(Commands(), point.parent / "state", point, entry.device) as filesystem:
        filesystem.freeze()
        filesystem.thaw()
    below = entry.device
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    try:
        with pytest.raises(Refused, match="mounted over"), freezable(Commands(), point.parent, point, below):
            pass
    finally:
        subprocess.run(["umount", point], check=True)


def test_what_is_overwritten_is_not_kept_on_the_disk_itself(point: Path) -> None:
    entry = next(each for each in mounts.mounted() if each.point == point)
    mounting = Mounting(Caller(Owner(0, 0), restricted=False), Commands())
    with (
        pytest.raises(Refused, match="lies on the disk itself"),
        fleece_file(mounting, [point], WHOLE.length, entry.device),
    ):
        pass
