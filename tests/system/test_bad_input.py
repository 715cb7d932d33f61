"""Bad input gets its own clear answer: the exit code and the words that a person needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from machine import Machine


def test_names_sizes_and_places(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    for name in ("a/b", "a:b", "-x", ".", "", "a b", "a*", "x.vhd", "CON", "a=b", "x" * 65):
        answer = machine.vdisk("create", f"--name={name}", "--size", "64MB", check=2)
        assert answer.err.startswith("error: "), name
        assert "Traceback" not in answer.err
    for size in ("big", "0", "-5GB", "1e9", "12XB", "1KB", "9PB"):
        answer = machine.vdisk("create", "--name", "other", f"--size={size}", check=2)
        assert "Traceback" not in answer.err
    assert "free" in machine.vdisk("create", "--name", "other", "--size", "1900GB", check=4).err
    assert "does not exist" in machine.vdisk("create", "--name", "o", "--size", "64MB", "--path", "none/", check=3).err
    assert "exists already" in machine.vdisk("create", "--name", "my-dev", "--size", "80MB", check=4).err
    (machine.folder / "o.vhd").write_text("precious")
    assert "exists" in machine.vdisk("create", "--name", "o", "--size", "64MB", "--path", "o.vhd", check=4).err
    assert (machine.folder / "o.vhd").read_text() == "precious"
    assert [disk["name"] for disk in machine.vdisk("list", "--json").result["disks"]] == ["my-dev"]


def test_unknown_disks_come_with_near_names(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    answer = machine.vdisk("info", "my-dve", check=3)
    assert "did you mean my-dev" in answer.err
    machine.vdisk("mount", "nothing/like/it.vhd", check=3)
    machine.vdisk("unmount", check=3)


def test_relative_paths_mean_the_callers_folder(machine: Machine) -> None:
    elsewhere = machine.folder / "else where"
    elsewhere.mkdir()
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", "--path", ".", folder=elsewhere)
    assert (elsewhere / "my-dev.vhd").is_file()
    assert machine.vdisk("info", "my-dev.vhd", "--json").result["disk"]["name"] == "my-dev"
    assert machine.vdisk("info", "./my-dev.vhd", check=3).code == 3
    assert machine.vdisk("info", "./my-dev.vhd", "--json", folder=elsewhere).result["disk"]["name"] == "my-dev"
    (machine.folder / "my-dev.vhd").write_bytes(b"another file")
    two = machine.vdisk("info", "my-dev.vhd", check=4)
    assert str(elsewhere / "my-dev.vhd") in two.err
    assert str(machine.folder / "my-dev.vhd") in two.err


def test_outputs_and_archives(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    assert "no such folder" in machine.vdisk("export", "--disk", "my-dev", "--output", "none/a.zip", check=3).err
    (machine.folder / "text.zip").write_text("not a zip")
    assert machine.vdisk("export", "--disk", "my-dev", "--output", "text.zip", check=4).err
    assert (machine.folder / "text.zip").read_text() == "not a zip"
    machine.vdisk("export", "--disk", "my-dev", "--output", "./")
    archive = machine.folder / "my-dev.zip"
    assert archive.is_file()
    machine.vdisk("create", "--name", "second", "--size", "64MB")
    other = machine.vdisk("export", "--disk", "second", "--output", "my-dev.zip", check=4)
    assert "another disk" in other.err

    no_archive = machine.vdisk("import", "text.zip", check=4)
    assert "not an archive" in no_archive.err
    machine.vdisk("import", "missing.zip", check=3)
    (machine.folder / "cut.zip").write_bytes(archive.read_bytes()[:-100])
    cut = machine.vdisk("import", "cut.zip", "--name", "cut", check=5)
    assert "truncated" in cut.err or "incomplete" in cut.err
    newer = archive.read_bytes().replace(b'"version": 2', b'"version": 9')
    (machine.folder / "newer.zip").write_bytes(newer)
    assert "newer" in machine.vdisk("import", "newer.zip", "--name", "n", check=None).err
    exists = machine.vdisk("import", "my-dev.zip", check=4)
    assert "--name" in exists.err
    assert {disk["name"] for disk in machine.vdisk("list", "--json").result["disks"]} == {"my-dev", "second"}


def test_options_of_later_versions_say_not_yet(machine: Machine) -> None:
    for words in (("snapshot", "--name", "clean"), ("restore", "--name", "clean")):
        answer = machine.vdisk(*words, check=2)
        assert "not yet" in answer.err, words
        assert "Traceback" not in answer.err


def test_file_names_of_any_bytes(machine: Machine) -> None:
    odd = Path(os.fsdecode(os.fsencode(machine.folder) + b"/caf\xe9"))
    odd.mkdir()
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", "--path", odd)
    shown = machine.vdisk("info", "my-dev", "--json").result["disk"]["path"]
    assert "caf\\xe9" in shown
    machine.vdisk("mount", "my-dev", "mnt")
    (odd / "src").mkdir()
    Path(os.fsdecode(os.fsencode(odd) + b"/src/\xff\xfe")).write_text("x")
    machine.vdisk("sync", "--source", odd / "src", "--target", "mnt/in")
    assert os.listdir(os.fsencode(machine.folder / "mnt" / "in")) == [b"\xff\xfe"]
    machine.vdisk("unmount", "mnt")
    machine.vdisk("export", "--disk", "my-dev", "--output", odd / "a.zip")
    machine.vdisk("import", odd / "a.zip", "--name", "copy")


@pytest.mark.parametrize("target", ["plain", "expected"])
def test_sync_goes_only_to_mounted_disks(machine: Machine, target: str) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    (machine.folder / "src").mkdir()
    (machine.folder / "src" / "file").write_text("x")
    place = machine.folder / "plain"
    if target == "expected":
        place = machine.home / "vdisk" / "mnt" / "my-dev"
    place.mkdir(parents=True)
    answer = machine.vdisk("sync", "--source", "src", "--target", place, check=4)
    assert "mounted" in answer.err
    assert list(place.iterdir()) == []
