"""The main job, as a person does it, with each type of image."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from blocks import difference_in_use
from kinds import FORMAT
from machine import Machine
from trees import facts, grow

from portunix_vdisk.platform.base import Partition

TYPES = ["vhd", *(pytest.param(type, marks=pytest.mark.full) for type in ("img", "vhdx", "qcow2", "dmg"))]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def look(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


@pytest.mark.parametrize("type", TYPES)
def test_a_disk_travels(machine: Machine, type: str) -> None:
    work = machine.folder
    grow(work / "src")
    machine.vdisk("create", "--name", "my-dev", "--size", "512MB", "--type", type)
    image = machine.disk("my-dev")
    assert image == machine.home / "vdisk" / "disks" / f"my-dev.{type}"
    mount_point = work / "mnt" / "dev"
    machine.vdisk("mount", f"my-dev.{type}", mount_point)
    assert os.path.ismount(mount_point)
    assert mount_point.stat().st_uid == os.getuid()
    machine.vdisk("sync", "--source", "src/", "--target", mount_point / "projects" / "app")
    expected = facts(work / "src")
    assert facts(mount_point / "projects" / "app") == expected
    machine.vdisk("unmount", mount_point)
    assert not mount_point.exists()

    machine.vdisk("export", "--disk", f"my-dev.{type}", "--output", "portable.zip")
    archive = work / "portable.zip"
    assert subprocess.run(["unzip", "-tq", archive], check=False, capture_output=True).returncode == 0
    assert not (work / "portable.zip.partial").exists()

    machine.vdisk("import", "portable.zip", "--name", "copy")
    copy = machine.disk("copy")
    partition = Partition(**machine.vdisk("info", "my-dev", "--json").result["disk"]["partition"])
    assert difference_in_use(image, copy, partition) is None
    # What the filesystem calls free is left out once: the copy's copy is the same, bit for bit.
    machine.vdisk("export", "--disk", "copy", "--output", "again.zip")
    machine.vdisk("import", "again.zip", "--name", "again")
    again = machine.disk("again")
    compared = subprocess.run(
        ["qemu-img", "compare", "-f", FORMAT[type], "-F", FORMAT[type], copy, again], capture_output=True, check=False
    )
    assert compared.returncode == 0, compared.stdout
    if type in ("img", "dmg"):
        assert sha256(copy) == sha256(again)
    machine.vdisk("mount", "copy")
    assert facts(machine.home / "vdisk" / "mnt" / "copy" / "projects" / "app") == expected
    machine.vdisk("unmount")

    for path in (image, copy):
        subprocess.run(["qemu-img", "info", "-f", FORMAT[type], path], check=True, capture_output=True)
        raw = work / "raw.img"
        subprocess.run(["qemu-img", "convert", "-f", FORMAT[type], "-O", "raw", path, raw], check=True)
        subprocess.run(["sfdisk", "--verify", raw], check=True, capture_output=True)
        with raw.open("rb") as whole, (work / "part.img").open("wb") as part:
            whole.seek(1 << 20)
            while piece := whole.read(1 << 22):
                part.write(piece) if piece.strip(b"\0") else part.seek(len(piece), 1)
            part.truncate(machine.vdisk("info", "copy", "--json").result["disk"]["partition"]["length"])
        checked = subprocess.run(["e2fsck", "-fn", work / "part.img"], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    "type", ["vhd", *(pytest.param(type, marks=pytest.mark.full) for type in ("img", "vhdx", "qcow2", "dmg"))]
)
def test_doing_everything_again_does_nothing(machine: Machine, type: str) -> None:
    commands: list[tuple[str, ...]] = [
        ("create", "--name", "my-dev", "--size", "64MB", "--type", type),
        ("mount", "my-dev", "mnt"),
        ("unmount", "my-dev"),
        ("export", "--disk", "my-dev", "--output", "a.zip"),
        ("import", "a.zip", "--name", "copy"),
    ]
    for command in commands:
        first = machine.vdisk(*command, "--json").json
        assert first["tasks"]["run"] > 0
        watched = [path for path in (machine.folder / "a.zip", machine.disk("my-dev")) if path.exists()]
        if command[0] == "import":
            watched.append(machine.disk("copy"))
        if command[0] == "mount":  # what the kernel still writes by itself is not the second command's doing
            subprocess.run(["sync", "-f", machine.folder / "mnt"], check=True)
        before = [look(path) for path in watched]
        started = time.monotonic()
        again = machine.vdisk(*command, "--json").json
        elapsed = time.monotonic() - started
        assert again["tasks"]["run"] == 0, command
        assert [look(path) for path in watched] == before
        assert elapsed < 5, "twice is not instant"  # the half second is measured by the benchmark


def test_list_and_info_know_what_has_vanished(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    machine.disk("my-dev").unlink()
    (disk,) = machine.vdisk("list", "--json").result["disks"]
    assert disk["state"] == "missing"
    assert "missing" in machine.vdisk("list").out
    refused = machine.vdisk("mount", "my-dev", check=3)
    assert "vanished" in refused.err
    machine.vdisk("delete", "my-dev", "--yes")
    assert machine.vdisk("list", "--json").result["disks"] == []


def test_read_only_mounts_refuse_writes(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    before = sha256(machine.disk("my-dev"))
    machine.vdisk("mount", "my-dev", "mnt", "--read-only")
    with pytest.raises(OSError, match="Read-only"):
        (machine.folder / "mnt" / "file").touch()
    machine.vdisk("mount", "my-dev", "mnt", check=4)
    machine.vdisk("unmount", "mnt")
    assert sha256(machine.disk("my-dev")) == before


def test_unmount_of_a_busy_disk_is_refused(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    machine.vdisk("mount", "my-dev", "mnt")
    with (machine.folder / "mnt" / "open").open("w"):
        refused = machine.vdisk("unmount", "mnt", check=4)
        assert "busy" in refused.err
        inside = machine.vdisk("unmount", check=4, folder=machine.folder / "mnt")
        assert "busy" in inside.err
    machine.vdisk("unmount", "mnt")


def test_delete_asks(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    image = machine.disk("my-dev")
    refused = machine.vdisk("delete", "my-dev", check=4)
    assert "--yes" in refused.err
    assert image.exists()
    machine.vdisk("mount", "my-dev", "mnt")
    assert "unmount" in machine.vdisk("delete", "my-dev", "--yes", check=4).err
    machine.vdisk("unmount", "mnt")
    machine.vdisk("delete", "my-dev", "--yes")
    assert not image.exists()
    machine.vdisk("info", "my-dev", check=3)


def test_a_disk_mounted_without_provision_for_it_is_not_exported(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", "--type", "img")
    machine.vdisk("mount", "my-dev", "mnt")
    refused = machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip", check=4)
    assert "unmount the disk" in refused.err and "--live" in refused.err
    on_itself = machine.vdisk("export", "--disk", "my-dev", "--output", "mnt/a.zip", check=4)
    assert "on the disk itself" in on_itself.err
    assert json.loads(machine.vdisk("list", "--json").out)["result"]["disks"][0]["mount_point"]
    machine.vdisk("unmount", "mnt")
    assert not (machine.folder / "a.zip").exists()
