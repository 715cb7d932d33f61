"""Encrypted disks, as a person uses them: what is on them, what opens them, and where their passwords are."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from machine import Machine
from trees import facts, grow

from portunix_vdisk.platform.base import Partition

ONE = ["vhd", pytest.param("img", marks=pytest.mark.full)]
OTHER = ["img", pytest.param("vhd", marks=pytest.mark.full)]
"""Each test every time with one type, and with all types where there is time."""
FORMAT = {"vhd": "vpc", "img": "raw"}
PASSWORD = "Zwölf große Boxkämpfer"


def encrypted(machine: Machine, type: str = "vhd", name: str = "safe") -> Path:
    (machine.folder / "password").write_text(PASSWORD + "\nnot this line\n")
    made = machine.vdisk(
        "create", "--name", name, "--size", "96MB", "--type", type, "--encrypted", "--password-file", "password"
    )
    assert "easy to guess" not in made.err
    return machine.disk(name)


def mount(machine: Machine, *more: str, check: int = 0) -> str:
    return machine.vdisk("mount", "safe", "mnt", "--password-file", "password", *more, check=check).err


def partition_of(machine: Machine, image: Path, type: str) -> Path:
    """The partition as a file of its own, still encrypted."""
    partition = Partition(**machine.vdisk("info", "safe", "--json").result["disk"]["partition"])
    found = machine.folder / "partition"
    source = f"driver=raw,offset={partition.start},size={partition.length},file.driver={FORMAT[type]},"
    source += f"file.file.driver=file,file.file.filename={image}"
    subprocess.run(["qemu-img", "convert", "--image-opts", source, "-O", "raw", found], check=True)
    return found


@pytest.mark.parametrize("type", ONE)
def test_what_is_on_an_encrypted_disk_can_be_read_with_its_password_only(machine: Machine, type: str) -> None:
    image = encrypted(machine, type)
    assert machine.vdisk("info", "safe", "--json").result["disk"]["encrypted"] is True
    grow(machine.folder / "src")
    words = b"in the clear for nobody else " * 300
    (machine.folder / "src" / "words").write_bytes(words)
    mount(machine)
    machine.vdisk("sync", "--source", "src", "--target", "mnt/tree")
    machine.vdisk("unmount", "safe")
    assert words[:24] not in image.read_bytes()

    mount(machine)
    assert facts(machine.folder / "mnt" / "tree") == facts(machine.folder / "src")
    machine.vdisk("unmount", "safe")

    # Other programs: cryptsetup reads the header, QEMU the content, e2fsck finds nothing to mend.
    partition = partition_of(machine, image, type)
    dump = subprocess.run(["cryptsetup", "luksDump", partition], check=True, capture_output=True, text=True).stdout
    assert "aes" in dump and "xts-plain64" in dump and "Key Slot 0: ENABLED" in dump
    (machine.folder / "exact").write_text(PASSWORD)
    test = ["cryptsetup", "open", "--test-passphrase", "--key-file", machine.folder / "exact", partition]
    assert subprocess.run(test, check=False).returncode == 0
    plain = machine.folder / "plain"
    secret = ["--object", f"secret,id=key,file={machine.folder / 'exact'}"]
    source = f"driver=luks,key-secret=key,file.driver=file,file.filename={partition}"
    subprocess.run(["qemu-img", "convert", *secret, "--image-opts", source, "-O", "raw", plain], check=True)
    checked = subprocess.run(["e2fsck", "-fn", plain], check=False, capture_output=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("type", OTHER)
def test_a_wrong_password_is_told_soon_and_leaves_nothing(machine: Machine, type: str) -> None:
    image = encrypted(machine, type)
    before = image.read_bytes()
    (machine.folder / "password").write_text("wrong\n")
    started = time.monotonic()
    refused = mount(machine, check=5)
    took = time.monotonic() - started
    assert "wrong password for the disk" in refused
    assert took < 20, "a guess takes longer than anybody waits"  # three seconds are measured by the benchmark
    assert machine.vdisk("info", "safe", "--json").result["disk"]["device"] is None
    assert image.read_bytes() == before
    assert machine.vdisk("mount", "safe", check=4).err.count("--password-file") >= 1, "nobody can be asked"
