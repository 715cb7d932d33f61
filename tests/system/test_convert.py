"""convert as a person meets it: another image, the same disk."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from kinds import FORMAT
from machine import Machine

from portunix_vdisk.tests.system.test_kill import allocated, kill_at

MIB = 1 << 20
_FORMAT = FORMAT | {"vhd-fixed": "vpc"}
TYPES = ("vhd", "vhd-fixed", "vhdx", "qcow2", "img", "dmg")


def made(machine: Machine, type: str, *more: str, data: int = 3 * MIB) -> Path:
    """A disk with something on it, unmounted; a copy of its image."""
    kind = ("vhd", "--fixed") if type == "vhd-fixed" else (type,)
    machine.vdisk("create", "--name", "my-dev", "--size", "200MB", "--type", *kind, *more)
    machine.vdisk("mount", "my-dev", "mnt", *(word for word in more if word != "--encrypted"))
    (machine.folder / "mnt" / "file").write_bytes(os.urandom(data))
    machine.vdisk("unmount", "my-dev")
    image = machine.disk("my-dev")
    copy = machine.folder / f"before{image.suffix}"
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    return copy


def assert_same_disk(machine: Machine, before: Path, was: str, now: str) -> Path:
    """QEMU reads the same bytes from both, and beside the image nothing is left; the image."""
    disk = machine.vdisk("info", "my-dev", "--json").result["disk"]
    image = Path(disk["path"])
    assert (disk["type"], disk["fixed"]) == (now.removesuffix("-fixed"), now == "vhd-fixed")
    assert [path.name for path in image.parent.iterdir()] == [image.name]
    formats = ["-f", _FORMAT[was], "-F", _FORMAT[now]]
    compared = subprocess.run(["qemu-img", "compare", *formats, before, image], check=False, capture_output=True)
    assert compared.returncode == 0, compared
    return image


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("vhd", "qcow2"),
        *(pytest.param(was, now, marks=pytest.mark.full) for was in TYPES for now in TYPES if was != now),
    ],
)
def test_the_disk_is_the_same_in_another_image(machine: Machine, was: str, now: str) -> None:
    before = made(machine, was)
    former = machine.disk("my-dev")
    former.chmod(0o640)
    former.with_name(former.name + ".compact.partial").write_text("of a compaction that was killed")
    first = machine.vdisk("convert", "my-dev", "--to", now, "--json").json
    assert first["tasks"]["run"] == 3
    assert first["result"]["former_path"] == str(former)
    image = assert_same_disk(machine, before, was, now)
    assert image.stat().st_mode & 0o777 == 0o640
    about = image.stat()
    assert machine.vdisk("convert", "my-dev", "--to", now, "--json").json["tasks"]["run"] == 0
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (about.st_ino, about.st_mtime_ns)
    machine.vdisk("mount", "my-dev", "mnt")
    assert (machine.folder / "mnt" / "file").stat().st_size == 3 * MIB
    (machine.folder / "mnt" / "more").write_text("more")
    assert "mounted" in machine.vdisk("convert", "my-dev", "--to", was, check=4).err
    machine.vdisk("unmount", "my-dev")
    if was == "img":
        machine.doit("convert:my-dev", f"to={was}")
        machine.vdisk("mount", "my-dev", "mnt")
        assert (machine.folder / "mnt" / "more").read_text() == "more"
        machine.vdisk("unmount", "my-dev")


def test_what_there_is_not_is_refused(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", "--type", "img")
    image = machine.disk("my-dev")
    inode = image.stat().st_ino
    assert "one of: " in machine.vdisk("convert", "my-dev", "--to", "floppy", check=2).err
    assert "partition table" in machine.vdisk("convert", "my-dev", "--to", "loop", check=2).err
    assert "--to" in machine.vdisk("convert", "my-dev", check=2).err
    taken = image.with_suffix(".qcow2")
    taken.write_text("somebody's")
    assert "exists" in machine.vdisk("convert", "my-dev", "--to", "qcow2", check=4).err
    assert taken.read_text() == "somebody's"
    node = f"driver=raw,node-name=d,file.driver=file,file.filename={image}"
    server = f"addr.type=unix,addr.path={machine.temporary}/nbd"
    words = ["--blockdev", node, "--nbd-server", server, "--export", "type=nbd,id=e,node-name=d,writable=on"]
    held = subprocess.Popen(["qemu-storage-daemon", *words])
    try:
        while not (Path(str(machine.temporary)) / "nbd").exists():
            assert held.poll() is None
        machine.vdisk("convert", "my-dev", "--to", "vhdx", check=4)
    finally:
        held.terminate()
        held.wait()
    assert sorted(path.name for path in image.parent.iterdir()) == ["my-dev.img", "my-dev.qcow2"]
    assert image.stat().st_ino == inode


@pytest.mark.full
def test_an_encrypted_disk_keeps_its_key(machine: Machine) -> None:
    (machine.folder / "key").write_text("several unrelated words")
    secret = ("--password-file", "key")
    before = made(machine, "img", "--encrypted", *secret)
    assert "encrypted" in machine.vdisk("convert", "my-dev", "--to", "dmg", check=2).err
    machine.vdisk("convert", "my-dev", "--to", "vhdx")
    assert_same_disk(machine, before, "img", "vhdx")
    machine.vdisk("mount", "my-dev", "mnt", *secret)
    assert (machine.folder / "mnt" / "file").stat().st_size == 3 * MIB
    machine.vdisk("unmount", "my-dev")


def test_killed_at_any_byte_it_goes_on(machine: Machine, request: pytest.FixtureRequest) -> None:
    full = request.config.getoption("--full")
    before = made(machine, "img", data=30 * MIB)
    dice = random.Random(4)
    killed, was = 0, "img"
    for _ in range(12 if full else 1):
        now = dice.choice([type for type in TYPES if type != was]) if full else {"img": "vhd", "vhd": "img"}[was]
        image = machine.disk("my-dev")
        partial = image.with_name(f"{image.name}.{now}.convert.partial")
        command = ("convert", "my-dev", "--to", now)
        killed += kill_at(machine, command, lambda p=partial: allocated(p), dice.random() * 30 * MIB) >= 0
        machine.vdisk(*command)
        assert_same_disk(machine, before, "img", now)
        was = now
    assert killed


@pytest.mark.full
def test_states_that_qemu_keeps_are_not_lost(machine: Machine) -> None:
    before = made(machine, "qcow2")
    image = machine.disk("my-dev")
    subprocess.run(["qemu-img", "snapshot", "-c", "then", image], check=True)
    for command in (("convert", "my-dev", "--to", "vhd"), ("clone", "my-dev", "--name", "second")):
        assert "snapshots" in machine.vdisk(*command, check=4).err
    listed = subprocess.run(["qemu-img", "snapshot", "-l", image], check=True, capture_output=True).stdout
    assert b"then" in listed
    assert_same_disk(machine, before, "qcow2", "qcow2")
    assert len(machine.vdisk("list", "--json").result["disks"]) == 1
