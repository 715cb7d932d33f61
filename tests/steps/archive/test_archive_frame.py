"""Damage to what holds an archive together: directory, documents, indexes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from archive_bytes import content, write

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.directory import directory_bytes, read_directory
from portunix_vdisk.steps.archive.frame import RepairFrame
from portunix_vdisk.steps.archive.keyring import forget_keys
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import header_length
from portunix_vdisk.steps.archive.storage import ArchiveFile, volumes_of
from portunix_vdisk.steps.archive.unlock import read_lock
from portunix_vdisk.steps.archive.verify import VerifyArchive
from portunix_vdisk.tests.support.chunks import CHUNK, noise


@pytest.fixture
def disk(each_way: Any) -> Any:
    return each_way


def two_generations(disk: Any) -> bytes:
    disk.options["keep"] = 1
    disk.export()
    disk.change(CHUNK + 70_000, noise(5000, 50))
    disk.change(2 * CHUNK, noise(9000, 51))
    disk.export()
    return content(disk.output)


def mend(disk: Any, *copies: Path) -> Any:
    return RepairFrame(disk.output, copies).run(disk.ctx)


def span(disk: Any) -> tuple[int, int]:
    with ArchiveFile(disk.output) as file:
        directory = read_directory(file)
    return directory.start, directory.end


@pytest.mark.parametrize(
    ("part", "length"),
    [
        ("middle", 200),
        ("end", 64),
        *(pytest.param(*case, marks=pytest.mark.full) for case in [("first", 64), ("first", 200), ("middle", 64)]),
    ],
)
def test_a_directory_is_put_together_again(disk: Any, part: str, length: int) -> None:
    before = two_generations(disk)
    start, end = span(disk)
    at = {"first": start, "middle": (start + end) // 2, "end": end - length}[part]
    write(disk, at, noise(length, 7))
    with pytest.raises(Corrupt), ArchiveFile(disk.output) as file:
        read_directory(file)
    assert mend(disk)["mended"] == ["directory"]
    assert content(disk.output) == before
    VerifyArchive(disk.output).run(disk.ctx)


def test_a_directory_that_is_all_gone(disk: Any) -> None:
    before = two_generations(disk)
    start, end = span(disk)
    copy = disk.folder / "copy.zip"
    for file in volumes_of(disk.output):
        shutil.copy(file, copy.with_name(copy.name + file.name.removeprefix("disk.zip")))
    for others in ((), (copy,)):
        write(disk, start, bytes(end - start))
        assert mend(disk, *others)["mended"] == ["directory"]
        assert content(disk.output) == before
    if disk.options.get("encrypted"):
        write(disk, start, bytes(end - start))
        damaged = content(disk.output)
        slot = read_lock(disk.output)
        forget_keys()
        with pytest.raises(Corrupt, match="beyond"):
            mend(disk)
        assert content(disk.output) == damaged
        assert mend(disk, copy)["mended"] == ["directory"] and read_lock(disk.output) == slot


def test_an_update_that_was_cut_off_is_no_damage_to_mend(disk: Any) -> None:
    before = two_generations(disk)
    with ArchiveFile(disk.output, writable=True, limit=disk.options.get("volume_size")) as file:
        file.truncate(len(before) - 200)
    cut = content(disk.output)
    with pytest.raises(Corrupt, match="beyond"):
        mend(disk)
    assert content(disk.output) == cut


def test_headers_and_documents_of_every_sort(disk: Any) -> None:
    before = two_generations(disk)
    copy = disk.folder / "copy.zip"
    for file in volumes_of(disk.output):
        shutil.copy(file, copy.with_name(copy.name + file.name.removeprefix("disk.zip")))
    with ArchiveFile(disk.output) as file:
        entries = read_directory(file).entries
    documents = {name: one for name, one in entries.items() if not name.startswith(("chunks/", "sealed/"))}
    assert len(documents) >= 5
    for name, entry in documents.items():
        write(disk, entry.offset + 20, b"?!?!")
        assert mend(disk)["mended"] == [name], "headers tell nothing that the directory and the payload don't"
        assert content(disk.output) == before
        write(disk, entry.offset + header_length(name) + 7, b"?!?!")
        alone = mend(disk)
        assert (alone["mended"], alone["lost"]) == (([name], []) if name == "RECOVER.txt" else ([], [name]))
        assert mend(disk, copy)["lost"] == [] and content(disk.output) == before
    with ArchiveReader(disk.output) as reader:
        assert len(directory_bytes(reader.directory.entries.items(), 0)) > 0


def test_an_archive_on_the_disk_is_not_taken_for_its_own(house: Any) -> None:
    """Its headers are whole and have the very names that ours have."""
    house.make(3 * CHUNK, {n * CHUNK: noise(200_000, n) for n in range(3)})
    house.export()
    inner = house.output.read_bytes()
    house.output.unlink()
    house.new_process()
    house.options["level"] = 0
    house.make(3 * CHUNK, {0: noise(10, 1) + inner + noise(CHUNK - len(inner) - 10, 2), CHUNK: noise(200_000, 3)})
    house.export()
    before = house.output.read_bytes()
    with ArchiveReader(house.output) as reader:
        chunk = next(one for one in reader.index.chunks if one.offset == 0)
        assert chunk.member.endswith(".raw")
        place = reader.directory.entries[chunk.member].offset
    start, end = span(house)
    write(house, place + 5, b"?" * 20)
    write(house, start, bytes(end - start))
    damaged = house.output.read_bytes()
    try:
        mend(house)
    except Corrupt:
        assert house.output.read_bytes() == damaged
    else:
        assert house.output.read_bytes()[start:] == before[start:]


def test_what_only_looks_like_headers_is_given_up_soon(house: Any) -> None:
    house.make(CHUNK, {0: b"x"})
    house.export()
    with house.output.open("ab") as file:
        file.write(b"PK\3\4" * 1_000_000)
    damaged = house.output.read_bytes()
    with pytest.raises(Corrupt, match="beyond"):
        mend(house)
    assert house.output.read_bytes() == damaged
