"""Filesystems that a program shows: the program dies, somebody is busy, a mount stops half way."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from silent import Silent

from portunix_vdisk.platform.base import AttachRequest, FileSystemType, ImageType, Owner
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux import drivers, facts, mounts, state
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.linux.processes import arguments_of, running
from portunix_vdisk.steps.allocate import Allocate
from portunix_vdisk.steps.format import Format
from portunix_vdisk.steps.partition import plan_partition
from portunix_vdisk.steps.step import Context

SIZE = 64 << 20
PLACE = plan_partition(SIZE, ImageType.QCOW2)


@pytest.fixture(params=[FileSystemType.NTFS, FileSystemType.FAT32])
def fs(request: pytest.FixtureRequest) -> FileSystemType:
    return FileSystemType(request.param)


@pytest.fixture
def image(platform: LinuxPlatform, tmp_path: Path, fs: FileSystemType) -> Iterator[Path]:
    """A QCOW2 with this filesystem, attached."""
    made, ctx = tmp_path / "disk.qcow2", Context(platform, Silent())
    Allocate(made, ImageType.QCOW2, SIZE).run(ctx)
    scratch = tmp_path / "scratch"
    Format(made, ImageType.QCOW2, PLACE, fs, "x", str(uuid.uuid4()), Owner(0, 0), scratch).run(ctx)
    platform.attach(AttachRequest(made, ImageType.QCOW2, PLACE, read_only=False))
    yield made
    platform.detach(made)


def program(device: str) -> int:
    """The process that shows this block device."""
    (found,) = (
        pid
        for pid in running()
        if (words := arguments_of(pid)) and words[0].endswith((b"ntfs-3g", b"fusefat")) and device.encode() in words
    )
    return found


def test_killed_it_is_told_and_repaired(
    platform: LinuxPlatform, image: Path, fs: FileSystemType, tmp_path: Path
) -> None:
    point = tmp_path / "point"
    held = platform.mount(image, fs, point)
    (point / "kept").write_bytes(b"x" * 100_000)
    (point / "kept").rename(point / "kept2")
    with (point / "kept2").open("rb") as file:
        os.fsync(file.fileno())
    os.kill(program(held.device), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not (found := platform.attachment(image)) or not found.problem:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "program that shows the filesystem has died" in found.problem
    lines = platform.repair(image, ImageType.QCOW2, PLACE, fs)
    assert any("died" in line for line in lines)
    assert platform.attachment(image) is None
    platform.attach(AttachRequest(image, ImageType.QCOW2, PLACE, read_only=False))
    platform.mount(image, fs, point)
    assert (point / "kept2").read_bytes() == b"x" * 100_000


def test_busy_is_refused_and_nothing_is_torn_away(
    platform: LinuxPlatform, image: Path, fs: FileSystemType, tmp_path: Path
) -> None:
    point = tmp_path / "point"
    platform.mount(image, fs, point)
    with (point / "open").open("wb") as file:
        for act in (platform.unmount, platform.detach):
            with pytest.raises(Refused, match="in use"):
                act(image)
        file.write(b"still works")
    assert (point / "open").read_bytes() == b"still works"


def test_what_a_killed_mount_left_in_the_private_folder_is_never_deleted(
    platform: LinuxPlatform, image: Path, fs: FileSystemType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the program shows the files, and they are not yet where they belong."""

    class Killed(BaseException):
        pass

    def kill(*words: object) -> None:
        raise Killed

    point = tmp_path / "point"
    platform.mount(image, fs, point)
    (point / "precious").write_bytes(b"p" * 5000)
    platform.unmount(image)
    with monkeypatch.context() as patched:
        patched.setattr(drivers.mounts, "mount", kill)
        patched.setattr(drivers, "leave", lambda private: None)
        patched.setattr(
            drivers, "_by_kernel", lambda commands, showing: (_ for _ in ()).throw(OSError(19, "no such device"))
        )
        with pytest.raises(Killed):
            platform.mount(image, fs, point)
    folder = state.ROOT / state.key_of(image.stat())
    private = state.private_mount(folder)
    assert any(entry.point == private for entry in mounts.mounted())
    with pytest.raises(Failed, match="still mounted"):
        state.remove(folder)
    platform.detach(image)
    assert facts.find(state.ROOT, image) is None
    platform.attach(AttachRequest(image, ImageType.QCOW2, PLACE, read_only=False))
    platform.mount(image, fs, point)
    assert (point / "precious").read_bytes() == b"p" * 5000
