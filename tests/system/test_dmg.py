"""Compressed DMGs as a person meets them: a copy of a disk goes out, and a disk comes in."""

from __future__ import annotations

import subprocess

import pytest
from machine import Machine

MIB = 1 << 20


def test_a_disk_becomes_a_compressed_copy_and_a_disk_again(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / "file").write_bytes(b"all work and no play " * 200_000)
    convert = ("convert", "my-dev", "--to", "dmg", "--compressed", "--output", "my-dev.dmg")
    assert "mounted" in machine.vdisk(*convert, check=4).err
    machine.vdisk("unmount", "my-dev")
    image, made = machine.disk("my-dev"), machine.folder / "my-dev.dmg"
    before = image.stat()
    assert "--output" in machine.vdisk("convert", "my-dev", "--to", "dmg", "--compressed", check=2).err
    assert "compressed vhdx" in machine.vdisk(*(word.replace("dmg", "vhdx") for word in convert), check=2).err
    first = machine.vdisk(*convert, "--json").json
    assert first["tasks"]["run"] == 1
    assert first["result"]["copy"] == {"path": str(made), "bytes": made.stat().st_size}
    assert made.stat().st_size < MIB
    assert machine.vdisk(*convert, "--json").json["tasks"]["run"] == 0
    assert machine.disk("my-dev") == image
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    formats = ("-f", "vpc", "-F", "dmg")
    subprocess.run(["qemu-img", "compare", "-q", *formats, image, made], check=True, capture_output=True)
    machine.vdisk("import", made, "--name", "other", "--type", "qcow2")
    formats = ("-f", "vpc", "-F", "qcow2")
    subprocess.run(["qemu-img", "compare", "-q", *formats, image, machine.disk("other")], check=True)
    machine.vdisk("mount", made, "mnt")
    assert (machine.folder / "mnt" / "file").read_bytes() == b"all work and no play " * 200_000
    with pytest.raises(OSError, match="Read-only"):
        (machine.folder / "mnt" / "more").write_text("more")
    machine.vdisk("unmount", made)
    with made.open("r+b") as file:
        file.truncate(made.stat().st_size // 2)
    assert "exists already" in machine.vdisk(*convert, check=4).err
    assert "not an archive" in machine.vdisk("import", made, "--name", "half", check=4).err
    assert [disk["name"] for disk in machine.vdisk("list", "--json").result["disks"]] == ["my-dev", "other"]
