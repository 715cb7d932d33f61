"""Snapshots of mounted disks: what they hold, what they cost writers, and what is left of them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB, AttachRequest, ImageType, Snapshot
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux import freezer, state
from portunix_vdisk.platform.linux.fleecing import Fleecing
from portunix_vdisk.platform.linux.storage_daemon import StorageDaemon
from portunix_vdisk.platform.nbd import NbdClient
from portunix_vdisk.tests.platform.disks import PARTITION, Disk
from portunix_vdisk.tests.platform.restricted import OTHER, PLACE, USER, program
from portunix_vdisk.tests.platform.test_freezing import Writer
from portunix_vdisk.tests.support.chunks import noise


@pytest.fixture(params=[ImageType.VHD, pytest.param(ImageType.IMG, marks=pytest.mark.full)])
def live(request: pytest.FixtureRequest, vhd_disk: Disk, img_disk: Disk, tmp_path: Path) -> Iterator[Disk]:
    """A disk with a few files, mounted at ``mnt`` in such a way that a snapshot can be taken."""
    disk, point = img_disk if request.param is ImageType.IMG else vhd_disk, tmp_path / "mnt"
    disk.platform.attach(AttachRequest(disk.image, disk.type, PARTITION, read_only=False, live=True))
    disk.mount(point)
    for number in range(8):
        (point / f"old{number}").write_bytes(noise(700_000, number))
    yield disk
    disk.platform.detach(disk.image)


def whole(disk: Disk, taken: Snapshot, into: Path) -> Path:
    """The snapshot as a raw image."""
    with disk.platform.open_snapshot(taken) as reader, into.open("wb") as file:
        file.truncate(taken.size)
        for start, end in taken.extents:
            for at in range(start, end, MIB):
                buffer = bytearray(min(MIB, end - at))
                reader.read_into(at, memoryview(buffer))
                os.pwrite(file.fileno(), buffer, at)
    return into


@contextmanager
def mounted_copy(raw: Path, point: Path) -> Iterator[Path]:
    """Its files; the filesystem must be in order without any repair."""
    partition = raw.with_suffix(".partition")
    with raw.open("rb") as file, partition.open("wb") as out:
        file.seek(PARTITION.start)
        out.write(file.read(PARTITION.length))
    done = subprocess.run(["e2fsck", "-fn", partition], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    point.mkdir()
    subprocess.run(["mount", "-o", "ro,loop", partition, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


def nodes(disk: Disk) -> set[str]:
    folder = state.ROOT / state.key_of(disk.image.stat())
    with StorageDaemon(folder, Commands()).talk() as monitor:
        found = monitor.execute("query-named-block-nodes", {"flat": True})
    assert isinstance(found, list)
    return {str(node["node-name"]) for node in found}


def test_it_stays_while_the_disk_is_overwritten(live: Disk, tmp_path: Path) -> None:
    point = tmp_path / "mnt"
    before = nodes(live)
    taken = live.platform.take_snapshot(live.image, [tmp_path])
    assert taken.waited < freezer.LIMIT
    print(f"writers waited {taken.waited * 1000:.1f} ms")
    for number in range(0, 8, 2):
        (point / f"old{number}").write_bytes(noise(700_000, 100 + number))
    (point / "old1").unlink()
    (point / "new").write_bytes(noise(5_000_000, 50))
    subprocess.run(["sync", "-f", point], check=True)
    subprocess.run(["fstrim", point], check=False)
    with mounted_copy(whole(live, taken, tmp_path / "copy"), tmp_path / "look") as look:
        assert sorted(path.name for path in look.glob("[no]*")) == [f"old{number}" for number in range(8)]
        assert all((look / f"old{number}").read_bytes() == noise(700_000, number) for number in range(8))
    live.platform.drop_snapshot(live.image)
    live.platform.drop_snapshot(live.image)
    assert nodes(live) == before
    (point / "later").write_bytes(noise(1_000_000, 51))
    live.platform.unmount(live.image)
    live.platform.detach(live.image)
    assert any("clean" in line for line in live.repair())
    live.attach()
    live.mount(point)
    assert (point / "new").read_bytes() == noise(5_000_000, 50)
    assert (point / "old2").read_bytes() == noise(700_000, 102)


def test_one_of_a_killed_process_is_replaced(live: Disk, tmp_path: Path) -> None:
    point, before = tmp_path / "mnt", nodes(live)
    live.platform.take_snapshot(live.image, [tmp_path])
    assert nodes(live) > before
    (point / "old0").write_bytes(noise(700_000, 100))
    taken = live.platform.take_snapshot(live.image, [tmp_path])
    (point / "old0").write_bytes(noise(700_000, 101))
    with mounted_copy(whole(live, taken, tmp_path / "copy"), tmp_path / "look") as look:
        assert (look / "old0").read_bytes() == noise(700_000, 100)
    live.platform.unmount(live.image)  # with the snapshot still there
    live.platform.detach(live.image)
    assert any("clean" in line for line in live.repair())


def test_requests_that_stay_inside_a_cluster_never_see_what_came_later(live: Disk, tmp_path: Path) -> None:
    """And those that don't do in QEMU 7.2: if they no longer did, the rule could go."""
    size = 4 * MIB
    (tmp_path / "mnt/target").write_bytes(b"old!" * (size // 4))
    subprocess.run(["sync", "-f", tmp_path / "mnt"], check=True)
    taken = live.platform.take_snapshot(live.image, [tmp_path])
    before = whole(live, taken, tmp_path / "before").read_bytes()
    dice = random.Random(3)
    with (tmp_path / "mnt/target").open("r+b") as file:
        for _ in range(40):
            file.seek(dice.randrange(size // 4096) * 4096)
            file.write(b"NEW!" * (dice.choice([1024, 4096, 40960]) // 4))
    subprocess.run(["sync", "-f", tmp_path / "mnt"], check=True)
    wrong = 0
    with live.platform.open_snapshot(taken) as reader:
        for _ in range(300):
            length = dice.choice([512, 4096, 65536, 100_000, 700_000])
            at = dice.randrange((taken.size - length) // 512) * 512
            buffer = bytearray(length)
            reader.read_into(at, memoryview(buffer))
            assert buffer == before[at : at + length]
            wrong += live_client(reader).read(at, length - length % 512) != before[at : at + length - length % 512]
    print(f"{wrong} of 300 reads across clusters were wrong")
    if b"7.2." in subprocess.run(["qemu-storage-daemon", "--version"], capture_output=True, check=True).stdout:
        assert wrong


def live_client(reader: object) -> NbdClient:
    client = getattr(reader, "_client")  # noqa: B009 - private, and the protocol does not have it
    assert isinstance(client, NbdClient)
    return client


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A folder on a filesystem of 4 MB."""
    point = tmp_path / "tiny"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", point], check=True)
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)  # a failed test may have left a snapshot in it


def test_no_room_for_what_is_overwritten_breaks_the_snapshot_only(live: Disk, tmp_path: Path, tiny: Path) -> None:
    point = tmp_path / "mnt"
    taken = live.platform.take_snapshot(live.image, [tiny])
    with live.platform.open_snapshot(taken) as reader:
        buffer = bytearray(65536)
        reader.read_into(PARTITION.start, memoryview(buffer))
        for number in range(8):
            (point / f"old{number}").write_bytes(noise(700_000, 100 + number))
        (point / "new").write_bytes(noise(20_000_000, 50))
        subprocess.run(["sync", "-f", point], check=True)
        with pytest.raises(Failed):
            reader.read_into(PARTITION.start, memoryview(buffer))
        # Others need room, too: the image above all.
        assert os.statvfs(tiny).f_bavail * os.statvfs(tiny).f_frsize >= 2 * MIB
    live.platform.drop_snapshot(live.image)
    taken = live.platform.take_snapshot(live.image, [tmp_path])
    with mounted_copy(whole(live, taken, tmp_path / "copy"), tmp_path / "look") as look:
        assert (look / "new").read_bytes() == noise(20_000_000, 50)
        assert all((look / f"old{number}").read_bytes() == noise(700_000, 100 + number) for number in range(8))


KILLED = """
import os, signal, sys
from pathlib import Path
from portunix_vdisk.platform.linux import fleecing, freezing
from portunix_vdisk.platform.linux.machine import LinuxPlatform

place, name, when = {
    "frozen": (freezing.Freezer, "freeze", "after"),
    "filter": (fleecing.Fleecing, "begin", "after"),
    "half": (fleecing.Fleecing, "_write_through", "before"),
    "shown": (fleecing.Fleecing, "show", "after"),
}[sys.argv[1]]
original = getattr(place, name)

def crash(*arguments, **more):
    if when == "after":
        original(*arguments, **more)
    os.killpg(0, signal.SIGKILL)

def armed(*arguments, **more):
    setattr(place, name, crash)
    return prepare(*arguments, **more)

prepare = fleecing.Fleecing.prepare
fleecing.Fleecing.prepare = armed
LinuxPlatform().take_snapshot(Path(sys.argv[2]), [Path(sys.argv[3])])
"""


@pytest.mark.parametrize(
    "where", ["frozen", *(pytest.param(where, marks=pytest.mark.full) for where in ("half", "filter", "shown"))]
)
def test_killed_at_any_moment_writers_go_on_and_the_next_one_works(vhd_disk: Disk, tmp_path: Path, where: str) -> None:
    disk, point = vhd_disk, tmp_path / "mnt"
    disk.attach()
    disk.mount(point)
    before = nodes(disk)
    writer = Writer(point)
    try:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, where, disk.image, tmp_path], start_new_session=True, check=False
        )
        assert done.returncode == -signal.SIGKILL
        assert writer.moves()
        taken = disk.platform.take_snapshot(disk.image, [tmp_path])
        assert writer.moves()
    finally:
        writer.finish()
    print(f"killed {where}: a writer waited {writer.longest * 1000:.0f} ms at most")
    with mounted_copy(whole(disk, taken, tmp_path / "copy"), tmp_path / "look") as look:
        assert len(list(look.glob("w*"))) > 0
    disk.platform.drop_snapshot(disk.image)
    assert nodes(disk) == before
    disk.platform.detach(disk.image)


@pytest.mark.full
def test_one_that_took_too_long_is_none(vhd_disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vhd_disk.attach()
    vhd_disk.mount(tmp_path / "mnt")
    before, begin = nodes(vhd_disk), Fleecing.begin

    def slow(fleecing: Fleecing) -> None:
        begin(fleecing)
        time.sleep(freezer.LIMIT + 0.3)

    monkeypatch.setattr(Fleecing, "begin", slow)
    with pytest.raises(Failed, match="too busy"):
        vhd_disk.platform.take_snapshot(vhd_disk.image, [tmp_path])
    assert nodes(vhd_disk) == before
    (tmp_path / "mnt/goes on").write_text("yes")
    vhd_disk.platform.detach(vhd_disk.image)


def test_a_dead_daemon_is_told(vhd_disk: Disk, tmp_path: Path) -> None:
    vhd_disk.attach()
    vhd_disk.mount(tmp_path / "mnt")
    held = vhd_disk.platform.attachment(vhd_disk.image)
    assert held is not None and held.daemon_pid
    taken = vhd_disk.platform.take_snapshot(vhd_disk.image, [tmp_path])
    with vhd_disk.platform.open_snapshot(taken) as reader:
        os.kill(held.daemon_pid, signal.SIGKILL)
        with pytest.raises(Failed, match="gone"):
            for _ in range(50):
                reader.read_into(0, memoryview(bytearray(65536)))
    with pytest.raises(Refused, match="has died"):
        vhd_disk.platform.take_snapshot(vhd_disk.image, [tmp_path])
    vhd_disk.platform.drop_snapshot(vhd_disk.image)
    assert any("clean" in line or "repaired" in line for line in vhd_disk.repair())


def test_what_sudo_lets_an_ordinary_user_do(vhd_disk: Disk, folder: Path) -> None:
    image, point = Path(shutil.move(vhd_disk.image, folder / "theirs.vhd")), folder / "mnt"
    os.chown(image, USER, USER)
    image.chmod(0o600)
    snapshot = ("snapshot", f"--image={image}", f"--room={folder}")
    assert program(*snapshot).status == 4  # not attached
    assert program("attach", f"--image={image}", "--type=vhd", *PLACE).status == 0
    assert program(*snapshot).status == 4  # not mounted
    assert program("mount", f"--image={image}", "--fs=ext4", f"--mount-point={point}").status == 0
    try:
        assert program(*snapshot, user=OTHER).status == 4
        assert program("snapshot", f"--image={image}", "--room=/root").status == 4
        assert program("snapshot", f"--image={image}", "--room=relative").status == 2
        taken = program(*snapshot)
        assert (taken.status, taken.error) == (0, {})
        status = Path(str(taken.out["place"])).stat()
        assert (status.st_uid, status.st_mode & 0o777) == (USER, 0o600)
        assert program("drop-snapshot", f"--image={image}", user=OTHER).status == 4
        assert program("drop-snapshot", f"--image={image}").status == 0
        assert list(folder.iterdir()) in ([image, point], [point, image])
    finally:
        assert program("detach", f"--image={image}").status == 0
