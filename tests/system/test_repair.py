"""``repair``: a disk whose storage daemon was killed is checked and mounted again where it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from machine import Machine

from portunix_vdisk.platform.linux import state


def daemon_of(image: Path) -> int:
    note = state.read(state.ROOT / state.key_of(image.stat()))
    assert note is not None and note.daemon_pid
    return note.daemon_pid


@pytest.mark.parametrize("password", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_disk_without_its_daemon_is_told_and_mended(machine: Machine, password: bool) -> None:
    (machine.folder / "password").write_text("correct horse battery")
    secret = ("--password-file", "password") if password else ()
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", *(("--encrypted", *secret) if password else ()))
    machine.vdisk("mount", "my-dev", "mnt/here", *secret)
    point = machine.folder / "mnt/here"
    (point / "file").write_text("synced")
    os.sync()
    os.kill(daemon_of(machine.disk("my-dev")), signal.SIGKILL)

    disk = machine.vdisk("info", "my-dev", "--json").result["disk"]
    assert "has died" in disk["problem"] and "input/output errors" in disk["problem"]
    assert disk["mount_point"] == str(point)
    assert "problem: the storage daemon" in machine.vdisk("list").out
    assert "portunix vdisk repair my-dev" in machine.vdisk("info", "my-dev").out

    with (point / "file").open() as file:
        busy = machine.vdisk("repair", "my-dev", *secret, check=4)
        assert f"pid {os.getpid()} " in busy.err
        file.close()
    repaired = machine.vdisk("repair", "my-dev", "--json", *secret)
    assert repaired.result["changed"]
    assert repaired.result["disk"]["mount_point"] == str(point)
    assert repaired.result["disk"]["problem"] == ""
    assert (point / "file").read_text() == "synced"
    (point / "second").write_text("works")
    again = machine.vdisk("repair", "my-dev", *secret)
    assert "nothing is wrong" in again.out
    machine.vdisk("unmount", "my-dev")
    whole = machine.vdisk("repair", "my-dev", *secret)
    assert "my-dev is whole" in whole.out and "clean" in whole.err
    assert machine.vdisk("list", "--json").result["disks"][0]["device"] is None


@pytest.mark.full
def test_a_file_that_is_gone_is_not_taken_away_for_good(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    machine.vdisk("mount", "my-dev", "mnt")
    image = machine.disk("my-dev")
    (machine.folder / "mnt/file").write_text("content")
    image.rename(image.with_name("elsewhere"))
    refused = machine.vdisk("repair", "my-dev", check=4)
    assert "deleted or moved" in refused.err and "copy what you need" in refused.err
    assert (machine.folder / "mnt/file").read_text() == "content"
    image.with_name("elsewhere").rename(image)
    assert not machine.vdisk("repair", "my-dev", "--json").result["changed"]
    machine.vdisk("unmount", "my-dev")
