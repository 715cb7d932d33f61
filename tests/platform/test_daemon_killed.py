"""The storage daemon is killed while programs write: what they synced is there afterwards, and nothing is damaged."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.linux.processes import start_time
from portunix_vdisk.tests.platform.disks import Disk

# Each file is synced, with its name, before its number is told; "held" is one that stays open.
WRITER = """
import hashlib, os, sys
from itertools import count
folder = sys.argv[1]
held = open(folder + "/held-" + sys.argv[2], "w")
for number in count(int(sys.argv[3])):
    name = f"{sys.argv[2]}-{number % 40}"
    data = hashlib.sha256(f"{name} {number}".encode()).digest() * (1 + number * 37 % 600)
    partial = f"{folder}/{name}.partial"
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(partial, f"{folder}/{name}")
    place = os.open(folder, os.O_RDONLY)
    os.fsync(place)
    os.close(place)
    print(name, number, flush=True)
"""


def start(point: Path, name: str, synced: dict[str, int]) -> subprocess.Popen[str]:
    """A writer that goes on with the numbers, and has begun."""
    last = max((number for each, number in synced.items() if each.startswith(name)), default=-1)
    words = [sys.executable, "-c", WRITER, str(point), name, str(last + 1)]
    writer = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    synced |= told(writer.stdout.readline())
    return writer


def told(output: str) -> dict[str, int]:
    """The last number that was synced under each name."""
    found: dict[str, int] = {}
    for line in output.splitlines():
        name, _, number = line.partition(" ")
        found[name] = int(number)
    return found


def check(point: Path, synced: dict[str, int]) -> None:
    """Each name holds what was synced last, or a later state that was on its way."""
    for name, number in synced.items():
        found = (point / name).read_bytes()
        states = (number, number + 40)
        whole = [hashlib.sha256(f"{name} {each}".encode()).digest() * (1 + each * 37 % 600) for each in states]
        assert found in whole, (name, number, len(found))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while start_time(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def rounds(disk: Disk, point: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    synced: dict[str, int] = {}
    for _ in range(times):
        disk.attach()
        disk.mount(point)
        check(point, synced)
        writers = [start(point, name, synced) for name in ("a", "b")]
        time.sleep(0.1 + chance.random() * 0.4)
        held = disk.platform.attachment(disk.image)
        assert held is not None and held.daemon_pid
        kill(held.daemon_pid)
        for writer in writers:
            output, words = writer.communicate(timeout=30)
            assert writer.returncode == 1, words
            assert "Input/output error" in words or "Read-only file system" in words
            synced |= told(output)
        held = disk.platform.attachment(disk.image)
        assert held is not None
        assert "has died" in held.problem and "input/output errors" in held.problem
        assert held.mount_point == point
        disk.repair()
        assert any("clean" in line for line in disk.repair())  # e2fsck has nothing more to say
        disk.platform.check_image(disk.image, disk.type)
    disk.attach()
    disk.mount(point)
    check(point, synced)
    disk.platform.detach(disk.image)


def disk_of(type: ImageType, originals: dict[ImageType, bytes], tmp_path: Path) -> Disk:
    image = tmp_path / f"disk.{type}"
    image.write_bytes(originals[type])
    return Disk(LinuxPlatform(), image, type)


@pytest.mark.parametrize("type", [ImageType.VHD, ImageType.QCOW2])
def test_what_was_synced_survives(type: ImageType, originals: dict[ImageType, bytes], tmp_path: Path) -> None:
    rounds(disk_of(type, originals, tmp_path), tmp_path / "here", 2, 1)


@pytest.mark.full
@pytest.mark.parametrize("type", [ImageType.VHD, ImageType.QCOW2, ImageType.VHDX])
def test_fifty_times(type: ImageType, originals: dict[ImageType, bytes], tmp_path: Path) -> None:
    rounds(disk_of(type, originals, tmp_path), tmp_path / "here", 50, 2)


def test_a_repair_waits_for_the_programs_that_still_have_files_open(vhd_disk: Disk, tmp_path: Path) -> None:
    point = tmp_path / "here"
    vhd_disk.attach()
    vhd_disk.mount(point)
    held = vhd_disk.platform.attachment(vhd_disk.image)
    assert held is not None and held.daemon_pid
    with (point / "open").open("w") as file:
        kill(held.daemon_pid)
        with pytest.raises(Refused, match=rf"in use by pid {os.getpid()} \(") as caught:
            vhd_disk.repair()
        assert "stop these programs" in caught.value.hint
        assert vhd_disk.platform.attachment(vhd_disk.image) is not None
        file.close()
    vhd_disk.repair()
    assert vhd_disk.platform.attachment(vhd_disk.image) is None
