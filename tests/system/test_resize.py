"""resize as a person meets it: more room or less, and every file is what it was."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from kinds import FORMAT
from machine import Machine

from portunix_vdisk.tests.system.test_kill import kill_at

MIB = 1 << 20
SECRET = ("--password-file", "key")


def made(machine: Machine, *more: str, size: str = "120MiB") -> dict[str, str]:
    """A disk with files that lie all over it; their digests."""
    (machine.folder / "key").write_text("several unrelated words")
    machine.vdisk("create", "--name", "my-dev", "--size", size, *more)
    machine.vdisk("mount", "my-dev", "mnt", *secret(more))
    disk = machine.folder / "mnt"
    for number in range(12):
        (disk / f"file{number}").write_bytes(os.urandom(2 * MIB))
    (disk / "folder").mkdir()
    for number in range(150):
        (disk / "folder" / f"small{number}").write_text(str(number))
    for number in range(4):
        (disk / f"file{number}").unlink()
    found = digests(disk)
    machine.vdisk("unmount", "my-dev")
    return found


def secret(words: tuple[str, ...]) -> tuple[str, ...]:
    return SECRET if "--encrypted" in words else ()


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def resized(machine: Machine, size: str, *more: str) -> dict[str, object]:
    result: dict[str, object] = machine.vdisk("resize", "my-dev", "--size", size, "--yes", *more, "--json").result
    return result


def assert_sound(machine: Machine, size: int, files: dict[str, str], *more: str) -> None:
    """The disk has this size and these files, ours and others' checkers find nothing, nothing lies about."""
    disk = machine.vdisk("info", "my-dev", "--json").result["disk"]
    assert disk["size_bytes"] == size
    image = Path(disk["path"])
    assert [path.name for path in image.parent.iterdir()] == [image.name]
    machine.vdisk("check", "my-dev", *secret(more))
    raw = machine.folder / "raw"
    words = ["qemu-img", "convert", "-f", FORMAT[image.suffix[1:]], "-O", "raw", image, raw]
    subprocess.run(words, check=True)
    assert raw.stat().st_size == size
    if disk["type"] != "loop":
        verified = subprocess.run(["sfdisk", "--verify", raw], check=True, capture_output=True)
        assert b"No errors detected" in verified.stdout, verified
        end = disk["partition"]["start"] + disk["partition"]["length"]
        assert size - 2 * MIB <= end < size
    raw.unlink()
    machine.vdisk("mount", "my-dev", "mnt", *secret(more))
    try:
        point = machine.folder / "mnt"
        assert digests(point) == files
        room = os.statvfs(point)
        if disk["file_system"] == "fat32":
            return  # fusefat tells nothing
        assert room.f_blocks * room.f_frsize > 0.8 * disk["partition"]["length"] - 16 * MIB, "all of it can be used"
    finally:
        machine.vdisk("unmount", "my-dev")


@pytest.mark.full
@pytest.mark.parametrize(
    "words",
    [
        ("--type", "vhd"),
        ("--type", "vhd", "--fixed"),
        ("--type", "vhdx"),
        ("--type", "vhdx", "--fs", "ntfs"),
        ("--type", "qcow2"),
        ("--type", "qcow2", "--fs", "btrfs", "--size", "300MiB"),
        ("--type", "img", "--fs", "ntfs"),
        ("--type", "img", "--encrypted", *SECRET),
        ("--type", "vhd", "--encrypted", *SECRET),
        ("--type", "loop"),
        ("--type", "loop", "--fs", "ntfs"),
        ("--type", "dmg"),
    ],
    ids=" ".join,
)
def test_it_grows_and_shrinks(machine: Machine, words: tuple[str, ...]) -> None:
    files = made(machine, *words)
    key = secret(words)
    first = resized(machine, "400MiB", *key)
    assert first["changed"] and first["former_size_bytes"] == (300 if "btrfs" in words else 120) * MIB
    assert_sound(machine, 400 * MIB, files, *words)
    image = machine.disk("my-dev")
    about = image.stat()
    assert machine.vdisk("resize", "my-dev", "--size", "400MiB", "--json").json["tasks"]["run"] == 0
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (about.st_ino, about.st_mtime_ns)
    code = 2 if "btrfs" in words else 4  # less than any Btrfs needs
    assert "too small" in machine.vdisk("resize", "my-dev", "--size", "18MiB", "--yes", *key, check=code).err
    least = 320 if "btrfs" in words else 125
    resized(machine, f"{least}MiB", *key)
    assert_sound(machine, least * MIB, files, *words)


@pytest.mark.full
def test_xfs_grows_and_does_not_shrink(machine: Machine) -> None:
    files = made(machine, "--type", "vhdx", "--fs", "xfs", size="400MiB")
    resized(machine, "800MiB")
    assert_sound(machine, 800 * MIB, files)
    assert "cannot shrink" in machine.vdisk("resize", "my-dev", "--size", "400MiB", "--yes", check=4).err
    assert_sound(machine, 800 * MIB, files)


@pytest.mark.full
def test_what_cannot_be_is_refused(machine: Machine) -> None:
    files = made(machine, "--type", "qcow2")
    image = machine.disk("my-dev")
    small = machine.vdisk("resize", "my-dev", "--size", "18MiB", "--yes", check=4).err
    assert "too small for what is on my-dev" in small
    least = int(small.split("the smallest possible is ")[1].split("MiB")[0])
    assert 18 < least < 110
    assert "--yes" in machine.vdisk("resize", "my-dev", "--size", "100MiB", check=4).err
    assert "the largest is" in machine.vdisk("resize", "my-dev", "--size", "63TiB", check=2).err
    assert "the smallest is" in machine.vdisk("resize", "my-dev", "--size", "1MiB", check=2).err
    assert "no room" in machine.vdisk("resize", "my-dev", "--size", "15TiB", check=4).err
    machine.vdisk("mount", "my-dev", "mnt")
    assert "mounted" in machine.vdisk("resize", "my-dev", "--size", "200MiB", check=4).err
    machine.vdisk("unmount", "my-dev")
    subprocess.run(["qemu-img", "snapshot", "-c", "then", image], check=True)
    assert "snapshots" in machine.vdisk("resize", "my-dev", "--size", "200MiB", check=4).err
    subprocess.run(["qemu-img", "snapshot", "-d", "then", image], check=True)
    resized(machine, f"{least}MiB")
    assert_sound(machine, least * MIB, files)


@pytest.mark.full
def test_a_damaged_filesystem_stays_as_it_is(machine: Machine) -> None:
    made(machine, "--type", "img")
    image = machine.disk("my-dev")
    damage = ["debugfs", "-w", "-R", "set_inode_field / mode 0100644", f"{image}?offset={MIB}"]
    subprocess.run(damage, check=True, capture_output=True)
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    for size in ("400MiB", "110MiB"):
        assert "--repair" in machine.vdisk("resize", "my-dev", "--size", size, "--yes", check=5).err
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before
    assert machine.vdisk("info", "my-dev", "--json").result["disk"]["size_bytes"] == 120 * MIB
    assert [path.name for path in image.parent.iterdir()] == [image.name]


@pytest.mark.full
@pytest.mark.parametrize("fs", ["fat32", "exfat"])
def test_filesystems_that_nothing_resizes(machine: Machine, fs: str) -> None:
    files = made(machine, "--type", "img", "--fs", fs)
    for size in ("400MiB", "100MiB"):
        refused = machine.vdisk("resize", "my-dev", "--size", size, "--yes", check=4).err
        assert "cannot" in refused and "sync" in refused
    assert_sound(machine, 120 * MIB, files)


def stage(image: Path) -> int:
    """How far a resize has visibly come; its steps and their parts in the order in which they happen."""
    overlay, changes = (image.with_name(image.name + end) for end in (".resize.partial", ".resize"))
    if changes.exists():
        return 4 if image.stat().st_mtime_ns > changes.stat().st_mtime_ns else 3
    try:
        return 2 if overlay.stat().st_blocks * 512 > MIB else 1
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(
    ("type", "moments"),
    [
        ("vhd", (3,)),
        *(pytest.param(type, (1, 2, 3, 4, 3, 4, 2, 1), marks=pytest.mark.full) for type in ("img", "vhdx")),
    ],
)
def test_killed_at_any_moment_it_goes_on(machine: Machine, type: str, moments: tuple[int, ...]) -> None:
    files = made(machine, "--type", type)
    image, killed, half_written = machine.disk("my-dev"), 0, 0
    for number, moment in enumerate(moments):
        size = (600, 125)[number // 4 % 2]
        command = ("resize", "my-dev", "--size", f"{size}MiB", "--yes")
        killed += kill_at(machine, command, lambda: stage(image), moment) >= 0
        if number % 2 == 0:  # else it goes on at once
            state = machine.vdisk("mount", "my-dev", "mnt", check=None)
            if state.code == 0:
                assert digests(machine.folder / "mnt") == files
                machine.vdisk("unmount", "my-dev")
            else:
                assert "resized" in state.err, state
                half_written += 1
        machine.vdisk(*command)
        assert_sound(machine, size * MIB, files)
    assert killed and (half_written or len(moments) == 1)
    if len(moments) == 1:
        assert "too small" in machine.vdisk("resize", "my-dev", "--size", "18MiB", "--yes", check=4).err
        resized(machine, "125MiB")
        assert_sound(machine, 125 * MIB, files)
