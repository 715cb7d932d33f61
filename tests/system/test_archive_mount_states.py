"""Looking into an older generation, an encrypted archive, a delta."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from looking import archived, assert_nothing_left, mounted
from machine import Machine


def changed(machine: Machine, text: str) -> None:
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / "app" / "state").write_text(text)
    machine.vdisk("unmount", "mnt")


def test_an_older_generation(machine: Machine) -> None:
    archive = archived(machine)
    changed(machine, "second")
    machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    state = machine.folder / "look" / "app" / "state"
    first = mounted(machine, "a.zip", "look", "--generation", "1")
    assert first["generation"] == 1
    assert not state.exists()
    assert mounted(machine, "a.zip", "look", "--generation", "1") == first | {"changed": False}
    other = machine.vdisk("archive", "mount", "a.zip", "look", check=4)
    assert "generation 1" in other.err
    assert "unmount" in other.err
    machine.vdisk("archive", "unmount", "look")
    assert_nothing_left(machine, archive, first["server_pid"])
    newest = mounted(machine, "a.zip", "look")
    assert newest["generation"] == 2
    assert state.read_text() == "second"
    machine.vdisk("archive", "unmount", "look")
    assert "no generation 3" in machine.vdisk("archive", "mount", "a.zip", "look", "--generation", "3", check=3).err
    assert_nothing_left(machine, archive, newest["server_pid"])


def test_an_encrypted_archive(machine: Machine) -> None:
    archived(machine)
    (machine.folder / "secret").write_text("correct horse\n")
    (machine.folder / "wrong").write_text("battery staple\n")
    machine.vdisk("export", "--disk", "my-dev", "--output", "e.zip", "--encrypted", "--password-file", "secret")
    archive = machine.folder / "e.zip"
    assert "password" in machine.vdisk("archive", "mount", "e.zip", "look", check=4).err
    machine.vdisk("archive", "mount", "e.zip", "look", "--password-file", "wrong", check=5)
    assert not (machine.folder / "look").exists()
    server = mounted(machine, "e.zip", "look", "--password-file", "secret")["server_pid"]
    assert (machine.folder / "look" / "app" / "hard link").exists()
    for place in ("cmdline", "environ"):
        assert b"horse" not in Path(f"/proc/{server}/{place}").read_bytes()
    log = (machine.home / "logs" / "vdisk-archive-mounts.log").read_text()
    assert "horse" not in log
    machine.vdisk("archive", "unmount", "look")
    assert_nothing_left(machine, archive, server)


@pytest.mark.full
def test_a_delta_whose_base_is_elsewhere(machine: Machine) -> None:
    archived(machine)
    changed(machine, "after the base")
    machine.vdisk("export", "--disk", "my-dev", "--base", "a.zip", "--output", "d.zip")
    (machine.folder / "other").mkdir()
    os.rename(machine.folder / "a.zip", machine.folder / "other" / "a.zip")
    refused = machine.vdisk("archive", "mount", "d.zip", "look", check=4)
    assert "a.zip" in refused.err
    server = mounted(machine, "d.zip", "look", "--base", "other/a.zip")["server_pid"]
    assert (machine.folder / "look" / "app" / "state").read_text() == "after the base"
    assert (machine.folder / "look" / "app" / "hard link").exists()
    machine.vdisk("archive", "unmount", "look")
    assert_nothing_left(machine, machine.folder / "d.zip", server)
