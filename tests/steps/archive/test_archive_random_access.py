"""Reading anywhere in an archive gives what lies there on the disk."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive import random_access
from portunix_vdisk.steps.archive.random_access import RandomAccess


@dataclass(frozen=True)
class Piece:
    offset: int
    length: int


class Disk:
    """A disk in chunks of 64 bytes, some of which are missing and read as zeros; counts what is unpacked."""

    def __init__(self, present: list[bool], tail: int = 64, seed: int = 0) -> None:
        self.size = 64 * (len(present) - 1) + tail
        plain = bytearray()
        self.chunks = []
        for number, there in enumerate(present):
            length = 64 if number < len(present) - 1 else tail
            if there:
                self.chunks.append(Piece(64 * number, length))
            plain += random.Random(seed + number).randbytes(length) if there else bytes(length)
        self.content = bytes(plain)
        self.unpacked: list[int] = []
        self.bad: set[int] = set()
        self.slow = 0.0

    def plain(self, chunk: Piece) -> bytes:
        self.unpacked.append(chunk.offset // 64)
        time.sleep(self.slow)
        if chunk.offset // 64 in self.bad:
            raise Corrupt(f"chunk {chunk.offset // 64} is damaged")
        return self.content[chunk.offset : chunk.offset + chunk.length]

    def access(self, cache: int = 256) -> RandomAccess[Piece]:
        return RandomAccess(self.size, self.chunks, self.plain, cache)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.integers(1, 64),
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 800), st.integers(0, 800)), max_size=20),
)
def test_any_read_is_what_lies_there(present: list[bool], tail: int, cache: int, reads: list[tuple[int, int]]) -> None:
    disk = Disk(present, tail)
    with disk.access(cache) as access:
        assert access.read(0, disk.size) == disk.content
        for offset, length in reads:
            offset = min(offset, disk.size)
            length = min(length, disk.size - offset)
            assert access.read(offset, length) == disk.content[offset : offset + length]


def test_an_empty_disk_and_one_of_holes() -> None:
    with RandomAccess[Piece](0, [], Disk([True]).plain) as nothing:
        assert nothing.read(0, 0) == b""
    with Disk([False] * 4).access() as holes:
        assert holes.read(10, 200) == bytes(200)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 129), (129, 0), (128, 1)])
def test_outside(offset: int, length: int) -> None:
    with Disk([True, True]).access() as access, pytest.raises(ValueError, match="outside"):
        access.read(offset, length)


def test_what_was_read_is_kept_and_the_oldest_goes() -> None:
    disk = Disk([True, False] * 6)
    with disk.access(cache=3 * 64) as access:
        for number in (0, 4, 8, 0, 4, 8, 0):
            access.read(64 * number, 5)
        assert disk.unpacked == [0, 4, 8]
        access.read(64 * 2, 1)  # 4 was used longest ago
        access.read(0, 1)
        access.read(64 * 8, 1)
        assert disk.unpacked == [0, 4, 8, 2]
        access.read(64 * 4, 1)
        assert disk.unpacked == [0, 4, 8, 2, 4]
        assert access._kept_bytes == sum(map(len, access._kept.values())) == 3 * 64


def test_two_threads_that_want_one_chunk_wait_for_one_unpacking() -> None:
    disk = Disk([True] * 4)
    disk.slow = 0.1
    got: list[bytes] = []
    with disk.access() as access:
        threads = [threading.Thread(target=lambda: got.append(access.read(130, 20))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert disk.unpacked == [2]
    assert got == [disk.content[130:150]] * 8


def test_reading_on_fetches_ahead() -> None:
    disk = Disk([True, True, True, True, False, True])
    with disk.access() as access:
        access.read(0, 10)
        access._ahead.submit(int).result()  # whatever was fetched ahead has been fetched
        assert disk.unpacked == [0, 1]
        access.read(130, 10)  # a jump
        access._ahead.submit(int).result()
        assert disk.unpacked == [0, 1, 2]
        access.read(3 * 64, 10)  # what follows is a hole
        access._ahead.submit(int).result()
        assert disk.unpacked == [0, 1, 2, 3]


def test_a_damaged_chunk_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk([True] * 6)
    disk.bad = {2}
    with disk.access() as access:
        for _ in range(5):
            with pytest.raises(Corrupt, match="chunk 2"):
                access.read(100, 40)
        assert access.read(0, 128) == disk.content[:128]
        assert access.read(192, 192) == disk.content[192:]
        assert disk.unpacked.count(2) == 1, "not unpacked for each page"
        disk.bad.clear()  # the stick sits right again
        monkeypatch.setattr(random_access, "_REMEMBERED", 0.0)
        assert access.read(0, disk.size) == disk.content


def test_a_damaged_chunk_fails_for_all_who_wait() -> None:
    disk = Disk([True] * 3)
    disk.bad, disk.slow = {1}, 0.1
    failed: list[str] = []

    def work() -> None:
        try:
            access.read(64, 1)
        except Corrupt as error:
            failed.append(error.what)

    with disk.access() as access:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == ["chunk 1 is damaged"] * 4


def test_random_readers_at_once() -> None:
    disk = Disk([number % 3 != 1 for number in range(60)])
    wrong: list[int] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(400):
            offset = dice.randrange(disk.size)
            length = dice.randrange(min(300, disk.size - offset) + 1)
            if access.read(offset, length) != disk.content[offset : offset + length]:
                wrong.append(offset)

    with disk.access(cache=500) as access:
        threads = [threading.Thread(target=work, args=[seed]) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert access._fetching == {}
    assert wrong == []
