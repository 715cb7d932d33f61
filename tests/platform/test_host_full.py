"""The host's disk fills up under an image that grows: writers get errors, and nothing of what was synced is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB, AttachRequest, FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.linux import loop
from portunix_vdisk.platform.linux.machine import LinuxPlatform

INSIDE = Partition(MIB, 398 * MIB)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A small filesystem for images, of which little is free."""
    image, point = tmp_path / "host.img", tmp_path / "host"
    with image.open("wb") as file:
        file.truncate(120 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    with (point / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 60 * MIB)
    yield point
    subprocess.run(["umount", point], check=True)
    deadline = time.monotonic() + 10
    while any(each.backing.startswith(str(image)) for each in loop.loops()):  # the kernel takes its time
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make(platform: LinuxPlatform, image: Path, type: ImageType, scratch: Path) -> None:
    platform.create_image(image, type, 400 * MIB)
    scratch.write_bytes(b"")
    os.truncate(scratch, INSIDE.length)
    uuid = "0b2f3d52-7d3c-4d19-8f0e-3c6f1a0d7c11"
    platform.make_filesystem(scratch, FileSystemType.EXT4, label="x", uuid=uuid, owner=Owner(0, 0))
    with platform.open_image(image, type, writable=True) as disk, scratch.open("rb") as file:
        for extent in platform.map_image(scratch, ImageType.IMG).extents:
            disk.write(INSIDE.start + extent.start, os.pread(file.fileno(), extent.length, extent.start))


def write(path: Path, data: bytes) -> None:
    """Synced when it returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def fill(point: Path) -> list[bytes]:
    """Write until it fails; what was synced before."""
    done: list[bytes] = []
    with suppress(OSError):
        while True:
            data = os.urandom(MIB)
            write(point / str(len(done)), data)
            done.append(data)
            assert len(done) < 110, "more went onto the disk than the host has room for"
    return done


USUAL = [ImageType.VHD, ImageType.QCOW2]
MORE = [pytest.param(type, marks=pytest.mark.full) for type in (ImageType.VHDX, ImageType.IMG)]


@pytest.mark.parametrize("type", [*USUAL, *MORE])
def test_what_was_synced_survives_a_full_host(
    platform: LinuxPlatform, host: Path, tmp_path: Path, type: ImageType
) -> None:
    image, point = host / f"disk.{type}", tmp_path / "here"
    make(platform, image, type, tmp_path / "scratch")
    platform.attach(AttachRequest(image, type, INSIDE, read_only=False))
    platform.mount(image, FileSystemType.EXT4, point)
    synced = fill(point)
    assert synced
    held = platform.attachment(image)
    assert held is not None and held.mount_point == point
    if held.problem:
        assert "read-only" in held.problem
        assert f"{host} has no room left" in held.problem
    for number, data in enumerate(synced):
        assert (point / str(number)).read_bytes() == data
    (host / "ballast").unlink()

    # With room again the filesystem goes on, or says that it needs a repair: its journal could not be written either.
    try:
        write(point / "after", b"room")
    except OSError as error:
        assert error.errno in (errno.EROFS, errno.EIO)
        held = platform.attachment(image)
        assert held is not None and "read-only" in held.problem
    with suppress(Failed):  # the last failure is told once
        platform.detach(image)
    platform.repair(image, type, INSIDE, FileSystemType.EXT4)
    platform.check_image(image, type)
    assert any("clean" in line for line in platform.repair(image, type, INSIDE, FileSystemType.EXT4))
    platform.attach(AttachRequest(image, type, INSIDE, read_only=False))
    platform.mount(image, FileSystemType.EXT4, point)
    for number, data in enumerate(synced):
        assert (point / str(number)).read_bytes() == data
    write(point / "works", os.urandom(20 * MIB))
    platform.detach(image)
