"""Ordinary programs read every sort of unencrypted archive: ``unzip``, 7-Zip, Python's ``zipfile``."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from portunix_vdisk.steps.archive.packing import STORE
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.rewrite import Rewrite
from portunix_vdisk.steps.archive.storage import volumes_of
from portunix_vdisk.tests.support.chunks import CHUNK, noise


def single(house: Any) -> None:
    house.export()


def stored(house: Any) -> None:
    house.options["level"] = STORE
    house.export()


def generations(house: Any) -> None:
    """Three, of which two are kept: patches, dead members, former indexes and directories lie in between."""
    house.export()
    for number in (1, 2):
        house.change(number * CHUNK + 10_000, noise(5000, 70 + number))
        house.change(0, noise(CHUNK // 2, 80 + number))
        house.export()


def rewritten(house: Any) -> None:
    generations(house)
    house.new_process()
    Rewrite(house.output, (3,)).run(house.ctx)


def resumed(house: Any) -> None:
    """Killed and gone on with after a change: records that the directory doesn't list lie between the members."""
    house.pack(5, only=[0, 1, 2])
    house.new_process()
    house.change(CHUNK, noise(9000, 90))
    house.export(5)


def delta(house: Any) -> None:
    house.export()
    house.options["base"] = house.output
    house.output = house.folder / "tuesday.zip"
    house.change(CHUNK + 70_000, noise(9000, 91))
    house.change(2 * CHUNK, noise(CHUNK, 92))
    house.export()


def volumes(house: Any) -> None:
    """A generation in volumes is another one: its offsets go on over their borders."""
    house.options["volume_size"] = 1 << 20
    generations(house)
    assert len(volumes_of(house.output)) > 3


KINDS = (single, stored, generations, rewritten, resumed, delta, volumes)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def archive(request: pytest.FixtureRequest, house: Any) -> Path:
    """One archive of each sort in one file, as ``cat`` makes it of volumes; equal and repeated pieces are in it."""
    make: Callable[[Any], None] = request.param
    text = b"".join(b"line %d of a text that compresses\n" % number for number in range(20_000))
    pieces = (noise(CHUNK, 1), text, noise(300_000, 2), text, noise(CHUNK, 3))
    house.make(6 * CHUNK + 1234, {number * CHUNK: piece for number, piece in enumerate(pieces)})
    make(house)
    joined: Path = house.folder / "joined.zip"
    with joined.open("wb") as whole:
        subprocess.run(["cat", *volumes_of(house.output)], stdout=whole, check=True)
    return joined


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def members_of(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


def test_seven_zip_finds_no_fault(archive: Path) -> None:
    said = run("7z", "t", archive)
    assert "Everything is Ok" in said and "Warning" not in said and "Error" not in said, said
    listed = run("7z", "l", "-ba", "-slt", archive)
    assert [line.removeprefix("Path = ") for line in listed.splitlines() if line.startswith("Path = ")] == members_of(
        archive
    )


def test_unzip_finds_no_fault(archive: Path) -> None:
    said = run("unzip", "-t", archive)
    assert f"No errors detected in compressed data of {archive}" in said, said
    assert all(name in said for name in members_of(archive))


def test_pythons_zipfile_reads_it(archive: Path, house: Any) -> None:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        assert all(one.compress_type == zipfile.ZIP_STORED for one in opened.infolist())
        if house.options.get("level") != STORE:
            return
        with ArchiveReader(house.output) as reader:  # what is stored as it is can be used as it is
            for chunk in reader.index.chunks:
                assert blake3(opened.read(chunk.member)).digest() == chunk.digest


def test_they_notice_damage(archive: Path) -> None:
    """So that their silence means something."""
    with zipfile.ZipFile(archive) as opened:
        largest = max(opened.infolist(), key=lambda one: one.file_size)
    place = largest.header_offset + 30 + len(largest.filename) + 56 + largest.file_size // 2
    content = bytearray(archive.read_bytes())
    content[place] ^= 1
    archive.write_bytes(content)
    for command in (("7z", "t"), ("unzip", "-tqq")):
        assert subprocess.run([*command, archive], capture_output=True, check=False).returncode == 2
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() == largest.filename
