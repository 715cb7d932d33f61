"""What sealing reads: only what it wrote itself, however long the archive is."""

from __future__ import annotations

import random
from typing import Any

import pytest

from portunix_vdisk.steps.archive import seal, storage
from portunix_vdisk.tests.support.chunks import CHUNK


def test_a_first_seal_does_not_search_the_chunks_for_a_directory(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    house.make(4 * CHUNK, {n * CHUNK: draw.randbytes(2 << 20) for n in range(4)})
    house.pack()
    read: list[int] = []
    plain = storage.ArchiveFile.read

    def counted(file: storage.ArchiveFile, offset: int, length: int) -> bytes:
        data = plain(file, offset, length)
        read.append(len(data))
        return data

    with monkeypatch.context() as patch:
        patch.setattr(storage.ArchiveFile, "read", counted)
        seal.Seal(house.export_of()).run(house.ctx)
    assert house.partial.stat().st_size > 8 << 20
    assert sum(read) < 1 << 20
    house.finish()
    house.import_()
    house.assert_same()


def test_a_second_seal_finds_what_the_first_wrote(house: Any) -> None:
    house.make(4 * CHUNK, {CHUNK: random.Random(2).randbytes(5000)})
    house.pack()
    seal.Seal(house.export_of()).run(house.ctx)
    before = house.partial.read_bytes()
    house.new_process()
    seal.Seal(house.export_of()).run(house.ctx)
    assert house.partial.read_bytes() == before
