"""check as a person meets it: what is damaged is found, and what can be mended without loss is."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from machine import Machine

MIB = 1 << 20


def made(machine: Machine, *more: str) -> Path:
    machine.vdisk("create", "--name", "my-dev", "--size", "200MB", *more)
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / "file").write_text("content")
    machine.vdisk("unmount", "my-dev")
    return machine.disk("my-dev")


def debugfs(image: Path, command: str) -> None:
    subprocess.run(["debugfs", "-w", "-R", command, f"{image}?offset={MIB}"], check=True, capture_output=True)


def digest(image: Path) -> str:
    return hashlib.sha256(image.read_bytes()).hexdigest()


def found(machine: Machine, *more: str, code: int) -> dict[str, object]:
    """The result of a check that ends with this code: the parts that have problems, and what was repaired."""
    result = machine.vdisk("check", "my-dev", *more, "--json", check=code).result
    parts = {problem["part"] for problem in result["problems"]}
    return {"parts": parts, "repaired": bool(result["repaired"])}


def test_damage_is_found_and_mended(machine: Machine) -> None:
    image = made(machine, "--type", "img")
    whole = digest(image)
    assert "nothing is wrong" in machine.vdisk("check", "my-dev").out
    assert digest(image) == whole
    table = image.read_bytes()[-33 * 512 :]
    with image.open("r+b") as file:
        file.seek(-512, 2)
        file.write(b"overwritten")
    debugfs(image, "set_inode_field /file links_count 5")
    damaged = digest(image)
    assert found(machine, code=5) == {"parts": {"partition table", "filesystem"}, "repaired": False}
    assert "--repair" in machine.vdisk("check", "my-dev", check=5).err
    assert "--yes" in machine.vdisk("check", "my-dev", "--repair", check=4).err
    assert digest(image) == damaged, "nothing is repaired that nobody agreed to"
    assert found(machine, "--repair", "--yes", code=0) == {"parts": set(), "repaired": True}
    assert image.read_bytes()[-33 * 512 :] == table
    machine.vdisk("mount", "my-dev", "mnt")
    assert (machine.folder / "mnt" / "file").read_text() == "content"
    assert "mounted" in machine.vdisk("check", "my-dev", check=4).err
    machine.vdisk("unmount", "my-dev")


@pytest.mark.full
def test_what_cannot_be_mended_stays_damaged(machine: Machine) -> None:
    image = made(machine, "--type", "img")
    debugfs(image, "set_inode_field / mode 0100644")
    assert found(machine, "--repair", "--yes", code=5) == {"parts": {"filesystem"}, "repaired": False}
    assert machine.vdisk("info", "my-dev", "--json").result["disk"]["device"] is None, "it is not left attached"


@pytest.mark.full
def test_the_first_copy_of_the_table_is_mended_too(machine: Machine) -> None:
    image = made(machine, "--type", "img")
    whole = digest(image)
    with image.open("r+b") as file:
        file.seek(512)
        file.write(bytes(64))
    assert found(machine, "--repair", "--yes", code=0) == {"parts": set(), "repaired": True}
    assert digest(image) == whole


@pytest.mark.full
@pytest.mark.parametrize("fs", ["ntfs", "fat32", "exfat", "btrfs", "xfs"])
def test_every_filesystem_has_its_checker(machine: Machine, fs: str) -> None:
    made(machine, "--type", "vhd", "--fs", fs, *(("--size", "400MB") if fs == "xfs" else ()))
    assert found(machine, code=0) == {"parts": set(), "repaired": False}


@pytest.mark.full
def test_an_encrypted_disk_is_checked_inside(machine: Machine) -> None:
    (machine.folder / "key").write_text("several unrelated words")
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", "--encrypted", "--password-file", "key")
    assert "--password-file" in machine.vdisk("check", "my-dev", check=4).err
    machine.vdisk("check", "my-dev", "--password-file", "key")
    (machine.folder / "wrong").write_text("something else")
    machine.vdisk("check", "my-dev", "--password-file", "wrong", check=5)


@pytest.mark.full
def test_a_damaged_container_is_told_apart(machine: Machine) -> None:
    image = made(machine, "--type", "qcow2")
    with image.open("r+b") as file:
        file.seek(48)
        place = int.from_bytes(file.read(8), "big")
        file.seek(place)
        file.write(b"\x7f" * 64)
    assert found(machine, code=5) == {"parts": {"image"}, "repaired": False}
