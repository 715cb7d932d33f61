"""clone as a person meets it: a second disk, used beside the first one."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from machine import Machine

from portunix_vdisk.tests.platform.test_cloned_snapshots import host
from portunix_vdisk.tests.system.test_kill import allocated, kill_at

MIB = 1 << 20


def made(machine: Machine, type: str, *more: str, data: int = 3 * MIB) -> bytes:
    machine.vdisk("create", "--name", "my-dev", "--size", "200MB", "--type", type, *more)
    machine.vdisk("mount", "my-dev", "mnt")
    content = os.urandom(data)
    (machine.folder / "mnt" / "file").write_bytes(content)
    machine.vdisk("unmount", "my-dev")
    return content


def guids(machine: Machine, name: str) -> str:
    """What sfdisk shows of the table of a raw image."""
    return subprocess.run(["sfdisk", "--dump", machine.disk(name)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("type", "fs"),
    [
        ("img", "ext4"),
        *(pytest.param(type, "ext4", marks=pytest.mark.full) for type in ("vhd", "vhdx", "qcow2", "loop")),
        *(pytest.param("img", fs, marks=pytest.mark.full) for fs in ("ntfs", "fat32", "exfat")),
    ],
)
def test_both_are_used_at_the_same_time(machine: Machine, type: str, fs: str) -> None:
    content = made(machine, type, "--fs", fs)
    first = machine.vdisk("clone", "my-dev", "--name", "other", "--json").json
    assert (first["tasks"]["run"], first["result"]["shared"]) == (3, False)
    assert machine.vdisk("clone", "my-dev", "--name", "other", "--json").json["tasks"]["run"] == 0
    if type == "img":
        ours, theirs = guids(machine, "my-dev"), guids(machine, "other")
        assert machine.vdisk("info", "other", "--json").result["disk"]["uuid"] in theirs.lower()
        assert not {line for line in ours.splitlines() if "id" in line} & set(theirs.splitlines())
    machine.vdisk("mount", "my-dev", "mnt")
    machine.vdisk("mount", "other", "other")
    assert (machine.folder / "other" / "file").read_bytes() == content
    (machine.folder / "other" / "theirs").write_text("theirs")
    (machine.folder / "mnt" / "ours").write_text("ours")
    assert not (machine.folder / "mnt" / "theirs").exists() and not (machine.folder / "other" / "ours").exists()
    assert "mounted" in machine.vdisk("clone", "my-dev", "--name", "third", check=4).err
    machine.vdisk("unmount", "my-dev")
    machine.vdisk("unmount", "other")
    assert "exists already" in machine.vdisk("clone", "my-dev", "--name", "other", check=4).err, "it has been used"


@pytest.mark.full
def test_killed_at_any_byte_it_goes_on(machine: Machine, request: pytest.FixtureRequest) -> None:
    content = made(machine, "vhd", data=30 * MIB)
    partial = machine.disk("my-dev").with_name("other.vhd.partial")
    dice, killed = random.Random(5), 0
    command = ("clone", "my-dev", "--name", "other")
    for _ in range(12 if request.config.getoption("--full") else 1):
        killed += kill_at(machine, command, lambda: allocated(partial), dice.random() * 30 * MIB) >= 0
        assert "clone was interrupted" in machine.vdisk("mount", "other", "other", check=4).err or not killed
        machine.vdisk(*command)
        assert not partial.exists()
        machine.vdisk("mount", "other", "other")
        assert (machine.folder / "other" / "file").read_bytes() == content
        machine.vdisk("unmount", "other")
        machine.vdisk("delete", "other", "--yes")
    assert killed


def test_killed_changed_resumed_gives_the_new_state(machine: Machine) -> None:
    made(machine, "img")
    machine.doit("clone:other:copy", "disk=my-dev")
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / "later").write_text("later")
    machine.vdisk("unmount", "my-dev")
    machine.vdisk("clone", "my-dev", "--name", "other")
    machine.vdisk("mount", "other", "other")
    assert (machine.folder / "other" / "later").read_text() == "later"
    machine.vdisk("unmount", "other")


@pytest.mark.full
def test_what_cannot_be_is_refused_and_what_was_begun_undone(machine: Machine) -> None:
    made(machine, "img")
    machine.doit("clone:other:copy", "disk=my-dev")
    machine.vdisk("clone", "my-dev", "--name", "other", "--abort")
    assert [path.name for path in machine.disk("my-dev").parent.iterdir()] == ["my-dev.img"]
    machine.vdisk("clone", "my-dev", "--name", "my-dev", check=4)
    machine.vdisk("create", "--name", "x", "--size", "400MB", "--fs", "xfs")
    assert "same UUID" in machine.vdisk("clone", "x", "--name", "y", check=4).err


@pytest.mark.full
def test_where_blocks_can_be_shared_nothing_is_copied(machine: Machine, tmp_path: Path) -> None:
    with host(tmp_path, "btrfs") as point:
        assert point is not None
        content = made(machine, "vhd", "--path", f"{point}/", data=30 * MIB)
        result = machine.vdisk("clone", "my-dev", "--name", "other", "--path", f"{point}/", "--json").result
        assert result["shared"] is True
        machine.vdisk("mount", "other", "other")
        assert (machine.folder / "other" / "file").read_bytes() == content
        machine.vdisk("unmount", "other")
        machine.vdisk("delete", "my-dev", "--yes")
        machine.vdisk("delete", "other", "--yes")
