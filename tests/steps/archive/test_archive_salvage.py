"""Importing what is whole of a damaged archive."""

from __future__ import annotations

import errno
import random
from dataclasses import replace
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.index import Chunk
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import header_length
from portunix_vdisk.steps.archive.storage import ArchiveFile
from portunix_vdisk.steps.archive.unpack import Finish, Prepare, Unpack
from portunix_vdisk.steps.archive.verify import VerifyArchive
from portunix_vdisk.tests.support.chunks import CHUNK

only_plain = pytest.mark.parametrize("each_way", ["plain"], indirect=True)


@pytest.fixture
def disk(each_way: Any) -> Any:
    each_way.export()
    return each_way


def chunk_at(disk: Any, number: int) -> tuple[Chunk, int]:
    with ArchiveReader(disk.output) as reader:
        chunk = reader.index.chunks[number]
        return chunk, reader.directory.entries[chunk.member].offset + header_length(chunk.member)


def spoil(disk: Any, number: int) -> Chunk:
    chunk, place = chunk_at(disk, number)
    with ArchiveFile(disk.output, writable=True, limit=disk.options.get("volume_size")) as file:
        file.write(place + 500, (random.Random(9).randbytes(512),))
    return chunk


def salvage(disk: Any, only: list[int] | None = None) -> Any:
    task = replace(disk.import_of(), salvage=True)
    Prepare(task).run(disk.ctx)
    for number in range(2) if only is None else only:
        Unpack(task, number, 2).run(disk.ctx)
    return Finish(task).run(disk.ctx)


def expected(disk: Any, *damaged: Chunk) -> bytes:
    content = bytearray(disk.image.read_bytes())
    for chunk in damaged:
        content[chunk.offset : chunk.offset + chunk.length] = bytes(chunk.length)
    return bytes(content)


def test_damaged_chunks_are_zeros_and_everything_else_is_there(disk: Any) -> None:
    damaged = [spoil(disk, 1), spoil(disk, 3)]
    with pytest.raises(Corrupt):
        disk.import_()
    disk.new_process()
    result = salvage(disk)
    assert result["damage"]["damaged_bytes"] == 2 * CHUNK
    assert "no ext4 filesystem" in result["damage"]["unknown"]
    assert disk.back.read_bytes() == expected(disk, *damaged)
    disk.new_process()
    with pytest.raises(Corrupt):
        disk.import_()


@only_plain
def test_it_goes_on_where_it_was_and_tells_all_of_it(disk: Any) -> None:
    damaged = [spoil(disk, 0), spoil(disk, 3)]
    task = replace(disk.import_of(), salvage=True)
    Prepare(task).run(disk.ctx)
    Unpack(task, 0, 2).run(disk.ctx)
    disk.new_process()
    assert salvage(disk, only=[1])["damage"]["damaged_bytes"] == 2 * CHUNK
    assert disk.back.read_bytes() == expected(disk, *damaged)


def test_what_an_earlier_import_wrote_stays_if_it_is_right(disk: Any) -> None:
    disk.import_()
    disk.new_process()
    spoil(disk, 2)
    assert salvage(disk)["damage"] is None
    disk.assert_same()


@only_plain
def test_unreadable_sectors_stop_nothing(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk, place = chunk_at(disk, 2)
    original = ArchiveFile.read

    def read(self: ArchiveFile, offset: int, length: int) -> bytes:
        if offset < place + 5000 < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return original(self, offset, length)

    monkeypatch.setattr(ArchiveFile, "read", read)
    with pytest.raises(Corrupt, match="1 of 4 chunks"):
        VerifyArchive(disk.output).run(disk.ctx)
    assert salvage(disk)["damage"]["damaged_bytes"] == CHUNK
    assert disk.back.read_bytes() == expected(disk, chunk)


@only_plain
def test_a_whole_archive_has_no_damage(disk: Any) -> None:
    assert salvage(disk)["damage"] is None
    disk.assert_same()
