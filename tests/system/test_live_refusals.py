"""What forbids the export of a mounted disk, what interrupts it, and who may do it."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from pathlib import Path

import pytest
from blocks import check_filesystem, raw_of
from machine import Machine
from person import person

from portunix_vdisk.platform.base import Partition
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.linux.state import ROOT as STATES
from portunix_vdisk.platform.linux.state import key_of
from portunix_vdisk.platform.linux.storage_daemon import StorageDaemon
from portunix_vdisk.tests.support.chunks import noise


@pytest.fixture
def mounted(machine: Machine) -> Machine:
    machine.vdisk("create", "--name", "my-dev", "--size", "100MB")
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt/file").write_bytes(noise(3_000_000, 1))
    return machine


@pytest.mark.full
def test_nothing_that_we_write_may_lie_on_the_disk(mounted: Machine, tmp_path: Path) -> None:
    point = mounted.folder / "mnt"
    export = ("export", "--disk", "my-dev", "--output")
    refused = mounted.vdisk(*export, "mnt/a.zip", check=4)
    assert "on the disk itself" in refused.err
    bound = tmp_path / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", point, bound], check=True)
    try:
        refused = mounted.vdisk(*export, bound / "a.zip", check=4)
        assert "lies on" in refused.err and "itself" in refused.err
    finally:
        subprocess.run(["umount", bound], check=True)
    # The log and what else we write, moved there by a person short of space.
    logs = mounted.home / "logs"
    for path in logs.iterdir():
        path.unlink()
    logs.rmdir()
    (point / "logs").mkdir()
    logs.symlink_to(point / "logs")
    mounted.kill_plugin()
    refused = mounted.vdisk(*export, "a.zip", check=4)
    assert "log" in refused.err and "unmount my-dev" in refused.err
    mounted.kill_plugin()
    time.sleep(0.2)
    logs.unlink()
    mounted.environment["TMPDIR"] = str(point)
    refused = mounted.vdisk(*export, "a.zip", check=4)
    assert "temporary files" in refused.err
    mounted.kill_plugin()
    del mounted.environment["TMPDIR"]
    assert not (mounted.folder / "a.zip").exists() and not (mounted.folder / "a.zip.partial").exists()
    assert mounted.vdisk(*export, "a.zip", "--json").result["changed"]


@pytest.mark.full
@pytest.mark.parametrize("type", ["vhd", "qcow2"])
def test_a_btrfs_disk_can_be_exported_while_it_is_mounted(machine: Machine, type: str) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "300MB", "--fs", "btrfs", "--type", type)
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt/file").write_bytes(noise(3_000_000, 1))
    result = machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
    assert result["waited_seconds"] is not None
    refused = machine.vdisk("export", "--disk", "my-dev", "--output", "mnt/a.zip", check=4)
    assert "on the disk itself" in refused.err or "lies on my-dev itself" in refused.err
    machine.vdisk("unmount", "my-dev")
    machine.vdisk("import", "a.zip", "--name", "copy")
    machine.vdisk("mount", "copy", "mnt")
    assert (machine.folder / "mnt/file").read_bytes() == noise(3_000_000, 1)
    machine.vdisk("unmount", "copy")


@pytest.mark.full
def test_a_disk_that_is_mounted_for_reading_needs_no_snapshot(mounted: Machine) -> None:
    mounted.vdisk("unmount", "my-dev")
    mounted.vdisk("mount", "my-dev", "mnt", "--read-only")
    result = mounted.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
    assert result["changed"] and result["waited_seconds"] is None
    again = mounted.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
    assert not again["changed"]


@pytest.mark.full
def test_killed_exports_leave_the_disk_in_use_and_continue(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "300MB")
    machine.vdisk("mount", "my-dev", "mnt")
    point = machine.folder / "mnt"
    for number in range(20):
        (point / f"file{number}").write_bytes(noise(4_000_000, number))
    partial = machine.folder / "a.zip.partial"
    for least in (10_000_000, 40_000_000):
        machine.vdisk("list")
        pid = machine.plugin_pid()
        assert pid is not None
        group = os.getpgid(pid)
        running = machine.start("export", "--disk", "my-dev", "--output", "a.zip", "--level", "12")
        while running.poll() is None and not (partial.exists() and partial.stat().st_size > least):
            time.sleep(0.005)
        os.killpg(group, signal.SIGKILL)
        running.communicate()
        assert partial.exists() and not (machine.folder / "a.zip").exists()
        began = time.monotonic()
        (point / f"after{least}").write_bytes(noise(1_000_000, least))
        subprocess.run(["sync", "-f", point], check=True)
        print(f"killed: the next write took {time.monotonic() - began:.2f} s")
    result = machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
    assert result["reused_bytes"] > 30_000_000
    machine.vdisk("unmount", "my-dev")
    machine.vdisk("import", "a.zip", "--name", "copy")
    partition = Partition(**machine.vdisk("info", "copy", "--json").result["disk"]["partition"])
    with raw_of(machine.disk("copy")) as raw:
        check_filesystem(raw, partition)
    machine.vdisk("mount", "copy", "copy")
    for number in range(20):
        assert (machine.folder / f"copy/file{number}").read_bytes() == noise(4_000_000, number)
    assert (machine.folder / "copy/after40000000").exists()
    machine.vdisk("unmount", "copy")


@pytest.mark.full
def test_stopped_on_request_nothing_is_kept_in_the_daemon(mounted: Machine) -> None:
    (mounted.folder / "mnt/more").write_bytes(noise(40_000_000, 2))
    folder = STATES / key_of(mounted.disk("my-dev").stat())
    partial = mounted.folder / "a.zip.partial"

    def nodes() -> int:
        with StorageDaemon(folder, Commands()).talk() as monitor:
            found = monitor.execute("query-named-block-nodes", {"flat": True})
        assert isinstance(found, list)
        return len(found)

    before = nodes()
    running = mounted.start("export", "--disk", "my-dev", "--output", "a.zip", "--level", "19")
    while running.poll() is None and not (partial.exists() and partial.stat().st_size > 5_000_000):
        time.sleep(0.005)
    assert nodes() > before
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert nodes() == before
    assert mounted.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result["reused_bytes"] > 4_000_000
    assert nodes() == before


@pytest.mark.full
def test_an_ordinary_user_exports_what_they_have_mounted() -> None:
    with person(sudo=True) as user:
        uid = pwd.getpwnam(user.name).pw_uid
        user.vdisk("create", "--name", "mine", "--size", "64MB", "--type", "img")
        user.vdisk("mount", "mine", "mnt", "--live")
        user.run("sh", "-c", "head -c 5000000 /dev/urandom > mnt/file", check=0)
        user.vdisk("export", "--disk", "mine", "--output", "mine.zip")
        user.vdisk("import", "mine.zip", "--name", "copy")
        user.vdisk("mount", "copy", "copy")
        user.run("cmp", "mnt/file", "copy/file", check=0)
        user.vdisk("unmount", "copy")
        user.vdisk("unmount", "mnt")
        left = [path for path in user.folder.rglob("*") if path.lstat().st_uid != uid]
        assert left == []
        user.run("portunix", "plugin", "stop", "vdisk", check=0)
