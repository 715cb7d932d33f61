"""Images that others made: with other partition tables, with several partitions, with none, and with bad intentions."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from pathlib import Path

import pytest
from machine import Machine

from portunix_vdisk.tests.system.test_kill import allocated, kill_at

MIB = 1 << 20


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def partitioned(path: Path, table: str, *starts: int) -> Path:
    """A raw image partitioned by sfdisk, with an ext4 of 16 MiB at each of these MiB; ``mark`` in it has the number."""
    with path.open("wb") as file:
        file.truncate(96 * MIB)
    if table:
        subprocess.run(["sfdisk", "-q", path], input=table.encode(), check=True, capture_output=True)
    tree, part = path.with_suffix(".tree"), path.with_suffix(".part")
    tree.mkdir()
    for start in starts:
        (tree / "mark").write_text(str(start))
        part.unlink(missing_ok=True)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, part, "16M"], check=True, capture_output=True)
        with path.open("r+b") as whole:
            whole.seek(start * MIB)
            whole.write(part.read_bytes())
    return path


def mark(machine: Machine, name: str) -> str:
    """What is written on the disk; leaves something there too."""
    machine.vdisk("mount", name, "mnt")
    try:
        (machine.folder / "mnt" / "ours").write_text("written")
        return (machine.folder / "mnt" / "mark").read_text()
    finally:
        machine.vdisk("unmount", name)


MBR = "label: dos\nstart=2048, size=32768, type=c\nstart=40960, size=32768, type=83\n"
LOGICAL = """label: dos
start=2048, size=32768, type=83
start=40960, type=5
start=43008, size=32768
start=77824, size=32768
"""
GPT = "label: gpt\nstart=2048, size=32768, type=C12A7328-F81F-11D2-BA4B-00C04FC93EC9\nstart=40960, size=32768\n"


@pytest.mark.parametrize(
    ("table", "starts", "options", "expected"),
    [
        (LOGICAL, (1, 21, 38), ("--partition", "6"), "38"),
        pytest.param(MBR, (20,), (), "20", marks=pytest.mark.full),  # the other one has no filesystem
        pytest.param(MBR, (1, 20), ("--partition", "1"), "1", marks=pytest.mark.full),
        pytest.param(GPT, (1, 20), (), "20", marks=pytest.mark.full),  # nobody means the system partition
        pytest.param("", (0,), (), "0", marks=pytest.mark.full),
    ],
    ids=["mbr-logical", "mbr", "mbr-several", "gpt", "no-table"],
)
def test_an_image_is_used_where_it_is(
    machine: Machine, table: str, starts: tuple[int, ...], options: tuple[str, ...], expected: str
) -> None:
    image = partitioned(machine.folder / "Their Disk.img", table, *starts)
    before, inode = sha256(image), image.stat().st_ino
    first = machine.vdisk("import", image, "--in-place", *options, "--json").json
    assert first["tasks"]["run"] == 1
    disk = first["result"]["disk"]
    assert (disk["name"], disk["path"], disk["file_system"]) == ("Their-Disk", str(image), "ext4")
    assert machine.vdisk("import", image, "--in-place", "--json").json["tasks"]["run"] == 0
    assert (sha256(image), image.stat().st_ino) == (before, inode), "entering it is not changing it"
    assert mark(machine, "Their-Disk") == expected
    machine.vdisk("mount", image, "mnt", "--read-only")
    assert (machine.folder / "mnt" / "ours").read_text() == "written"
    machine.vdisk("unmount", "mnt")


@pytest.mark.full
def test_a_file_is_mounted_as_it_is(machine: Machine) -> None:
    image = partitioned(machine.folder / "two.img", MBR, 1, 20)
    point = machine.folder / "mnt"
    assert "--partition" in machine.vdisk("mount", "./two.img", "mnt", check=4).err
    for _ in range(2):  # the second time it is one of the catalog's disks
        machine.vdisk("mount", "./two.img", "mnt", "--partition", "2")
    assert (point / "mark").read_text() == "20"
    (point / "ours").write_text("written")
    machine.vdisk("unmount", "./two.img")
    machine.vdisk("mount", "two.img", "mnt", "--partition", "1", check=2)
    assert [disk["name"] for disk in machine.vdisk("list", "--json").result["disks"]] == ["two"]
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", image, machine.folder / "server.vmdk"], check=True
    )
    before = sha256(machine.folder / "server.vmdk")
    words = ("mount", "server.vmdk", "mnt", "--partition", "2")
    shown = machine.vdisk(*words, "--json").result
    assert (shown["kind"], shown["mount_point"]) == ("vmdk", str(point))
    assert (point / "ours").read_text() == "written"
    with pytest.raises(OSError, match="Read-only"):
        (point / "more").write_text("more")
    assert machine.vdisk(*words, "--json").json["tasks"]["run"] == 0
    machine.vdisk("unmount", "mnt")
    machine.vdisk(*words)
    machine.vdisk("unmount", "server.vmdk")
    assert sha256(machine.folder / "server.vmdk") == before
    assert len(machine.vdisk("list", "--json").result["disks"]) == 1
    (machine.folder / "text").write_text("no image")
    machine.vdisk("mount", "./text", "mnt", check=3)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["stream.vmdk", "vdi"])
def test_kinds_that_are_only_read_are_mounted(machine: Machine, kind: str) -> None:
    image = theirs(machine, kind)
    machine.vdisk("mount", image, "mnt")
    assert (machine.folder / "mnt" / "mark").read_text() == "20"
    machine.vdisk("unmount", image)


@pytest.mark.full
def test_one_of_several_filesystems_is_not_guessed(machine: Machine) -> None:
    image = partitioned(machine.folder / "two.img", MBR, 1, 20)
    several = machine.vdisk("import", image, "--in-place", check=4).err
    assert "1: 16.8 MB, ext4" in several and "--partition" in several
    assert "no partition 7" in machine.vdisk("import", image, "--in-place", "--partition", "7", check=3).err
    assert machine.vdisk("list", "--json").result["disks"] == []


def test_a_raw_disk_that_pretends_to_be_another_format(machine: Machine) -> None:
    """Whoever had root inside could write a QCOW2 header there that names any file of this machine."""
    image, secret = machine.folder / "server.img", machine.folder / "secret"
    partitioned(image, "", 0)
    secret.write_bytes(b"secret " * 10000)
    header = machine.folder / "header.qcow2"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", header]
    subprocess.run(words, check=True)
    with image.open("r+b") as file:  # ext4 leaves its first 1024 bytes to others
        file.write(header.read_bytes()[:1024])
    refused = machine.vdisk("import", image, "--in-place", check=4).err
    assert "can be read as img and as qcow2" in refused
    image.rename(machine.folder / "server")
    assert "can be read as" in machine.vdisk("import", "server", "--in-place", check=4).err
    machine.vdisk("import", "server", "--in-place", "--image-type", "img")
    assert mark(machine, "server") == "0"


@pytest.mark.full
def test_what_is_said_once_is_never_looked_for_again(machine: Machine) -> None:
    """A disk that is known as raw bytes stays one, whatever is written into it."""
    image = partitioned(machine.folder / "server.img", "", 0)
    machine.vdisk("import", image, "--in-place")
    before = machine.vdisk("info", "server", "--json").result["disk"]
    with image.open("r+b") as file:
        file.write(b"QFI\xfb\0\0\0\3")
    assert mark(machine, "server") == "0"
    assert machine.vdisk("info", "server", "--json").result["disk"]["type"] == before["type"]


@pytest.mark.full
def test_the_files_below_an_image_are_only_read_where_that_is_allowed(machine: Machine) -> None:
    base = partitioned(machine.folder / "base, the.img", "", 0)
    middle, above = machine.folder / "middle.qcow2", machine.folder / "above.qcow2"
    make = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*make, "-b", base, "-F", "raw", middle], check=True)
    subprocess.run([*make, "-b", middle.name, "-F", "qcow2", above], check=True, cwd=machine.folder)
    for more in ((), ("--in-place",)):
        assert "--allow-backing" in machine.vdisk("import", above, *more, check=4).err
    machine.vdisk("import", above, "--in-place", "--allow-backing", check=2)
    told = machine.vdisk("import", above, "--allow-backing", "--name", "ours").err
    assert str(middle) in told and str(base) in told
    assert mark(machine, "ours") == "0"
    base.write_bytes(b"")
    machine.vdisk("check", "ours")


@pytest.mark.full
def test_images_that_are_only_part_of_a_disk_are_refused(machine: Machine) -> None:
    base = partitioned(machine.folder / "base.img", "", 0)
    above = machine.folder / "above.qcow2"
    refusals = {"raw": "nbd://somewhere/x", "vmdk": str(base)}
    for kind, name in refusals.items():
        words = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", name, "-F", kind, above, "96M"]
        subprocess.run(words, check=True)
        machine.vdisk("import", above, "--allow-backing", check=4)
    words = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-u",
        "-b",
        above.name,
        "-F",
        "qcow2",
        machine.folder / "x",
        "96M",
    ]
    subprocess.run(words, check=True)
    (machine.folder / "x").replace(above)
    assert "on itself" in machine.vdisk("import", above, "--allow-backing", check=5).err
    listing = machine.folder / "list.vmdk"
    listing.write_text(f'# Disk DescriptorFile\nversion=1\nRW 2048 FLAT "{base}" 0\n')
    assert "list of other files" in machine.vdisk("import", listing, "--in-place", check=4).err
    assert machine.vdisk("list", "--json").result["disks"] == []


_MADE = {
    "vhd": ("vpc", ()),
    "fixed.vhd": ("vpc", ("-o", "subformat=fixed")),
    "vhdx": ("vhdx", ()),
    "qcow2": ("qcow2", ("-o", "compat=0.10,cluster_size=2M")),
}
"""Kinds of images, made with options that we don't use ourselves."""
_READ = {
    "vmdk": ("vmdk", ()),
    "stream.vmdk": ("vmdk", ("-o", "subformat=streamOptimized")),
    "vdi": ("vdi", ("-o", "static=on")),
}


def theirs(machine: Machine, kind: str) -> Path:
    raw = partitioned(machine.folder / "raw.img", MBR, 20)
    image = machine.folder / f"theirs.{kind}"
    format, options = (_MADE | _READ)[kind]
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format, *options, raw, image], check=True)
    raw.unlink()
    return image


@pytest.mark.full
@pytest.mark.parametrize("kind", _MADE)
def test_an_image_of_another_program_is_used(machine: Machine, kind: str) -> None:
    machine.vdisk("import", theirs(machine, kind), "--in-place", "--name", "ours")
    assert mark(machine, "ours") == "20"


@pytest.mark.parametrize(
    "kind", ["vmdk", *(pytest.param(kind, marks=pytest.mark.full) for kind in {**_MADE, **_READ} if kind != "vmdk")]
)
def test_an_image_of_another_program_is_copied(machine: Machine, kind: str) -> None:
    image = theirs(machine, kind)
    before = sha256(image)
    if kind in _READ:
        assert "without --in-place" in machine.vdisk("import", image, "--in-place", check=4).err
    made = machine.vdisk("import", image, "--name", "ours", "--type", "qcow2", "--json").result
    assert (made["in_place"], made["disk"]["type"]) == (False, "qcow2")
    assert machine.vdisk("import", image, "--name", "ours", "--type", "qcow2", "--json").json["tasks"]["run"] == 0
    assert mark(machine, "ours") == "20"
    assert sha256(image) == before
    assert "exists already" in machine.vdisk("import", image, "--name", "ours", check=4).err
    assert [path.name for path in machine.disk("ours").parent.iterdir()] == ["ours.qcow2"]


@pytest.mark.full
def test_what_is_no_image_is_refused(machine: Machine) -> None:
    (machine.folder / "folder").mkdir()
    machine.vdisk("import", "folder", "--in-place", check=4)
    machine.vdisk("import", "nowhere.img", "--in-place", check=3)


@pytest.mark.full
def test_a_killed_import_of_an_image_goes_on_or_is_undone(machine: Machine) -> None:
    image = partitioned(machine.folder / "server.img", GPT, 20)
    with image.open("r+b") as file:  # behind the filesystem, so that there is something to copy
        file.seek(60 * MIB)
        file.write(os.urandom(35 * MIB - 33 * 512))
    before, command = sha256(image), ("import", image, "--name", "ours", "--type", "vhdx")
    partial = machine.home / "vdisk" / "disks" / "ours.vhdx.partial"
    dice = random.Random(5)

    def begin() -> None:
        """An import that was killed; on a busy machine one may get to its end before it is."""
        for _ in range(8):
            kill_at(machine, command, lambda: allocated(partial), dice.random() * 20 * MIB)
            if partial.exists():
                return
            machine.vdisk("delete", "ours", "--yes")
        pytest.fail("no import could be killed in time")

    begin()
    assert "interrupted" in machine.vdisk("mount", "ours", "mnt", check=4).err
    machine.vdisk(*command)
    assert mark(machine, "ours") == "20"
    machine.vdisk("check", "ours")
    machine.vdisk("delete", "ours", "--yes")
    begin()
    machine.vdisk("import", image, "--name", "ours", "--abort")
    assert list(partial.parent.iterdir()) == []
    assert machine.vdisk("list", "--json").result["disks"] == []
    assert sha256(image) == before


@pytest.mark.full
@pytest.mark.parametrize("version", ["luks1", "luks2"])
def test_what_others_encrypted_is_refused_with_the_reason(machine: Machine, version: str) -> None:
    image, part, key = machine.folder / "server.img", machine.folder / "part", machine.folder / "key"
    key.write_text("secret")
    part.write_bytes(b"")
    os.truncate(part, 40 * MIB)
    words = ["luksFormat", "-q", "--type", version, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    subprocess.run(["cryptsetup", *words, "--key-file", key, part], check=True)
    partitioned(image, GPT)
    with image.open("r+b") as file:
        file.seek(20 * MIB)
        file.write(part.read_bytes()[: 20 * MIB])
    for command in (("import", image), ("import", image, "--in-place"), ("mount", image, "mnt")):
        assert "encrypted" in machine.vdisk(*command, check=4).err
    assert machine.vdisk("list", "--json").result["disks"] == []
