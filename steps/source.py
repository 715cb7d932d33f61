"""The guest-visible content of a disk as something to be read: from an image file, a snapshot, an overlay."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from portunix_vdisk.platform.base import Extent, FileIdentity, ImageMap
from portunix_vdisk.platform.errors import Failed, NotFound
from portunix_vdisk.steps.durable import identity_of

_ZEROS: Final = bytes(4 << 20)


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What tells that a source still has the same content, without reading it.

    ``view`` is empty for the image file itself; a snapshot or an overlay of it has a word of its own that no other
    state of the image has. Behind ``#`` follows what only one opening of it has: where the same thing is made twice,
    equal in meaning and not byte for byte, nothing that was read of the one stands for the other.
    """

    file: FileIdentity
    view: str = ""

    @property
    def lasting(self) -> SourceIdentity:
        """The same for every opening."""
        return SourceIdentity(self.file, self.view.partition("#")[0])


class Source(Protocol):
    """A disk that can be read while it stays as it is. Usable from several threads."""

    path: Path
    """The image, for messages."""
    size: int
    """Guest-visible bytes."""
    extents: Sequence[tuple[int, int]]
    """Start and end of each run of bytes that may be other than zero, ascending, apart from each other."""
    identity: SourceIdentity

    def read_into(self, offset: int, buffer: bytearray) -> None:
        """Fill ``buffer`` with the bytes at ``offset``. Raises ``Failed`` when they can't be read."""

    def announce(self, offset: int, length: int) -> None:
        """These bytes are wanted soon. Only advice."""

    def check(self) -> None:
        """Raises ``Failed`` if the content has changed since the source was opened."""

    def close(self) -> None:
        """Release whatever is held."""


class ImageSource:
    """An image file that nobody writes to, read with ``pread`` at the places that its map names.

    Args:
        path: the image.
        image: where its data lies.
        extents: parts of that data that count; everything else reads as zeros. All of it if None.
    """

    def __init__(self, path: Path, image: ImageMap, extents: Sequence[tuple[int, int]] | None = None) -> None:
        self.path = path
        self.size = image.size
        self.identity = SourceIdentity(_identity(path))
        self._pieces: Sequence[Extent] = image.extents if extents is None else _cut(image.extents, extents)
        self._ends = [piece.start + piece.length for piece in self._pieces]
        self.extents: Sequence[tuple[int, int]] = [(piece.start, piece.start + piece.length) for piece in self._pieces]
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Failed(f"cannot open {path}: {error.strerror}") from error

    def read_into(self, offset: int, buffer: bytearray) -> None:
        filled, length = 0, len(buffer)
        with memoryview(buffer) as view:
            for start, stop, place in self._between(offset, offset + length):
                _clear(view, filled, start - offset)
                self._read_piece(view[start - offset : stop - offset], place, start)
                filled = stop - offset
            _clear(view, filled, length)

    def announce(self, offset: int, length: int) -> None:
        for start, stop, place in self._between(offset, offset + length):
            with suppress(OSError):
                os.posix_fadvise(self._descriptor, place, stop - start, os.POSIX_FADV_WILLNEED)

    def check(self) -> None:
        if _identity(self.path) != self.identity.file:
            raise Failed(
                f"{self.path} was changed while it was read",
                state="what was written so far is kept",
                hint="run the same command again; only what changed is packed again",
            )

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _between(self, offset: int, end: int) -> list[tuple[int, int, int]]:
        """Data between two disk offsets: start and end on the disk, offset in the image file."""
        found = []
        for number in range(bisect_right(self._ends, offset), len(self._pieces)):
            piece = self._pieces[number]
            if piece.start >= end:
                break
            start, stop = max(piece.start, offset), min(piece.start + piece.length, end)
            found.append((start, stop, piece.offset + start - piece.start))
        return found

    def _read_piece(self, view: memoryview, place: int, start: int) -> None:
        while view:
            try:
                got = os.preadv(self._descriptor, [view], place)
            except OSError as error:
                raise Failed(
                    f"cannot read {self.path} at byte {place} (disk offset {start}): {error.strerror}",
                    state="what was written so far is kept",
                    hint="check the disk that holds the image, then run the same command to continue",
                ) from error
            if got == 0:
                raise Failed(
                    f"{self.path} ends before byte {place}: it was changed while it was read",
                    state="what was written so far is kept",
                    hint="run the same command to continue",
                )
            view, place, start = view[got:], place + got, start + got


def _clear(view: memoryview, start: int, end: int) -> None:
    while start < end:
        step = min(end - start, len(_ZEROS))
        view[start : start + step] = _ZEROS[:step]
        start += step


def _cut(pieces: Sequence[Extent], wanted: Sequence[tuple[int, int]]) -> list[Extent]:
    """The parts of ``pieces`` that lie in ``wanted``; both ascend."""
    kept: list[Extent] = []
    number = 0
    for piece in pieces:
        end = piece.start + piece.length
        while number < len(wanted) and wanted[number][1] <= piece.start:
            number += 1
        at = number
        while at < len(wanted) and wanted[at][0] < end:
            start, stop = max(piece.start, wanted[at][0]), min(end, wanted[at][1])
            kept.append(Extent(start, stop - start, piece.offset + start - piece.start))
            at += 1
    return kept


def _identity(path: Path) -> FileIdentity:
    try:
        return identity_of(path)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from error
