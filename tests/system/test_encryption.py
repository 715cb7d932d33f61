"""Encrypted disks, as a person uses them: what is on them, what opens them, and where their passwords are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pyluksde
import pytest
from dissect.extfs import ExtFS
from machine import Machine
from trees import facts, grow

from portunix_vdisk.platform.base import Partition
from portunix_vdisk.platform.linux.machine import LinuxPlatform

ONE = ["vhd", pytest.param("img", marks=pytest.mark.full)]
OTHER = ["img", pytest.param("vhd", marks=pytest.mark.full)]
"""Each test every time with one type, and with all types where there is time."""
FORMAT = {"vhd": "vpc", "img": "raw"}
PASSWORD = "twelve large boxers and a small one"


def encrypted(machine: Machine, type: str = "vhd", name: str = "safe", password: str = PASSWORD) -> Path:
    (machine.folder / "password").write_text(password + "\nnot this line\n")
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
    # And two libraries that have nothing to do with these.
    volume = pyluksde.volume()
    volume.set_password(PASSWORD)
    volume.open(str(partition))
    assert ExtFS(volume).get("tree/words").open().read() == words


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


@pytest.mark.full
def test_passwords_come_and_go(machine: Machine) -> None:
    encrypted(machine)
    for name in ("second", "third"):
        (machine.folder / name).write_text(f"{name} of several passwords\n")

    def slots() -> list[int]:
        return machine.vdisk("info", "safe", "--json").result["encryption"]["slots"]

    def passwd(*words: str, check: int = 0) -> str:
        answer = machine.vdisk("passwd", "safe", *words, check=check)
        return answer.out + answer.err

    assert slots() == [0]
    assert "2 open it now" in passwd("--add", "--password-file", "password", "--new-password-file", "second")
    assert slots() == [0, 1]
    assert "wrong password" in passwd("--password-file", "third", "--new-password-file", "second", check=5)
    assert "another password" in passwd("--password-file", "password", "--new-password-file", "third")
    assert "new-password-file" in passwd("--password-file", "third", check=4), "nobody can be asked"
    mount(machine, check=5)
    machine.vdisk("mount", "safe", "mnt", "--password-file", "third")
    assert slots() == [1, 2], "a mounted disk tells, too"
    assert "mounted" in passwd("--remove", "--password-file", "second", check=4)
    backup = machine.vdisk("luks-backup", "safe", "safe.luks", "--json").result
    assert (machine.folder / "safe.luks").stat().st_size == backup["bytes"]
    assert subprocess.run(["cryptsetup", "luksDump", machine.folder / "safe.luks"], check=False).returncode == 0
    machine.vdisk("unmount", "safe")
    passwd("--remove", "--password-file", "second")
    assert "last password" in passwd("--remove", "--password-file", "third", check=4)
    assert "aes-xts-plain64, 512 bits, sha256; key slots in use: 2" in machine.vdisk("info", "safe").out


def test_nobody_sees_the_password(machine: Machine) -> None:
    """Not on a command line, in an environment, a file, a log or what --json prints; nor does a crash write it down."""
    secret = PASSWORD.encode()
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):
                        content = (folder / name).read_bytes()
                        seen.update(f"{word!r} in {name}" for word in (secret, b"shown on purpose") if word in content)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        subprocess.run(["sh", "-c", "sleep 1", "shown on purpose"], check=True)
        image = encrypted(machine)
        (machine.folder / "password").rename(machine.folder.parent / "password")
        file = machine.folder.parent / "password"
        (machine.folder.parent / "other").write_text("another password, also a long one\n")
        answer = machine.vdisk("mount", "safe", "mnt", "--json", "--debug", "--password-file", file)
        (held,) = (one for one in LinuxPlatform().attachments() if one.image == image)
        process = Path(f"/proc/{held.daemon_pid}")
        assert re.search(r"^Max core file size +([01]) +\1 ", (process / "limits").read_text(), re.MULTILINE)
        state = [path.read_bytes() for path in Path("/run/portunix-vdisk").rglob("*.json")]
        machine.vdisk("unmount", "safe")
        new = machine.folder.parent / "other"
        machine.vdisk("passwd", "safe", "--debug", "--password-file", new, "--new-password-file", file, check=5)
        machine.vdisk("passwd", "safe", "--debug", "--password-file", file, "--new-password-file", new)
    finally:
        over.set()
        looking.join()
    assert seen == {"b'shown on purpose' in cmdline"}, "this test looks, and nothing else is to be seen"
    shown = [answer.out.encode(), answer.err.encode(), *state]
    files = [path for path in machine.home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files) and any(path.name == "journal.db" for path in files)
    for content in (*shown, *(path.read_bytes() for path in files)):
        assert secret not in content and secret.hex().encode() not in content


def test_an_encrypted_disk_travels_as_it_is(machine: Machine) -> None:
    encrypted(machine, password="Zwölf große Boxkämpfer")
    mount(machine)
    (machine.folder / "mnt" / "file").write_text("content")
    subprocess.run(["sync", "-f", machine.folder / "mnt"], check=True)
    machine.vdisk("export", "--disk", "safe", "--output", "safe.zip")  # while it is mounted
    machine.vdisk("unmount", "safe")
    refused = machine.vdisk("export", "--disk", "safe", "--output", "small.zip", "--exclude-cache", check=4)
    assert "encrypted" in refused.err

    machine.vdisk("import", "safe.zip", "--name", "copy", "--type", "img")
    assert machine.vdisk("info", "copy", "--json").result["disk"]["encrypted"] is True
    machine.vdisk("mount", "copy", "mnt", "--password-file", "password")
    assert (machine.folder / "mnt" / "file").read_text() == "content"
    machine.vdisk("unmount", "copy")
    looked = machine.vdisk("archive", "mount", "safe.zip", check=4)
    assert "encrypted" in looked.err


@pytest.mark.full
@pytest.mark.parametrize("type", ["vhd", "img"])
def test_a_dead_daemon_is_put_away_without_a_password(machine: Machine, type: str) -> None:
    image = encrypted(machine, type)
    mount(machine)
    (machine.folder / "mnt" / "file").write_text("content")
    subprocess.run(["sync", "-f", machine.folder / "mnt"], check=True)
    (held,) = (one for one in LinuxPlatform().attachments() if one.image == image)
    assert held.daemon_pid is not None
    os.kill(held.daemon_pid, signal.SIGKILL)
    put_away = machine.vdisk("unmount", "safe")
    assert "not checked" in put_away.err
    mount(machine)
    assert (machine.folder / "mnt" / "file").read_text() == "content"
    (held,) = (one for one in LinuxPlatform().attachments() if one.image == image)
    assert held.daemon_pid is not None
    os.kill(held.daemon_pid, signal.SIGKILL)
    assert "filesystem: " in mount(machine), "with the password at hand it is checked"
    machine.vdisk("unmount", "safe")


@pytest.mark.full
@pytest.mark.parametrize("type", ["vhdx", "qcow2", "loop", "vhd-fixed"])
def test_every_other_type_of_image_can_be_encrypted(machine: Machine, type: str) -> None:
    image = encrypted(machine, type)
    assert machine.vdisk("info", "safe", "--json").result["disk"]["opens_on"] == ["linux"]
    grow(machine.folder / "src")
    mount(machine)
    machine.vdisk("sync", "--source", "src", "--target", "mnt/tree")
    machine.vdisk("unmount", "safe")
    machine.vdisk("export", "--disk", "safe", "--output", "safe.zip")
    machine.vdisk("import", "safe.zip", "--name", "copy")
    machine.vdisk("mount", "copy", "mnt", "--password-file", "password")
    assert facts(machine.folder / "mnt" / "tree") == facts(machine.folder / "src")
    machine.vdisk("unmount", "copy")
    assert image.exists()


def test_what_cannot_be_encrypted_says_why(machine: Machine) -> None:
    (machine.folder / "password").write_text(PASSWORD)
    words = ("create", "--name", "a", "--encrypted", "--password-file", "password", "--size")
    assert "macOS" in machine.vdisk(*words, "1GB", "--type", "dmg", check=2).err
    assert "too small" in machine.vdisk(*words, "17MiB", check=2).err
    machine.vdisk(*words, "18MiB")
    (machine.folder / "password").write_bytes(b"latin \xe4 and so on and on")
    assert "UTF-8" in machine.vdisk(*words[:2], "b", *words[3:], "64MB", check=2).err
    assert "b" not in machine.vdisk("list", "--json").out.split('"')
    machine.vdisk("create", "--name", "plain", "--size", "64MB")
    for command in (("passwd", "plain"), ("luks-backup", "plain", "x"), ("create", "--name", "plain", "--encrypted")):
        assert "not encrypted" in machine.vdisk(*command, check=4).err


@pytest.mark.full
@pytest.mark.parametrize("type", ["vhd", "img", "qcow2"])
def test_compact_gives_back_what_is_free_inside(machine: Machine, type: str) -> None:
    image = encrypted(machine, type)
    mount(machine)
    place = machine.folder / "mnt"
    (place / "kept").write_bytes(kept := os.urandom(3 << 20))
    (place / "gone").write_bytes(os.urandom(30 << 20))
    subprocess.run(["sync", "-f", place], check=True)
    (place / "gone").unlink()
    before = image.stat().st_blocks * 512
    assert "--password-file" in machine.vdisk("compact", "safe", check=4).err
    (machine.folder / "wrong").write_text("wrong")
    assert "wrong password" in machine.vdisk("compact", "safe", "--password-file", "wrong", check=5).err
    assert (place / "kept").exists(), "it stays mounted"
    done = machine.vdisk("compact", "safe", "--password-file", "password", "--json").result
    assert done["changed"] and done["saved_bytes"] > 25 << 20
    assert image.stat().st_blocks * 512 < before - (25 << 20)
    assert (place / "kept").read_bytes() == kept, "it is mounted again"
    machine.vdisk("unmount", "safe")
    again = machine.vdisk("compact", "safe", "--password-file", "password", "--json").result
    assert again["changed"] is False
    mount(machine)
    assert (place / "kept").read_bytes() == kept
    machine.vdisk("unmount", "safe")
