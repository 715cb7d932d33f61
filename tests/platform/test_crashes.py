"""Killed at each point of attaching and detaching, daemons killed, images exchanged: seen, told, and healed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kinds import USUAL

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Corrupt, Refused, VdiskError
from portunix_vdisk.platform.linux import loop, state
from portunix_vdisk.platform.linux.processes import start_time
from portunix_vdisk.tests.platform.disks import PARTITION, Disk

CRASH = """
import os, signal, sys
from pathlib import Path
from portunix_vdisk.platform.base import AttachRequest, FileSystemType, ImageType, Partition
from portunix_vdisk.platform.linux import attaching, loop, mount_point, mounting, mounts, state, storage_daemon
from portunix_vdisk.platform.linux.machine import LinuxPlatform

where, after, times = sys.argv[4], sys.argv[5] == "after", int(sys.argv[6])
place, name = eval(where.rpartition(".")[0]), where.rpartition(".")[2]
original = getattr(place, name)

def crash(*arguments, **more):
    global times
    times -= 1
    if not times and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **more)
    if not times:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(place, name, crash)
image, type, point = Path(os.fsdecode(os.fsencode(sys.argv[1]))), ImageType(sys.argv[2]), Path(sys.argv[3])
platform = LinuxPlatform()
platform.attach(AttachRequest(image, type, Partition(*map(int, sys.argv[7:9])), read_only=False))
platform.mount(image, FileSystemType.EXT4, point)
(point / "file").write_text("content")
platform.detach(image)
"""

POINTS = [
    ("state.write", "before", 1),
    ("state.write", "after", 1),
    ("storage_daemon.StorageDaemon.start", "before", 1),
    ("storage_daemon.StorageDaemon.start", "after", 1),
    ("state.write", "after", 2),
    ("loop.bind", "before", 1),
    ("loop.bind", "after", 1),
    ("state.write", "after", 3),
    ("mounts.mount", "before", 1),
    ("mounts.mount", "after", 1),
    ("mounts.sync", "before", 1),
    ("mounts.unmount", "before", 1),
    ("mounts.unmount", "after", 1),
    ("loop.release", "before", 1),
    ("loop.release", "after", 1),
    ("storage_daemon.StorageDaemon.stop", "after", 1),
    ("state.remove", "after", 1),
]


def crash(disk: Disk, folder: Path, where: str, when: str, times: int) -> int:
    (folder / "crash.py").write_text(CRASH)
    words = [disk.image, disk.type, folder / "here", where, when, times, PARTITION.start, PARTITION.length]
    command = [sys.executable, str(folder / "crash.py"), *(str(word) for word in words)]
    return subprocess.run(command, check=False).returncode


VERBS = ["attach", "detach", "repair"]
EACH = [(type, *point) for point in POINTS for type in USUAL]
# Three verbs after each of the points take a minute; one of them each, in turn, is enough for every day.
CASES = [
    pytest.param(*case, verb, marks=() if (number - place) % 3 == 0 else pytest.mark.full)
    for number, case in enumerate(EACH)
    for place, verb in enumerate(VERBS)
]


@pytest.mark.parametrize(("type", "where", "when", "times", "next_verb"), CASES)
def test_killed_anywhere_the_next_command_heals(
    vhd_disk: Disk, img_disk: Disk, tmp_path: Path, type: ImageType, where: str, when: str, times: int, next_verb: str
) -> None:
    disk = vhd_disk if type is ImageType.VHD else img_disk
    if type is ImageType.IMG and "storage_daemon.StorageDaemon.start" in where:
        where, when, times = "state.write", "before", 2  # no daemon here: the point between the two notes instead
    assert crash(disk, tmp_path, where, when, times) == -signal.SIGKILL
    found = disk.platform.attachment(disk.image)  # never raises, whatever there is
    match next_verb:
        case "attach":
            if found is not None and found.problem and found.mount_point:
                disk.repair()
            disk.attach()
            now = disk.platform.attachment(disk.image)
            if now is not None and now.mount_point is None:
                disk.mount(tmp_path / "there")
            now = disk.platform.attachment(disk.image)
            assert now is not None
            assert now.mount_point is not None
            assert now.problem == ""
            (now.mount_point / "second").write_text("works")
            disk.platform.detach(disk.image)
        case "detach":
            disk.platform.detach(disk.image)
        case "repair":
            assert disk.repair()
    assert disk.platform.attachment(disk.image) is None
    assert not (tmp_path / "there").exists()
    disk.platform.check_image(disk.image, disk.type)
    assert any("clean" in line or "repaired" in line for line in disk.repair())


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + 5
    while start_time(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_daemon_killed_under_a_mount(vhd_disk: Disk, tmp_path: Path) -> None:
    disk, point = vhd_disk, tmp_path / "here"
    disk.attach()
    disk.mount(point)
    (point / "synced").write_text("safe")
    descriptor = os.open(point, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    os.sync()
    (point / "not synced").write_text("perhaps")
    found = disk.platform.attachment(disk.image)
    assert found is not None
    assert found.daemon_pid
    os.kill(found.daemon_pid, signal.SIGKILL)
    wait_until_dead(found.daemon_pid)
    found = disk.platform.attachment(disk.image)
    assert found is not None
    assert "has died" in found.problem
    assert found.mount_point == point
    with pytest.raises(Refused, match="has died"):
        disk.attach()
    with pytest.raises(Refused, match="has died"):
        disk.mount(point)
    lines = disk.repair()
    assert any("has died" in line for line in lines)
    assert any(line.startswith("unmounted") for line in lines)
    assert disk.platform.attachment(disk.image) is None
    assert not point.exists()
    disk.attach()
    disk.mount(point)
    assert (point / "synced").read_text() == "safe"
    disk.platform.detach(disk.image)


def test_daemon_killed_and_detached_without_repair(vhd_disk: Disk, tmp_path: Path) -> None:
    vhd_disk.attach()
    vhd_disk.mount(tmp_path / "here")
    found = vhd_disk.platform.attachment(vhd_disk.image)
    assert found is not None
    assert found.daemon_pid
    os.kill(found.daemon_pid, signal.SIGKILL)
    wait_until_dead(found.daemon_pid)
    vhd_disk.platform.unmount(vhd_disk.image)
    vhd_disk.platform.detach(vhd_disk.image)


def test_loop_device_taken_away(disk: Disk) -> None:
    device = disk.attach()
    subprocess.run(["losetup", "-d", device], check=True)
    found = disk.platform.attachment(disk.image)
    assert found is not None
    assert "is gone" in found.problem
    disk.attach()
    found = disk.platform.attachment(disk.image)
    assert found is not None
    assert found.problem == ""
    disk.platform.detach(disk.image)


@pytest.mark.parametrize("what", ["replaced", "deleted", "moved"])
def test_image_exchanged_while_mounted(disk: Disk, tmp_path: Path, what: str) -> None:
    platform = disk.platform
    disk.attach()
    disk.mount(tmp_path / "here")
    content = disk.image.read_bytes()
    match what:
        case "replaced":
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").rename(disk.image)
        case "deleted":
            disk.image.unlink()
        case "moved":
            disk.image.rename(tmp_path / "elsewhere")
    found = platform.attachment(disk.image)
    assert found is not None
    assert "while it was attached" in found.problem
    assert found.mount_point == tmp_path / "here"
    assert found.device
    if what == "replaced":
        with pytest.raises(Refused, match="still mounted"):
            disk.attach()
    (tmp_path / "here/still").write_text("works")
    platform.unmount(disk.image)
    platform.detach(disk.image)
    assert platform.attachment(disk.image) is None
    if what == "moved":
        platform.check_image(tmp_path / "elsewhere", disk.type)


@pytest.mark.parametrize("bystander", ["a plain process", "the daemon of another disk"])
def test_a_recycled_process_id_is_not_killed(vhd_disk: Disk, tmp_path: Path, bystander: str) -> None:
    disk = vhd_disk
    other = Disk(disk.platform, tmp_path / "other.vhd", ImageType.VHD)
    other.image.write_bytes(disk.image.read_bytes())
    other.attach()
    disk.attach()
    folder = state.ROOT / state.key_of(disk.image.stat())
    note = state.read(folder)
    others = disk.platform.attachment(other.image)
    assert note is not None
    assert others is not None
    os.kill(note.daemon_pid, signal.SIGKILL)
    wait_until_dead(note.daemon_pid)
    plain = subprocess.Popen(["sleep", "60"])
    try:
        pid = plain.pid if bystander == "a plain process" else others.daemon_pid
        assert pid is not None
        (folder / "pid").write_text(f"{pid}\n")
        fields = json.loads((folder / "state.json").read_text())
        fields |= {"daemon_pid": pid, "daemon_started": start_time(pid)}
        (folder / "state.json").write_text(json.dumps(fields))
        found = disk.platform.attachment(disk.image)
        assert found is not None
        assert "has died" in found.problem
        disk.platform.detach(disk.image)
        assert start_time(pid) == fields["daemon_started"]
        assert disk.platform.attachment(other.image) == others
    finally:
        plain.kill()
        plain.wait()
        other.platform.detach(other.image)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 99}', '{"version": 1, "image": 5}', "\0" * 10])
def test_an_illegible_note(disk: Disk, text: str) -> None:
    disk.attach()
    folder = state.ROOT / state.key_of(disk.image.stat())
    (folder / "state.json").write_text(text)
    list(disk.platform.attachments())
    disk.platform.detach(disk.image)


def test_damaged_filesystem_is_repaired_or_told(img_disk: Disk) -> None:
    disk = img_disk
    command = ["debugfs", "-w", "-R", "ssv free_blocks_count 7", f"{disk.image}?offset={PARTITION.start}"]
    subprocess.run(command, check=True, capture_output=True)
    try:
        assert any("repaired" in line for line in disk.repair())
        assert not any("repaired" in line for line in disk.repair())
        with disk.platform.open_image(disk.image, disk.type, writable=True) as image:
            image.zero(PARTITION.start, 1 << 20)
        with pytest.raises(Corrupt) as caught:
            disk.repair()
        found = disk.platform.attachment(disk.image)
        assert found is not None
        assert found.device in caught.value.hint
    finally:
        disk.platform.detach(disk.image)


def test_damaged_container_is_told(vhd_disk: Disk) -> None:
    data = bytearray(vhd_disk.image.read_bytes())
    data[20] ^= 1
    vhd_disk.image.write_bytes(data)
    for act in (vhd_disk.attach, vhd_disk.repair):
        with pytest.raises(Corrupt):
            act()
    assert vhd_disk.platform.attachment(vhd_disk.image) is None


def test_a_failure_half_way_leaves_nothing(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Refused("no loop device today")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "bind", refuse)
        with pytest.raises(VdiskError, match="today"):
            disk.attach()
    assert disk.platform.attachment(disk.image) is None
