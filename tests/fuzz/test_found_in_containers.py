"""VHD files whose structures lie, with right checksums."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Iterator

import pytest

from portunix_vdisk.platform import vhd
from portunix_vdisk.platform.errors import Corrupt


def sealed(sector: bytes, at: int) -> bytes:
    """The structure with its checksum: the complement of the sum of all bytes."""
    return sector[:at] + (~sum(sector) & 0xFFFFFFFF).to_bytes(4, "big") + sector[at + 4 :]


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = os.memfd_create("vhd")
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(("entries", "block"), [(0xFFFFFFFF, 4096), (0xFFFFFFFF, 2 << 20), ((1 << 22) + 1, 1 << 19)])
def test_a_huge_table_is_refused_without_reading_it(file: int, entries: int, block: int) -> None:
    """In a sparse file of 20 GB, which costs its maker nothing."""
    size = entries * block
    fields = (b"conectix", 2, 0x10000, 512, 0, b"qemu", 5, b"Wi2k", size, size, 0, 3, 0, bytes(16))
    footer = sealed(struct.pack(">8sIIQI4sI4sQQIII16s", *fields).ljust(512, b"\0"), 64)
    header = struct.pack(">8sQQIIII", b"cxsparse", (1 << 64) - 1, 1536, 0x10000, entries, block, 0)
    os.pwrite(file, footer + sealed(header.ljust(1024, b"\0"), 36), 0)
    os.ftruncate(file, 20 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt, match="more than any disk"):
            vhd.inspect(file)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
