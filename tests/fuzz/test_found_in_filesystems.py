"""Filesystems that would make the search for damaged files endless, or take all memory."""

from __future__ import annotations

import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.ext4_files import Findings, _Files, files_on
from portunix_vdisk.steps.ext4_shape import read_shape

with tarfile.open(Path(__file__).parent / "bases.tar.xz") as tar:
    BASE = tar.extractfile("map.ext4").read()  # type: ignore[union-attr]
BLOCK = 1024
INODES = struct.unpack_from("<I", BASE, 1024)[0]
TABLE = struct.unpack_from("<I", BASE, 2048 + 8)[0] * BLOCK
(SIZE,) = struct.unpack_from("<H", BASE, 1024 + 0x58)
FREE = 900
"""A block that nothing uses."""


def inode_at(number: int) -> int:
    return TABLE + (number - 1) * SIZE


class Bent:
    """The filesystem with changes, on a partition that may be far larger."""

    def __init__(self, length: int = len(BASE)) -> None:
        self.content, self.length = bytearray(BASE), length
        self.reads = 0

    def read(self, offset: int, length: int) -> bytearray:
        self.reads += 1
        piece = self.content[offset : offset + length]
        return piece + bytes(length - len(piece))

    def put(self, at: int, how: str, *values: int) -> None:
        struct.pack_into(f"<{how}", self.content, at, *values)

    def file(self, number: int, *, mode: int, flags: int, root: bytes) -> None:
        """An inode of this program's making."""
        at = inode_at(number)
        self.content[at : at + SIZE] = bytes(SIZE)
        self.put(at, "H", mode)
        self.put(at + 0x1A, "H", 1)
        self.put(at + 0x20, "I", flags)
        self.content[at + 0x28 : at + 0x28 + len(root)] = root

    def look(self, *damaged: tuple[int, int]) -> Findings:
        return files_on(self.read, self.length, damaged)


@pytest.fixture
def bent() -> Bent:
    return Bent()


def in_little(work: Callable[[], object]) -> None:
    tracemalloc.start()
    try:
        work()
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_the_base_is_what_it_should_be(bent: Bent) -> None:
    assert b"/large" in bent.look((0, len(BASE))).files


@pytest.mark.parametrize("per_group", [INODES + 1, 1 << 20, (1 << 32) - 1])
def test_more_inodes_in_a_group_than_there_are(per_group: int) -> None:
    bent = Bent(1 << 44)
    bent.put(1024 + 0x28, "I", per_group)
    with pytest.raises(Doubt, match="what cannot be"):
        bent.look((0, BLOCK))


def test_groups_that_share_their_inodes() -> None:
    bent = Bent(1 << 36)
    groups = 1000
    bent.put(1024, "I", groups * INODES)
    bent.put(1024 + 4, "I", 1 + groups * 8192)
    descriptor = bytes(bent.content[2048 : 2048 + 32])
    bent.content[2048 : 2048 + 32 * groups] = descriptor * groups
    bent.content += bytes(1 << 20)
    with pytest.raises(Doubt, match="share"):
        bent.look((0, BLOCK))
    assert bent.reads < 10


def test_descriptors_of_a_gibibyte_are_not_read() -> None:
    bent = Bent(1 << 44)
    groups = 1 << 20
    bent.put(1024, "I", groups * INODES)
    bent.put(1024 + 4, "I", 0xFFFFFFFF)
    bent.put(1024 + 0x20, "I", 4095)
    bent.put(1024 + 0x60, "I", 0xC2)
    bent.put(1024 + 0xFE, "H", 1024)

    def look() -> None:
        with pytest.raises(Doubt):
            bent.look((0, BLOCK))

    in_little(look)


def test_a_map_in_a_circle(bent: Bent) -> None:
    """Every entry of the node names the node itself, in sixteen files: 84 nodes deep and wide, six levels."""
    entries = (BLOCK - 12) // 12
    node = struct.pack("<HHHHI", 0xF30A, entries, entries, 5, 0) + struct.pack("<IIHH", 0, FREE, 0, 0) * entries
    bent.content[FREE * BLOCK : FREE * BLOCK + len(node)] = node
    root = struct.pack("<HHHHI", 0xF30A, 4, 4, 5, 0) + struct.pack("<IIHH", 0, FREE, 0, 0) * 4
    for number in range(12, 28):
        bent.file(number, mode=0x8000, flags=0x80000, root=root)
    bent.look((0, BLOCK))
    assert bent.reads < 100


def test_a_map_of_pointers_in_a_circle(bent: Bent) -> None:
    """A block of pointers to itself, as the triply indirect one: 256 times 256 times 256 pieces of a file."""
    bent.content[FREE * BLOCK : (FREE + 1) * BLOCK] = struct.pack("<I", FREE) * (BLOCK // 4)
    for number in range(12, 28):
        bent.file(number, mode=0x4000, flags=0, root=bytes(56) + struct.pack("<I", FREE))
    in_little(lambda: bent.look((0, BLOCK)))
    assert bent.reads < 100


def test_folders_that_are_longer_than_the_disk() -> None:
    bent = Bent(1 << 44)
    extents = b"".join(struct.pack("<IHHI", number, 0x8000, 0, 1) for number in range(4))
    for number in range(12, 60):
        bent.file(number, mode=0x4000, flags=0x80000, root=struct.pack("<HHHHI", 0xF30A, 4, 4, 0, 0) + extents)
    polls = 0

    def poll() -> None:
        nonlocal polls
        polls += 1
        if polls > 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files_on(bent.read, bent.length, [(0, BLOCK)], poll)


def test_names_in_a_circle(bent: Bent) -> None:
    """Two folders that are in each other."""
    for number, inside in ((20, 21), (21, 20)):
        place = FREE + number
        bent.file(number, mode=0x4000, flags=0, root=struct.pack("<I", place))
        entry = struct.pack("<IHBB", inside, BLOCK, 200, 2) + b"n" * 200
        bent.content[place * BLOCK : place * BLOCK + len(entry)] = entry
    found = bent.look(((FREE + 20) * BLOCK, (FREE + 22) * BLOCK))
    assert found.file_count == 2
    assert all(path.startswith(b"/?/nnn") and len(path) < 5000 for path in found.files)


def test_many_damaged_inodes_in_a_row_are_one_run() -> None:
    """A table of two million damaged inodes, none of which was ever used."""
    bent = Bent(1 << 44)
    bent.put(1024, "I", 1 << 21)
    bent.put(1024 + 0x28, "I", 1 << 21)
    in_little(lambda: bent.look((0, 1 << 40)))
    places = [(TABLE + at, TABLE + at + 1) for at in range(0, 1 << 20, 4096)]
    files = _Files(
        bent.read, read_shape(bent.read, bent.length), [(a // BLOCK, b // BLOCK + 1) for a, b in places], lambda: None
    )
    list(files.scan())
    in_block = 4096 // SIZE
    for number in range(INODES + 1, 4096):
        assert files.is_hit(number) == ((number - 1) % in_block < BLOCK // SIZE)
