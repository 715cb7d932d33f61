"""Snapshots of mounted disks: what they hold, what they cost writers, and what is left of them."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB, Snapshot
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.linux import freezer, state
from portunix_vdisk.platform.linux.storage_daemon import StorageDaemon
from portunix_vdisk.tests.platform.disks import PARTITION, Disk


def noise(length: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.fixture
def live(disk: Disk, tmp_path: Path) -> Iterator[Disk]:
    """A disk with a few files, mounted at ``mnt`` in such a way that a snapshot can be taken."""
    point = tmp_path / "mnt"
    disk.platform.attach(disk.image, disk.type, PARTITION, read_only=False, live=True)
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
    taken = live.platform.take_snapshot(live.image, tmp_path)
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
    live.platform.take_snapshot(live.image, tmp_path)
    assert nodes(live) > before
    (point / "old0").write_bytes(noise(700_000, 100))
    taken = live.platform.take_snapshot(live.image, tmp_path)
    (point / "old0").write_bytes(noise(700_000, 101))
    with mounted_copy(whole(live, taken, tmp_path / "copy"), tmp_path / "look") as look:
        assert (look / "old0").read_bytes() == noise(700_000, 100)
    live.platform.unmount(live.image)  # with the snapshot still there
    live.platform.detach(live.image)
    assert any("clean" in line for line in live.repair())
