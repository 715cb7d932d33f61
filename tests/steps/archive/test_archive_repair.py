"""Damaged archives: mended from a disk or another archive, and never made worse."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from archive_bytes import content, copy, write

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.errors import Corrupt, Refused
from portunix_vdisk.steps.archive import mending, remake
from portunix_vdisk.steps.archive.commit import next_of
from portunix_vdisk.steps.archive.donors import ArchiveSource, DiskSource
from portunix_vdisk.steps.archive.index import Chunk
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import header_length
from portunix_vdisk.steps.archive.repair import RepairChunks
from portunix_vdisk.steps.archive.storage import ArchiveFile, volumes_of
from portunix_vdisk.steps.archive.verify import VerifyArchive
from portunix_vdisk.tests.support.chunks import CHUNK, noise

only_plain = pytest.mark.parametrize("each_way", ["plain"], indirect=True)


@pytest.fixture
def disk(each_way: Any) -> Any:
    return each_way


def rows(disk: Any, generation: int | None = None) -> list[Chunk]:
    with ArchiveReader(disk.output, generation) as reader:
        return list(reader.index.chunks)


def spoil(disk: Any, member: str, at: int = 1000, length: int = 512) -> None:
    """Overwrite a part of a member's payload; from its header with a negative ``at``."""
    with ArchiveReader(disk.output) as reader:
        entry = reader.directory.entries[member]
    write(disk, entry.offset + (header_length(member) if at >= 0 else 0) + (at if at >= 0 else -at), noise(length, at))


def from_disk(disk: Any) -> DiskSource:
    size = disk.image.stat().st_size
    return DiskSource(disk.image, ImageType.IMG, Partition(0, size), "ext4")


def repair(disk: Any, *donors: Any) -> Any:
    return RepairChunks(disk.output, donors).run(disk.ctx)


def assert_whole(disk: Any) -> None:
    VerifyArchive(disk.output).run(disk.ctx)
    disk.import_()
    disk.assert_same()


def test_whatever_is_damaged_comes_back_byte_for_byte_from_the_disk(disk: Any) -> None:
    disk.export()
    before = content(disk.output)
    for number, chunk in enumerate(rows(disk)):
        spoil(disk, chunk.member, at=700 * number)
    with pytest.raises(Corrupt):
        VerifyArchive(disk.output).run(disk.ctx)
    result = repair(disk, from_disk(disk))
    assert (result["damaged_chunks"], result["mended_in_place"], result["appended_chunks"]) == (4, 4, 0)
    assert result["whole_generations"] == [1] and not result["lost"]
    assert content(disk.output) == before and result["written_bytes"] <= 4 * 2 * mending.PAGE
    assert_whole(disk)
    again = repair(disk, from_disk(disk))
    assert (again["damaged_chunks"], again["written_bytes"]) == (0, 0)


def test_headers_need_no_donor(disk: Any) -> None:
    disk.export()
    before = content(disk.output)
    spoil(disk, rows(disk)[2].member, at=-5, length=40)
    assert repair(disk)["mended_in_place"] == 1
    assert content(disk.output) == before


def test_generations_patches_and_what_patches_rest_on(disk: Any) -> None:
    disk.options["keep"] = 3
    disk.export()
    older = copy(disk.output, disk.folder / "older.zip")
    disk.change(CHUNK + 70_000, noise(5000, 50))
    disk.change(3 * CHUNK, b"changed")
    disk.export()
    before = content(disk.output)
    patch = next(chunk for chunk in rows(disk) if chunk.base and chunk.offset == CHUNK)
    assert patch.base is not None
    spoil(disk, patch.base.member)
    lost = repair(disk, from_disk(disk))
    # The disk has what the patch makes, but no longer what it is against: that state stays damaged, this one doesn't.
    assert (lost["damaged_generations"], lost["whole_generations"]) == ([1], [2])
    assert [one["generations"] for one in lost["lost"]] == [[1]]
    result = repair(disk, ArchiveSource(older))
    assert result["whole_generations"] == [1, 2]
    VerifyArchive(disk.output).run(disk.ctx)
    disk.import_()
    disk.assert_same()
    assert content(disk.output)[: len(before)] == before


def test_a_damaged_patch_is_made_again(disk: Any) -> None:
    disk.export()
    disk.change(CHUNK + 70_000, noise(5000, 50))
    disk.export()
    before = content(disk.output)
    patch = next(chunk for chunk in rows(disk) if chunk.base)
    assert patch.base is not None
    spoil(disk, patch.member, at=200)
    assert repair(disk, from_disk(disk))["mended_in_place"] == 1
    assert content(disk.output) == before
    assert_whole(disk)


def test_a_copy_gives_its_members_as_they_are(disk: Any) -> None:
    disk.export()
    before = content(disk.output)
    other = copy(disk.output, disk.folder / "other.zip")
    for chunk in rows(disk):
        spoil(disk, chunk.member, at=0, length=2000)
    disk.image.write_bytes(bytes(disk.image.stat().st_size))
    assert repair(disk, from_disk(disk), ArchiveSource(other))["mended_in_place"] == 4
    assert content(disk.output) == before


def test_two_damaged_copies_mend_each_other(disk: Any) -> None:
    disk.export()
    before = content(disk.output)
    other = copy(disk.output, disk.folder / "other.zip")
    chunks = rows(disk)
    spoil(disk, chunks[0].member)
    mine, disk.output = disk.output, other
    spoil(disk, chunks[1].member)
    assert repair(disk, ArchiveSource(mine))["mended_in_place"] == 1
    disk.output = mine
    assert repair(disk, ArchiveSource(other))["mended_in_place"] == 1
    assert content(mine) == content(other) == before


@only_plain
def test_a_donor_that_cannot_be_opened_is_told_and_left_out(disk: Any) -> None:
    disk.export()
    other = copy(disk.output, disk.folder / "other.zip")
    with other.open("r+b") as file:
        file.truncate(other.stat().st_size - 10)
    spoil(disk, rows(disk)[0].member)
    told: list[str] = []
    disk.talk.log = lambda level, text: told.append(f"{level}: {text}")
    assert repair(disk, ArchiveSource(other), from_disk(disk))["mended_in_place"] == 1
    assert len(told) == 1 and "other.zip" in told[0]


@only_plain
def test_chunks_are_found_at_another_place_of_the_disk(disk: Any) -> None:
    disk.export()
    first, last = rows(disk)[0], rows(disk)[-1]
    image = bytearray(disk.image.read_bytes())
    image[2 * CHUNK : 3 * CHUNK] = image[:CHUNK]
    image[:CHUNK] = bytes(CHUNK)
    spoil(disk, first.member)
    spoil(disk, last.member)
    disk.image.write_bytes(image)
    result = repair(disk, from_disk(disk))
    assert result["damaged_chunks"] == 2 and not result["lost"]


def no_level_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another version of zstd had written the archive."""
    monkeypatch.setattr(remake, "_LEVELS", ())


def test_what_cannot_be_made_again_is_appended(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.export()
    disk.change(CHUNK + 70_000, noise(5000, 50))
    disk.export()
    before = content(disk.output)
    chunks = rows(disk)
    patch = next(chunk for chunk in chunks if chunk.base)
    for member in {patch.member, chunks[0].member}:
        spoil(disk, member, at=100)
    no_level_fits(monkeypatch)
    result = repair(disk, from_disk(disk))
    assert (result["mended_in_place"], result["appended_chunks"], result["lost_chunks"]) == (0, 2, 0)
    assert result["whole_generations"] == [1, 2] and not volumes_of(next_of(disk.output))
    assert len(content(disk.output)) > len(before)
    assert_whole(disk)
    disk.change(9, b"goes on")
    disk.new_process()
    disk.export()
    assert_whole(disk)


def test_a_full_medium_refuses_only_what_has_to_be_appended(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.export()
    chunks = rows(disk)
    for chunk in chunks[:2]:
        spoil(disk, chunk.member)
    disk.platform.free = 0
    before = content(disk.output)
    with monkeypatch.context() as patched:
        no_level_fits(patched)
        with pytest.raises(Refused, match="bytes are needed"):
            repair(disk, from_disk(disk))
        assert content(disk.output) == before
    assert repair(disk, from_disk(disk))["mended_in_place"] == 2


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    "moment", [pytest.param(n, marks=[] if n in (2, 5) else [pytest.mark.full]) for n in range(12)]
)
def test_killed_at_any_moment_it_can_be_done_again(disk: Any, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    disk.export()
    chunks = rows(disk)
    for chunk in chunks[:3]:
        spoil(disk, chunk.member)
    whole = chunks[3].offset
    left = [moment]

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return original(*arguments)

        return write

    with monkeypatch.context() as patched:
        if moment % 2:
            no_level_fits(patched)
        patched.setattr(os, "pwritev", counting(os.pwritev))
        patched.setattr(os, "ftruncate", counting(os.ftruncate))
        with suppress(Killed):
            repair(disk, from_disk(disk))
    with ArchiveReader(disk.output) as reader:
        reader.plain(next(chunk for chunk in reader.index.chunks if chunk.offset == whole))
    disk.new_process()
    assert repair(disk, from_disk(disk))["lost_chunks"] == 0
    assert_whole(disk)


@only_plain
def test_sectors_that_cannot_be_read_are_written_as_whole_pages(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.export()
    before = content(disk.output)
    with ArchiveReader(disk.output) as reader:
        entry = reader.directory.entries[reader.index.chunks[1].member]
    with ArchiveFile(disk.output) as file:
        start, _ = file.part_at(entry.offset + 50_000)
        bad = start + (entry.offset + 50_000 - start) // mending.PAGE * mending.PAGE
    healed: list[int] = []
    original_read, original_write = ArchiveFile.read, ArchiveFile.write

    def read(self: ArchiveFile, offset: int, length: int) -> bytes:
        if not healed and offset < bad + mending.PAGE and bad < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return original_read(self, offset, length)

    def writing(self: ArchiveFile, offset: int, parts: Any) -> None:
        assert (offset, sum(map(len, parts))) == (bad, mending.PAGE)
        healed.append(offset)
        original_write(self, offset, parts)

    monkeypatch.setattr(ArchiveFile, "read", read)
    monkeypatch.setattr(ArchiveFile, "write", writing)
    assert repair(disk, from_disk(disk))["mended_in_place"] == 1
    assert healed and content(disk.output) == before


@only_plain
def test_nobody_has_it(disk: Any) -> None:
    disk.export()
    chunk = rows(disk)[1]
    spoil(disk, chunk.member)
    before = content(disk.output)
    result = repair(disk)
    assert (result["lost_chunks"], result["damaged_generations"]) == (1, [1])
    assert result["lost"][0]["offset"] == chunk.offset and result["lost"][0]["member"] == chunk.member
    assert content(disk.output) == before
