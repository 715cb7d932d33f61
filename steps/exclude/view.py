"""The disk as an overlay shows it, as something to be exported: two files, and what of them is in use."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import Extent, ImageMap, OverlayMap, Partition
from portunix_vdisk.platform.errors import Corrupt, Failed
from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.free_space import Runs, common, find_used
from portunix_vdisk.steps.source import ImageSource, SourceIdentity

_VIEW: Final = "without:"


def view_of(digest: str) -> str:
    """The word for the state of a disk without what the rules with this digest leave out."""
    return _VIEW + digest


def is_cleaned(source: SourceIdentity) -> bool:
    """Whether this is a disk without what some rules leave out."""
    return source.view.startswith(_VIEW)


class OverlaySource:
    """An image that nobody writes to, with the changes of an overlay; see :class:`portunix_vdisk.steps.source.Source`.

    Args:
        path: the image.
        image: where its data lies.
        overlay: what the overlay holds.
        changes: descriptor of the overlay's file, which may have lost its name; it is duplicated.
        view: the word for this state of the image.
        used: parts of the disk that count; everything else reads as zeros. All of it if None.
    """

    def __init__(
        self, path: Path, image: ImageMap, overlay: OverlayMap, changes: int, view: str, used: Runs | None = None
    ) -> None:
        if overlay.size != image.size:
            raise Corrupt(f"the overlay has {overlay.size} bytes, but {path} has {image.size}")
        wanted: Sequence[tuple[int, int]] = [(0, image.size)] if used is None else used
        self.path = path
        self.size = image.size
        self._pieces = _cut(overlay.extents, wanted)
        self._ends = [piece.start + piece.length for piece in self._pieces]
        below = list(common(wanted, _outside(overlay.decided, image.size)))
        self._image = ImageSource(path, image, below)
        self.identity = SourceIdentity(self._image.identity.file, view)
        above = [(piece.start, piece.start + piece.length) for piece in self._pieces]
        self.extents: Sequence[tuple[int, int]] = sorted([*self._image.extents, *above])
        self._descriptor = os.dup(changes)

    def read_into(self, offset: int, buffer: bytearray) -> None:
        """See :class:`Source`."""
        self._image.read_into(offset, buffer)
        end = offset + len(buffer)
        with memoryview(buffer) as view:
            for number in range(bisect_right(self._ends, offset), len(self._pieces)):
                piece = self._pieces[number]
                if piece.start >= end:
                    break
                start, stop = max(piece.start, offset), min(piece.start + piece.length, end)
                self._read(view[start - offset : stop - offset], piece.offset + start - piece.start)

    def _read(self, view: memoryview, place: int) -> None:
        while view:
            try:
                got = os.preadv(self._descriptor, [view], place)
            except OSError as error:
                raise Failed(f"cannot read the overlay: {error.strerror}", "what was written so far is kept") from error
            if got == 0:
                raise Failed("the overlay ends too early", "what was written so far is kept")
            view, place = view[got:], place + got

    def announce(self, offset: int, length: int) -> None:
        """See :class:`Source`; the overlay has just been written and is in memory."""
        self._image.announce(offset, length)

    def check(self) -> None:
        """See :class:`Source`."""
        self._image.check()

    def close(self) -> None:
        """See :class:`Source`."""
        self._image.close()
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def used_in_overlay(whole: OverlaySource, partition: Partition, file_system: str) -> Runs | None:
    """What of the disk is in use; None where it can't be told.

    The filesystem was unmounted just now. One that says otherwise did not get everything written: raises ``Failed``.
    """
    try:
        return find_used(whole, partition, file_system)
    except Doubt as doubt:
        if doubt.unclean:
            raise Failed(
                f"the filesystem in the overlay is not in order: {doubt.why}", state="the disk was not changed"
            ) from doubt
        return None


def _outside(runs: Sequence[tuple[int, int]], size: int) -> Runs:
    """What is left of ``size`` bytes without these runs."""
    left, end = [], 0
    for start, stop in runs:
        if start > end:
            left.append((end, start))
        end = stop
    if end < size:
        left.append((end, size))
    return left


def _cut(pieces: Sequence[Extent], wanted: Sequence[tuple[int, int]]) -> list[Extent]:
    """The parts of ``pieces`` that lie in ``wanted``; both ascend."""
    by_start = {piece.start: piece for piece in pieces}
    starts = sorted(by_start)
    kept = []
    for start, end in common([(piece.start, piece.start + piece.length) for piece in pieces], wanted):
        piece = by_start[starts[bisect_right(starts, start) - 1]]
        kept.append(Extent(start, end - start, piece.offset + start - piece.start))
    return kept
