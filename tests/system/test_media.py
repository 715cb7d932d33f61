"""Exports to what people really plug in: FAT, and media that are full before the archive is whole."""

from __future__ import annotations

import json
import random
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from machine import Machine
from media import fat, make_fat, run, small_ext4

MB = 1 << 20


def noise(length: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(length)


def put(machine: Machine, name: str, content: bytes) -> None:
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / name).write_bytes(content)
    machine.vdisk("unmount", "my-dev")


def files_of(machine: Machine, disk: str) -> dict[str, bytes]:
    machine.vdisk("mount", disk, "look", "--read-only")
    found = {path.name: path.read_bytes() for path in (machine.folder / "look").iterdir() if path.is_file()}
    machine.vdisk("unmount", disk)
    return found


@pytest.fixture
def filled(machine: Machine) -> Machine:
    machine.vdisk("create", "--name", "my-dev", "--size", "128MB")
    put(machine, "first", noise(12 * MB, 1))
    return machine


def test_on_fat_an_archive_is_in_volumes_by_itself(filled: Machine, tmp_path: Path) -> None:
    """No file on FAT can have 4 GiB. What is on the medium is read by another program than the one that wrote it.

    Nothing is appended to files here that were closed: FAT's driver in user space fails at that for some sizes
    (1000 bytes and 3 MB behind them: EPERM), though the kernel's doesn't.
    """
    medium, stick = tmp_path / "stick.fat", filled.folder / "stick"
    make_fat(medium, 100 * MB)
    with fat(medium, stick):
        filled.vdisk("export", "--disk", "my-dev", "--output", "stick/whole.zip")
        assert [path.name for path in stick.glob("whole.zip*")] == ["whole.zip.001"]
        with zipfile.ZipFile(stick / "whole.zip.001") as opened:
            assert json.loads(opened.read("portunix-vdisk.json"))["volume_size"] == 4_000_000_000
        filled.vdisk("export", "--disk", "my-dev", "--output", "stick/cut.zip", "--split", "5MiB")
        assert [path.name for path in sorted(stick.glob("cut.zip*"))] == ["cut.zip.001", "cut.zip.002", "cut.zip.003"]
        again = filled.vdisk("export", "--disk", "my-dev", "--output", "stick/cut.zip", "--json").result
        assert not again["changed"]
    volumes = [tmp_path / f"cut.zip.00{number}" for number in (1, 2, 3)]
    for volume in volumes:
        run("mcopy", "-i", medium, f"::{volume.name}", volume)
    joined = tmp_path / "joined.zip"
    joined.write_bytes(b"".join(volume.read_bytes() for volume in volumes))
    run("unzip", "-tqq", joined)
    with fat(medium, stick):  # another machine
        filled.vdisk("verify", "stick/cut.zip")
        assert import_as(filled, "stick/cut.zip.001", "copy") == {"first": noise(12 * MB, 1)}
        assert import_as(filled, "stick/whole.zip", "other") == {"first": noise(12 * MB, 1)}


def import_as(machine: Machine, archive: str, name: str) -> dict[str, bytes]:
    machine.vdisk("import", archive, "--name", name)
    return files_of(machine, name)


@pytest.mark.parametrize(
    "split",
    [pytest.param((), id="one file"), pytest.param(("--split", "3MiB"), id="volumes", marks=pytest.mark.full)],
)
def test_a_full_medium_costs_nothing_but_patience(filled: Machine, tmp_path: Path, split: tuple[str, ...]) -> None:
    """First export and update: what was written stays and is used, the former archive holds, the image is untouched."""
    words = ("export", "--disk", "my-dev", "--output", "medium/a.zip", *split)
    put(filled, "more", noise(14 * MB, 3))
    first = {"first": noise(12 * MB, 1), "more": noise(14 * MB, 3)}
    image = filled.disk("my-dev")
    with small_ext4(filled.folder, 96 * MB) as medium:
        ballast = medium / "holiday.mp4"
        fill(ballast, leave=23 * MB)  # nearly enough: it is begun, with a warning
        before = look(image)
        stopped = filled.vdisk(*words, check=1)
        assert_full(stopped.err, medium / "a.zip.partial")
        assert names(medium) == {"a.zip.partial.*" if split else "a.zip.partial"} and look(image) == before
        kept = size_of(medium, "a.zip.partial")
        assert kept > 17 * MB
        filled.vdisk(*words, check=4)  # there is none at all now, and nothing is begun
        assert size_of(medium, "a.zip.partial") >= kept * 0.99
        ballast.unlink()
        done = filled.vdisk(*words, "--json").result
        assert done["reused_bytes"] >= kept * 0.9
        assert names(medium) == {"a.zip.*" if split else "a.zip"}
        assert import_as(filled, "medium/a.zip", "one") == first

        put(filled, "second", noise(22 * MB, 2))
        fill(ballast, leave=37 * MB)  # room for the new generation, but not for it and its copy at the archive's end
        stopped = filled.vdisk(*words, check=1)
        for said in ("cannot add the new generation", "No space left", "former generations", "a.zip.next"):
            assert said in stopped.err
        assert import_as(filled, "medium/a.zip", "two") == first, "half a generation behind it is no part of it"
        ballast.unlink()
        done = filled.vdisk(*words, "--json").result
        assert done["generations"] == [1, 2], "what was ready is added, and not made once more"
        assert names(medium) == {"a.zip.*" if split else "a.zip"}
        assert filled.vdisk("verify", "medium/a.zip", "--json").result["generations"] == [1, 2]
        assert import_as(filled, "medium/a.zip", "three") == first | {"second": noise(22 * MB, 2)}


def fill(file: Path, leave: int) -> None:
    """Fill the medium with something else, but for so many bytes."""
    run("fallocate", "-l", str(shutil.disk_usage(file.parent).free - leave), file)


def look(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def size_of(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"{name}*"))


def names(medium: Path) -> set[str]:
    """What of an archive is on the medium; ``.*`` stands for numbers of volumes."""
    return {re.sub(r"[.][0-9]{3}$", ".*", path.name) for path in medium.glob("a.zip*")}


def assert_full(said: str, file: Path) -> None:
    """What a person reads: that there is no room, where it is missing, that all is kept, and what to do."""
    for words in (f"no space left for {file}", "is kept", "free some space", "same command to continue"):
        assert words in said, said
