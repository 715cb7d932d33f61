"""The last index is kept, and that makes no reader believe more than it would otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive import index
from portunix_vdisk.steps.archive.index import parse_index
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import parse_header
from portunix_vdisk.tests.support.chunks import CHUNK, noise


@pytest.fixture
def stored(house: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, int, bytes, int]:
    """An index as it lies in the archive, and what its header says; nothing is kept yet."""
    house.make(4 * CHUNK, {0: noise(1000, 1), 2 * CHUNK: noise(1000, 2)})
    house.export()
    with ArchiveReader(house.output) as reader:
        place = reader.directory.entries["index-1.json.zst"].offset
        record = parse_header(reader.file.read(place, 300))
        payload = reader.file.read(place + record.header_length, record.stored)
    monkeypatch.setattr(index, "_kept", None)
    return payload, record.length, record.digest, 1


def test_it_is_parsed_once(stored: tuple[bytes, int, bytes, int]) -> None:
    first = parse_index(*stored)
    assert parse_index(*stored) is first
    assert len(first.chunks) == 2


def test_what_differs_is_read_anew(stored: tuple[bytes, int, bytes, int]) -> None:
    payload, length, digest, generation = stored
    parse_index(*stored)
    damaged = bytearray(payload)
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(Corrupt):
        parse_index(bytes(damaged), length, digest, generation)
    with pytest.raises(Corrupt):
        parse_index(payload, length + 1, digest, generation)
    with pytest.raises(Corrupt):
        parse_index(payload, length, bytes(32), generation)
    with pytest.raises(Corrupt):
        parse_index(payload, length, digest, 2)


def test_members_are_looked_for_each_time(stored: tuple[bytes, int, bytes, int]) -> None:
    members = [chunk.member for chunk in parse_index(*stored).chunks]
    assert parse_index(*stored, members) is parse_index(*stored)
    with pytest.raises(Corrupt, match=f"no member {members[1]}"):
        parse_index(*stored, members[:1])


def test_a_large_one_is_not_kept(stored: tuple[bytes, int, bytes, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_MOST_KEPT", 1)
    assert parse_index(*stored) is not parse_index(*stored)
