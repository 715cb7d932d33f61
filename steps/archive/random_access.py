"""The disk inside an archive, read at any place without unpacking it.

A read finds its chunks by bisection, decompresses each as a whole, verified, and keeps the most recently used ones.
Ranges without a chunk are zeros.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.archive.index import Chunk
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.closing import Closing

CACHE = 64 << 20
"""Bytes of plain chunks that are kept."""
_REMEMBERED = 5.0
"""Seconds for which a chunk that cannot be read is not tried again: the kernel asks for a damaged one page by page."""


class Placed(Protocol):
    """Something that says which bytes of the disk it holds."""

    @property
    def offset(self) -> int:
        """First byte on the disk."""

    @property
    def length(self) -> int:
        """How many bytes."""


Piece = TypeVar("Piece", bound=Placed)


class RandomAccess(Closing, Generic[Piece]):
    """A disk of chunks, usable from several threads; a context manager.

    Two threads that want the same chunk wait for one decompression. Where reading goes from one chunk to the next, the
    one after that is fetched ahead.

    Args:
        size: bytes of the disk.
        chunks: ascending, not overlapping, inside the disk.
        plain: the bytes of a chunk; raises where they are not what they were.
        cache: bytes to keep; at least the chunk that was read last is kept.
    """

    def __init__(self, size: int, chunks: Sequence[Piece], plain: Callable[[Piece], bytes], cache: int = CACHE) -> None:
        self.size = size
        self._chunks = chunks
        self._offsets = [chunk.offset for chunk in chunks]
        self._plain = plain
        self._cache = cache
        self._guard = threading.Lock()
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._fetching: dict[int, Future[bytes]] = {}
        self._failed: dict[int, tuple[float, Exception]] = {}
        self._last = -1
        self._ahead = ThreadPoolExecutor(1, "read ahead")

    def close(self) -> None:
        """Wait for what is being fetched ahead, and give the memory back."""
        self._ahead.shutdown(wait=True, cancel_futures=True)
        with self._guard:
            self._kept.clear()
            self._kept_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset``.

        Raises what ``plain`` raises for a chunk that the range touches; ``ValueError`` outside the disk.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} are outside a disk of {self.size} bytes")
        end = offset + length
        number = max(0, bisect_right(self._offsets, offset) - 1)
        parts: list[bytes | memoryview] = []
        at = offset
        while at < end:
            while number < len(self._chunks) and self._end(number) <= at:
                number += 1
            if number == len(self._chunks) or self._offsets[number] >= end:
                parts.append(bytes(end - at))
                break
            start = self._offsets[number]
            if start > at:
                parts.append(bytes(start - at))
                at = start
            data = self._chunk(number)
            stop = min(end, self._end(number))
            parts.append(memoryview(data)[at - start : stop - start])
            at = stop
        return b"".join(parts)

    def _end(self, number: int) -> int:
        return self._offsets[number] + self._chunks[number].length

    def _chunk(self, number: int) -> bytes:
        with self._guard:
            follows, self._last = number == self._last + 1, number
        data = self._get(number)
        if follows and number + 1 < len(self._chunks) and self._end(number) == self._offsets[number + 1]:
            self._fetch_ahead(number + 1)
        return data

    def _fetch_ahead(self, number: int) -> None:
        with self._guard:
            if number in self._kept or number in self._fetching or number in self._failed:
                return
        try:
            self._ahead.submit(self._get, number)
        except RuntimeError:
            return  # being closed

    def _get(self, number: int) -> bytes:
        with self._guard:
            data = self._kept.get(number)
            if data is not None:
                self._kept.move_to_end(number)
                return data
            when, failure = self._failed.get(number, (0.0, None))
            if failure is not None:
                if time.monotonic() - when < _REMEMBERED:
                    raise failure.with_traceback(None)  # it is raised again and again
                del self._failed[number]
            mine = number not in self._fetching
            future = self._fetching.setdefault(number, Future())
        if not mine:
            return future.result()
        try:
            data = self._plain(self._chunks[number])
            if len(data) != self._chunks[number].length:
                raise Failed(f"the chunk at disk offset {self._offsets[number]} has another length than the index says")
        except BaseException as error:
            with self._guard:
                if isinstance(error, Exception):
                    self._failed[number] = (time.monotonic(), error)
                del self._fetching[number]
            future.set_exception(error)
            raise
        with self._guard:
            self._keep(number, data)
            del self._fetching[number]
        future.set_result(data)
        return data

    def _keep(self, number: int, data: bytes) -> None:
        self._kept[number] = data
        self._kept_bytes += len(data)
        while self._kept_bytes > self._cache and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._kept_bytes -= len(gone)


def disk_of(reader: ArchiveReader) -> RandomAccess[Chunk]:
    """The disk inside an open archive."""
    return RandomAccess(reader.index.disk.size, reader.index.chunks, reader.plain)
