"""Looking into an archive: the files are all there, nothing is written, nothing stays behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from looking import archived, assert_nothing_left, mounted
from machine import BIN, Machine
from person import person
from trees import facts

from portunix_vdisk.platform.linux import state
from portunix_vdisk.platform.linux.processes import start_time
from portunix_vdisk.steps.archive.reader import ArchiveReader

CHUNK = 4 << 20
PAGE = 4096


def test_an_archive_is_looked_into(machine: Machine) -> None:
    archive = archived(machine)
    content = archive.read_bytes()
    identity = archive.stat().st_ino, archive.stat().st_mtime_ns
    machine.vdisk("delete", "my-dev", "--yes")
    place = machine.folder / "look"
    first = mounted(machine, "a.zip", "look")
    assert first["archive"] == str(archive)
    assert (first["disk"], first["mount_point"], first["changed"]) == ("my-dev", str(place), True)
    assert facts(place / "app") == facts(machine.folder / "src")
    with pytest.raises(OSError, match="Read-only"):
        (place / "new").touch()
    for words in (("a.zip", "look"), ("a.zip",), ("./a.zip", "--mountpoint", "look")):
        again = machine.vdisk("archive", "mount", *words, "--json").json
        assert again["tasks"]["run"] == 0
        assert again["result"] == first | {"changed": False}
    elsewhere = machine.vdisk("archive", "mount", "a.zip", "other", check=4)
    assert "mounted already" in elsewhere.err
    assert not (machine.folder / "other").exists()
    assert machine.vdisk("list", "--json").result["disks"] == []
    with (place / "app" / "hard link").open():
        assert "in use" in machine.vdisk("archive", "unmount", "look", check=4).err
    assert "busy" in machine.vdisk("unmount", place, check=4, folder=place).err
    gone = machine.vdisk("archive", "unmount", "a.zip", "--json").result
    assert gone == {"archive": str(archive), "mount_point": str(place), "changed": True}
    assert not place.exists()
    assert_nothing_left(machine, archive, first["server_pid"])
    assert machine.vdisk("archive", "unmount", "a.zip", "--json").result["changed"] is False
    assert archive.read_bytes() == content
    assert (archive.stat().st_ino, archive.stat().st_mtime_ns) == identity


def test_every_way_to_unmount(machine: Machine) -> None:
    archive = archived(machine)
    default = machine.home / "vdisk" / "mnt" / "a.zip"
    ways: list[tuple[str | Path, ...]] = [
        ("unmount", default),
        ("unmount",),
        ("unmount", "a.zip"),
        ("archive", "unmount", default),
        ("archive", "unmount"),
    ]
    for way in ways:
        server = mounted(machine, "a.zip")["server_pid"]
        assert (default / "app" / "hard link").exists()
        assert "a.zip is unmounted" in machine.vdisk(*way).out
        assert_nothing_left(machine, archive, server)
    assert machine.vdisk("archive", "unmount", check=3).code == 3
    assert machine.vdisk("unmount", check=3).code == 3
    machine.doit("archive-mount:a", "archive=a.zip", "mountpoint=look")
    assert (machine.folder / "look" / "app" / "hard link").exists()
    machine.doit("archive-unmount:a", "archive=a.zip")
    assert not (machine.folder / "look").exists()


def test_it_outlives_the_plugin(machine: Machine) -> None:
    archive = archived(machine)
    server = mounted(machine, "a.zip", "look")["server_pid"]
    machine.kill_plugin()
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    assert facts(machine.folder / "look" / "app") == facts(machine.folder / "src")
    machine.vdisk("unmount", "look")
    assert_nothing_left(machine, archive, server)


def test_a_server_that_was_killed(machine: Machine) -> None:
    archive = archived(machine, 8 * CHUNK)
    server = mounted(machine, "a.zip", "look")["server_pid"]
    os.kill(server, signal.SIGKILL)
    with pytest.raises(OSError) as caught:
        (machine.folder / "look" / "app" / "big").read_bytes()
    assert caught.value.errno == errno.EIO
    told = machine.vdisk("archive", "unmount", "look")
    assert f"the process that reads the archive (pid {server}) has died" in told.err
    assert_nothing_left(machine, archive, server)
    # And once more, mended by mounting again.
    server = mounted(machine, "a.zip", "look")["server_pid"]
    os.kill(server, signal.SIGKILL)
    mended = machine.vdisk("archive", "mount", "a.zip", "look")
    assert "has died" in mended.err
    assert facts(machine.folder / "look" / "app") == facts(machine.folder / "src")
    last = mounted(machine, "a.zip", "look")
    assert last["changed"] is False
    machine.vdisk("unmount", "look")
    assert_nothing_left(machine, archive, last["server_pid"])


@pytest.mark.full
def test_a_storage_daemon_that_was_killed_takes_the_server_along(machine: Machine) -> None:
    archive = archived(machine)
    server = mounted(machine, "a.zip", "look")["server_pid"]
    note = state.read(state.ROOT / state.key_of(archive.stat()))
    assert note is not None
    os.kill(note.daemon_pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while start_time(server) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    machine.vdisk("unmount", "look")
    assert_nothing_left(machine, archive, server)


def test_a_damaged_chunk_is_an_error_for_the_file_in_it_and_for_nothing_else(machine: Machine) -> None:
    archive = archived(machine, 12 * CHUNK)
    whole = facts(machine.folder / "src")
    content = (machine.folder / "src" / "big").read_bytes()
    with ArchiveReader(archive) as reader:
        start = reader.index.disk.partition.start
        plain = {chunk.offset: reader.plain(chunk) for chunk in reader.index.chunks}
        # A chunk that is nothing but a piece of the big file.
        place, victim = next(
            (content.index(data), chunk)
            for chunk in reader.index.chunks
            if (data := plain[chunk.offset]) in content and len(data) == CHUNK
        )
    assert start
    raw = bytearray(archive.read_bytes())
    at = raw.index(plain[victim.offset][1000:1100])  # random bytes are stored as they are
    raw[at] ^= 1
    damaged = machine.folder / "damaged.zip"
    damaged.write_bytes(raw)
    server = mounted(machine, "damaged.zip", "look")["server_pid"]
    big = machine.folder / "look" / "app" / "big"
    # The filesystem's blocks may be smaller than pages, and reading ahead the kernel takes many pages as one folio,
    # which fails as a whole: without reading ahead it takes them one by one.
    before, after = place // PAGE * PAGE, -(-(place + CHUNK) // PAGE) * PAGE
    with big.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert read(file, before) == content[:before]
        with pytest.raises(OSError) as caught:
            file.read(4096)
        assert caught.value.errno == errno.EIO
        file.seek(after)
        assert read(file, len(content)) == content[after:]
    shadow = machine.folder / "shadow"
    shutil.copytree(machine.folder / "look" / "app", shadow, symlinks=True, ignore=shutil.ignore_patterns("big"))
    seen = {name: about[4] for name, about in facts(shadow).items()}
    assert seen == {name: about[4] for name, about in whole.items() if name != b"big"}
    machine.vdisk("unmount", "look")
    assert_nothing_left(machine, damaged, server)
    log = (machine.home / "logs" / "vdisk-archive-mounts.log").read_text()
    assert f"chunk at disk offset {victim.offset}" in log


def read(file: Any, length: int) -> bytes:
    """Up to ``length`` bytes, asking for none beyond them."""
    found = b""
    while part := file.read(length - len(found)):
        found += part
    return found


def test_a_filesystem_that_was_not_unmounted_is_shown_without_its_journal(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", "--type", "img")
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / "file").write_text("hello")
    subprocess.run(["sync", "-f", machine.folder / "mnt"], check=True)
    image = machine.disk("my-dev")
    caught = image.read_bytes()
    machine.vdisk("unmount", "mnt")
    image.write_bytes(caught)
    inside = subprocess.run(["dumpe2fs", "-h", f"{image}?offset=1048576"], check=True, capture_output=True, text=True)
    assert "needs_recovery" in inside.stdout
    machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    server = mounted(machine, "a.zip", "look")["server_pid"]
    assert (machine.folder / "look" / "file").read_text() == "hello"
    machine.vdisk("unmount", "look")
    assert_nothing_left(machine, machine.folder / "a.zip", server)


def test_an_archive_that_goes_away_meanwhile(machine: Machine) -> None:
    archive = archived(machine)
    server = mounted(machine, "a.zip", "look")["server_pid"]
    archive.rename(machine.folder / "b.zip")
    assert facts(machine.folder / "look" / "app") == facts(machine.folder / "src")
    machine.vdisk("unmount", "look")
    assert_nothing_left(machine, machine.folder / "b.zip", server)


def test_what_cannot_be_mounted(machine: Machine) -> None:
    assert "no such file" in machine.vdisk("archive", "mount", "none.zip", check=3).err
    (machine.folder / "text").write_text("hello")
    assert machine.vdisk("archive", "mount", "text", check=None).code in (2, 4, 5)
    assert machine.vdisk("archive", "unmount", "none.zip", check=3).code == 3
    archive = archived(machine)
    (machine.folder / "full").mkdir()
    (machine.folder / "full" / "file").touch()
    refused = machine.vdisk("archive", "mount", "a.zip", "full", check=4)
    assert "not empty" in refused.err
    assert "nothing is mounted" in refused.err
    assert not (state.ROOT / state.key_of(archive.stat())).exists()
    assert machine.temporary is not None
    assert list(machine.temporary.glob("portunix-archive-*")) == []


def test_as_an_ordinary_user() -> None:
    with person(sudo=True) as user:
        (user.folder / "src").mkdir()
        (user.folder / "src" / "file").write_text("hello")
        subprocess.run(["chown", "-R", user.name, user.folder / "src"], check=True)
        user.vdisk("create", "--name", "my-dev", "--size", "64MB")
        user.vdisk("mount", "my-dev", "mnt")
        user.vdisk("sync", "--source", "src", "--target", "mnt/in")
        user.vdisk("unmount", "mnt")
        user.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
        uid = (user.folder / "a.zip").stat().st_uid
        for vdisk in (user.vdisk, user.sudo):
            vdisk("archive", "mount", "a.zip", "look")
            note = state.read(state.ROOT / state.key_of((user.folder / "a.zip").stat()))
            assert note is not None
            status = Path(f"/proc/{note.server_pid}/status").read_text()
            assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status, "the archive is read with the person's rights"
            assert (user.folder / "look" / "in" / "file").read_text() == "hello"
            vdisk("unmount", "look")
            assert not (user.folder / "look").exists()
            assert_nothing_left(user, user.folder / "a.zip", note.server_pid)
        os.chown(user.folder / "a.zip", 0, 0)
        (user.folder / "a.zip").chmod(0o600)
        assert user.vdisk("archive", "mount", "a.zip", "look", check=None).code not in (0, 70)
        user.run("portunix", "plugin", "stop", "vdisk", check=0)


def test_a_user_without_sudo_is_told() -> None:
    with person(sudo=False) as user:
        user.vdisk("create", "--name", "my-dev", "--size", "64MB")
        user.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
        refused = user.vdisk("archive", "mount", "a.zip", "look", check=6)
        assert "sudo" in refused.err
        deadline = time.monotonic() + 5
        while servers_of(user.folder):
            assert time.monotonic() < deadline, "the server waits for nobody"
            time.sleep(0.05)
        user.run("portunix", "plugin", "stop", "vdisk", check=0)


def servers_of(folder: Path) -> list[str]:
    command = ["pgrep", "-f", f"serve_archive {folder}"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()


@pytest.mark.full
def test_a_command_that_is_killed_leaves_nothing_for_long(machine: Machine) -> None:
    """The worker dies between the server's start and the mount; the next command finds its way."""
    archive = archived(machine)
    for delay in (0.05, 0.15, 0.25, 0.35, 0.45):
        machine.run(BIN / "portunix", "plugin", "stop", "vdisk")
        running = machine.start("archive", "mount", "a.zip", "look")
        time.sleep(delay)
        machine.kill_plugin()
        running.communicate()
    server = mounted(machine, "a.zip", "look")["server_pid"]
    assert facts(machine.folder / "look" / "app") == facts(machine.folder / "src")
    machine.vdisk("unmount", "look")
    for pid in servers_of(machine.folder):
        os.kill(int(pid), signal.SIGTERM)  # one that nobody came to waits for a minute
    assert machine.temporary is not None
    for folder in machine.temporary.glob("portunix-archive-*"):
        shutil.rmtree(folder)
    assert_nothing_left(machine, archive, server)
