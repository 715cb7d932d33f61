"""compact as a person meets it: real disks, real mounts, the real commands."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from blocks import check_filesystem, difference_in_use, raw_of
from machine import Machine
from trees import facts, grow

from portunix_vdisk.platform.base import Partition
from portunix_vdisk.tests.system.test_kill import allocated, group_of, kill_at

TYPES = ["vhd", "img"]
MOSTLY_ONE = ["vhd", pytest.param("img", marks=pytest.mark.full)]
MIB = 1 << 20


def prepare(machine: Machine, type: str, *, gone: int = 32 * MIB) -> Path:
    """A mounted disk with a tree, and much that was deleted; its mount point."""
    machine.vdisk("create", "--name", "my-dev", "--size", "400MB", "--type", type)
    machine.vdisk("mount", f"my-dev.{type}", "mnt")
    point = machine.folder / "mnt"
    (point / "gone").write_bytes(os.urandom(gone))
    grow(point / "tree", files=200, size=60_000)
    (point / "kept").write_bytes(os.urandom(12 * MIB))
    os.sync()
    (point / "gone").unlink()
    for path in list((point / "tree").rglob("f*7.txt")):
        path.unlink()
    return point


def partition(machine: Machine) -> Partition:
    return Partition(**machine.vdisk("info", "my-dev", "--json").result["disk"]["partition"])


def copy_of(machine: Machine) -> Path:
    image = machine.disk("my-dev")
    copy = machine.folder / f"before{image.suffix}"
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    return copy


@pytest.mark.full
def test_snapshots_inside_an_image_are_not_lost(machine: Machine) -> None:
    prepare(machine, "qcow2")
    machine.vdisk("unmount", "my-dev")
    image = machine.disk("my-dev")
    subprocess.run(["qemu-img", "snapshot", "-c", "before", image], check=True)
    before = image.read_bytes()
    refused = machine.vdisk("compact", "my-dev", check=4)
    assert "snapshots in it (1)" in refused.err and "nothing was changed" in refused.err
    assert image.read_bytes() == before
    assert not list(image.parent.glob("*.partial"))
    machine.vdisk("mount", "my-dev", "mnt")  # nothing else minds them
    refused = machine.vdisk("compact", "my-dev", check=4)
    assert os.path.ismount(machine.folder / "mnt")
    machine.vdisk("unmount", "my-dev")
    subprocess.run(["qemu-img", "snapshot", "-d", "before", image], check=True)
    assert "saved" in machine.vdisk("compact", "my-dev").out


@pytest.mark.parametrize("type", TYPES)
def test_the_lines_of_the_specification(machine: Machine, type: str) -> None:
    """A mounted disk is compacted in place, exported, imported: the files are the same everywhere."""
    point = prepare(machine, type)
    before = facts(point)
    image = machine.disk("my-dev")
    full = allocated(image)
    answer = machine.vdisk("compact", f"my-dev.{type}")
    assert f"mounted again at {point}" in answer.out
    assert "saved" in answer.out
    assert facts(point) == before
    assert allocated(image) < full - 25 * MIB
    (point / "later").write_text("it can be written to")
    machine.vdisk("unmount", "my-dev")
    with raw_of(image) as raw:
        check_filesystem(raw, partition(machine))
    assert not list(image.parent.glob("*.partial"))
    machine.vdisk("export", "--disk", f"my-dev.{type}", "--output", "portable-dev.zip")
    machine.vdisk("import", "portable-dev.zip", "--name", "copy")
    machine.vdisk("mount", "copy", "copy")
    assert {name: fact for name, fact in facts(machine.folder / "copy").items() if name != b"later"} == before


@pytest.mark.parametrize("type", MOSTLY_ONE)
def test_a_second_run_does_nothing(machine: Machine, type: str) -> None:
    prepare(machine, type)
    machine.vdisk("unmount", "my-dev")
    copy = copy_of(machine)
    first = machine.vdisk("compact", "--disk", "my-dev", "--json").json
    assert first["result"]["changed"] and first["result"]["saved_bytes"] > 25 * MIB
    assert difference_in_use(copy, machine.disk("my-dev"), partition(machine)) is None
    about = machine.disk("my-dev").stat()
    second = machine.vdisk("compact", "my-dev", "--json").json
    assert second["tasks"]["run"] == 0
    assert (second["result"]["changed"], second["result"]["saved_bytes"]) == (False, 0)
    assert second["result"]["before_bytes"] == second["result"]["after_bytes"] == about.st_blocks * 512
    now = machine.disk("my-dev").stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_ctime_ns) == (about.st_ino, about.st_mtime_ns, about.st_ctime_ns)
    assert "compact already" in machine.vdisk("compact", "my-dev").out
    machine.doit("compact:my-dev")
    assert machine.disk("my-dev").stat().st_ino == about.st_ino
    # Mounted, nobody can tell without unmounting; it stays where it is, untouched.
    machine.vdisk("mount", "my-dev", "mnt", "--read-only")
    assert "compact already" in machine.vdisk("compact", "my-dev").out
    disk = machine.vdisk("info", "my-dev", "--json").result["disk"]
    assert disk["mount_point"] == str(machine.folder / "mnt")
    assert disk["read_only"] is True
    assert machine.disk("my-dev").stat().st_ino == about.st_ino


@pytest.mark.parametrize("type", MOSTLY_ONE)
def test_a_disk_in_use_is_left_alone_and_trimmed_where_possible(machine: Machine, type: str) -> None:
    point = prepare(machine, type)
    before = facts(point)
    full = allocated(machine.disk("my-dev"))
    with (point / "kept").open("rb"):
        answer = machine.vdisk("compact", "my-dev")
        assert len(answer.out.splitlines()) == 1
        assert "not compacted" in answer.out and "in use by" in answer.out
        result = machine.vdisk("compact", "my-dev", "--json").result
        assert result["skipped"]
        assert result["disk"]["mount_point"] == str(point)
    assert facts(point) == before
    given = full - allocated(machine.disk("my-dev"))
    assert (given > 25 * MIB) == (type == "img")
    assert "shell" in machine.vdisk("compact", "my-dev", folder=point).out


@pytest.mark.parametrize("type", MOSTLY_ONE)
def test_after_a_failure_it_is_mounted_again(machine: Machine, type: str) -> None:
    point = prepare(machine, type)
    before = facts(point)
    other = machine.folder / "other name"
    other.hardlink_to(machine.disk("my-dev"))
    assert "hard link" in machine.vdisk("compact", "my-dev", check=4).err
    assert machine.vdisk("info", "my-dev", "--json").result["disk"]["mount_point"] == str(point)
    assert facts(point) == before
    other.unlink()
    machine.vdisk("compact", "my-dev")
    assert facts(point) == before


@pytest.mark.parametrize("type", MOSTLY_ONE)
def test_stopped_it_is_mounted_again_and_goes_on(machine: Machine, type: str) -> None:
    point = prepare(machine, type)
    before = facts(point)
    image = machine.disk("my-dev")
    partial = image.with_name(image.name + ".compact.partial")
    machine.vdisk("list")
    process = machine.start("compact", "my-dev")
    while allocated(partial) < 2 * MIB and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert machine.vdisk("info", "my-dev", "--json").result["disk"]["mount_point"] == str(point)
    assert facts(point) == before
    machine.vdisk("compact", "my-dev")
    assert not partial.exists()
    assert facts(point) == before


@pytest.mark.parametrize("type", MOSTLY_ONE)
def test_killed_at_any_byte_it_goes_on(machine: Machine, request: pytest.FixtureRequest, type: str) -> None:
    point = prepare(machine, type)
    before = facts(point)
    machine.vdisk("unmount", "my-dev")
    copy = copy_of(machine)
    image = machine.disk("my-dev")
    partial = image.with_name(image.name + ".compact.partial")
    dice = random.Random(4)
    killed = 0
    for _ in range(12 if request.config.getoption("--full") else 2):
        subprocess.run(["cp", "--sparse=always", copy, image], check=True)
        threshold = dice.random() * 14 * MIB
        killed += kill_at(machine, ("compact", "my-dev"), lambda: allocated(partial), threshold) >= 0
        assert difference_in_use(copy, image, partition(machine)) is None
        machine.vdisk("compact", "my-dev")
        assert not partial.exists()
        assert difference_in_use(copy, image, partition(machine)) is None
        assert allocated(image) < allocated(copy) - 25 * MIB
    assert killed
    machine.vdisk("mount", "my-dev", "mnt")
    assert facts(point) == before


@pytest.mark.parametrize("type", MOSTLY_ONE)
def test_killed_while_it_was_unmounted_or_mounting(machine: Machine, request: pytest.FixtureRequest, type: str) -> None:
    """Whatever the moment: the next mount, or the next compact, just works."""
    point = prepare(machine, type)
    before = facts(point)
    dice = random.Random(6)
    for number in range(16 if request.config.getoption("--full") else 3):
        if machine.vdisk("info", "my-dev", "--json").result["disk"]["mount_point"] is None:
            machine.vdisk("mount", "my-dev", "mnt")
        (point / "gone").write_bytes(os.urandom(20 * MIB))
        os.sync()
        (point / "gone").unlink()
        group = group_of(machine)
        process = machine.start("compact", "my-dev")
        time.sleep(0.1 + 1.5 * dice.random())
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        process.communicate()
        machine.vdisk("compact" if number % 2 else "mount", "my-dev", *([] if number % 2 else ["mnt"]))
        machine.vdisk("mount", "my-dev", "mnt")
        assert facts(point) == before
    machine.vdisk("unmount", "my-dev")
    with raw_of(machine.disk("my-dev")) as raw:
        check_filesystem(raw, partition(machine))


@pytest.mark.parametrize("type", MOSTLY_ONE)
def test_a_journal_that_waits_is_replayed_first(machine: Machine, type: str) -> None:
    point = prepare(machine, type)
    (point / "last").write_text("only in the journal")
    subprocess.run(["sync", "-f", point], check=True)
    crashed = copy_of(machine)
    before = facts(point)
    machine.vdisk("unmount", "my-dev")
    subprocess.run(["cp", crashed, machine.disk("my-dev")], check=True)
    assert "saved" in machine.vdisk("compact", "my-dev").out
    machine.vdisk("mount", "my-dev", "mnt")
    assert facts(point) == before


def test_an_import_after_compact_knows_the_disk(machine: Machine) -> None:
    """Compacting doesn't count as using the disk; using it does."""
    prepare(machine, "vhd")
    machine.vdisk("unmount", "my-dev")
    machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    machine.vdisk("import", "a.zip", "--name", "copy")
    machine.vdisk("compact", "copy")
    assert "exists already with this content" in machine.vdisk("import", "a.zip", "--name", "copy").out
    machine.vdisk("mount", "copy", "mnt")
    (machine.folder / "mnt" / "file").write_text("used")
    machine.vdisk("unmount", "copy")
    machine.vdisk("compact", "copy")
    assert "exists already" in machine.vdisk("import", "a.zip", "--name", "copy", check=4).err


def test_what_cannot_be_compacted_says_so(machine: Machine) -> None:
    assert "no disk called" in machine.vdisk("compact", "nothing", check=3).err
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", "--type", "img")
    image = machine.disk("my-dev")
    with image.open("r+b") as file:
        file.seek(partition(machine).start + 1024 + 0x38)
        file.write(b"XX")
    answer = machine.vdisk("compact", "my-dev", check=4)
    assert "no ext4 filesystem" in answer.err
    assert "nothing was changed" in answer.err


def test_delete_takes_what_a_killed_compact_left(machine: Machine) -> None:
    prepare(machine, "img")
    machine.vdisk("unmount", "my-dev")
    image = machine.disk("my-dev")
    partial = image.with_name(image.name + ".compact.partial")
    kill_at(machine, ("compact", "my-dev"), lambda: allocated(partial), 2 * MIB)
    machine.vdisk("delete", "my-dev", "--yes")
    assert list(image.parent.iterdir()) == []
