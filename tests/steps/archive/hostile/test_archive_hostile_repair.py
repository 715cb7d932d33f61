"""Damaged archives that would make their repair endless, or take all memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
import zstandard

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.archive import damage
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes
from portunix_vdisk.steps.archive.donors import ArchiveDonor, ArchiveSource
from portunix_vdisk.steps.archive.frame import RepairFrame
from portunix_vdisk.steps.archive.rebuild import _End, _filled
from portunix_vdisk.steps.archive.repair import RepairChunks
from portunix_vdisk.tests.support.chunks import CHUNK


def test_an_index_of_many_megabytes_with_a_damaged_header(forge: Any, house: Any) -> None:
    """Its frame has few bytes; what is in it is only wanted for its length and digest."""
    stream = zstandard.ZstdCompressor(level=1).compressobj(size=200 << 20)
    pieces = [stream.compress(bytes(1 << 20)) for _ in range(200)]
    forge.index_payload = b"".join([*pieces, stream.flush()])
    forge.index |= {"root": "00" * 32, "data_bytes": 0}
    forge.index_plain = json.dumps(forge.index).encode()
    forge.write()
    data = bytearray(forge.path.read_bytes())
    data[data.find(b"index-1") + 20] ^= 1
    forge.path.write_bytes(data)
    tracemalloc.start()
    try:
        RepairFrame(forge.path).run(house.ctx)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_more_generations_than_memory(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of a million rows takes a few hundred kilobytes in the file, and a hundred megabytes in memory."""
    house.make(3 * CHUNK, {number * CHUNK: b"chunk %d" % number for number in range(3)})
    for number in range(3):
        house.change(9, b"%d" % number)
        house.options["keep"] = 3
        house.export()
        house.new_process()
    monkeypatch.setattr(damage, "_MOST_ROWS", 9)
    before = house.output.read_bytes()
    assert RepairChunks(house.output).run(house.ctx)["whole_generations"] == [1, 2, 3]
    monkeypatch.setattr(damage, "_MOST_ROWS", 8)
    with pytest.raises(Refused, match="too large to be looked at together"):
        RepairChunks(house.output).run(house.ctx)
    with pytest.raises(Refused, match="too large to be looked at together"):
        ArchiveDonor(ArchiveSource(house.output))
    assert house.output.read_bytes() == before


def test_a_large_directory_is_filled_in_one_go() -> None:
    """Thirty thousand members and one damaged entry; looking at all members for each took a minute."""
    known = {f"chunks/1-{number << 22:012x}.zst": Entry(number * 200, 5, number) for number in range(30_000)}
    stored = bytearray(directory_bytes(known.items(), 0))
    stored[stored.find(f"{15_000 << 22:012x}".encode()) - 40] ^= 1
    started = time.process_time()
    assert _filled(_End(0, bytes(stored)), known, {}) == known
    assert time.process_time() - started < 10
