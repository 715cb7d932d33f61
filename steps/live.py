"""The content of a disk that is in use, as it was at one moment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import FileIdentity, Partition, SnapshotReader
from portunix_vdisk.platform.errors import Corrupt, Failed, VdiskError
from portunix_vdisk.steps.durable import identity_of
from portunix_vdisk.steps.free_space import common, used_extents
from portunix_vdisk.steps.source import SourceIdentity
from portunix_vdisk.steps.step import Context

_SHORT: Final = 64 << 10
"""A hole shorter than this costs more to leave out than to read."""


class SnapshotSource:
    """A snapshot of a mounted disk; closing it takes the snapshot away.

    Args:
        ctx: what the snapshot is taken with.
        image: the image of a disk that is mounted for writing.
        size: that of the disk, in bytes.
        rooms: folders, of which one takes what gets overwritten meanwhile.

    Raises ``Refused`` and ``Failed`` where no snapshot can be taken, ``Corrupt`` where the disk has another size.
    """

    def __init__(self, ctx: Context, image: Path, size: int, rooms: Sequence[Path]) -> None:
        self.path = image
        self._ctx = ctx
        self._rooms = rooms
        with ExitStack() as undo:
            undo.callback(self._drop)
            taken = ctx.platform.take_snapshot(image, rooms)
            self._reader: SnapshotReader = undo.enter_context(ctx.platform.open_snapshot(taken))
            if taken.size != size:
                raise Corrupt(f"{image} is {taken.size} bytes large, but should be {size}")
            # No other state of the image ever has this word. Its times go on moving, and mean nothing here.
            self.identity = SourceIdentity(_identity(image), f"snapshot-{taken.uuid}")
            self._undo = undo.pop_all()
        self.size = taken.size
        self.waited = taken.waited
        self._keep(taken.extents)

    def narrow(self, partition: Partition, file_system: str) -> None:
        """From now on what the filesystem calls free counts as zeros, if it can be told."""
        used = used_extents(self, partition, file_system, frozen=True)
        if used is not None:
            self._keep(list(common(self.extents, used)))

    def read_into(self, offset: int, buffer: bytearray) -> None:
        length, done = len(buffer), 0
        with memoryview(buffer) as view:
            for start, end in self._together(offset, offset + length):
                self._read(start, view[start - offset : end - offset])
            for start, end in self._between(offset, offset + length):
                _clear(view[done : start - offset])
                done = end - offset
            _clear(view[done:length])

    def announce(self, offset: int, length: int) -> None:
        """Nothing: it is read through another process, which answers many requests at once."""

    def check(self) -> None:
        """It cannot change. A snapshot that broke fails when it is read."""

    def close(self) -> None:
        self._undo.close()

    def _keep(self, extents: Sequence[tuple[int, int]]) -> None:
        self.extents: Sequence[tuple[int, int]] = extents
        self._ends = [end for _, end in extents]

    def _between(self, offset: int, end: int) -> list[tuple[int, int]]:
        """Data between two places."""
        found = []
        for number in range(bisect_right(self._ends, offset), len(self.extents)):
            start, stop = self.extents[number]
            if start >= end:
                break
            found.append((max(start, offset), min(stop, end)))
        return found

    def _together(self, offset: int, end: int) -> list[tuple[int, int]]:
        """The same, as few large reads."""
        found: list[tuple[int, int]] = []
        for start, stop in self._between(offset, end):
            if found and start - found[-1][1] < _SHORT:
                found[-1] = found[-1][0], stop
            else:
                found.append((start, stop))
        return found

    def _read(self, offset: int, view: memoryview) -> None:
        try:
            self._reader.read_into(offset, view)
        except Failed as error:
            rooms = " or ".join(map(str, self._rooms))
            raise Failed(
                f"the state of {self.path} that was being exported is lost: {error.what}",
                state="the disk itself is in order and has everything; what was exported so far is kept",
                hint=f"more may have been overwritten meanwhile than there was room for in {rooms} (half of what "
                "is free): free some space there, then run the same command to continue",
            ) from error

    def _drop(self) -> None:
        try:
            self._ctx.platform.drop_snapshot(self.path)
        except VdiskError as error:
            self._ctx.warn(f"{error.what}; what is kept of {self.path} for an export goes when it is unmounted")


def _clear(view: memoryview) -> None:
    view[:] = bytes(len(view))


def _identity(image: Path) -> FileIdentity:
    try:
        return identity_of(image)
    except OSError as error:
        raise Failed(f"cannot read {image}: {error.strerror}", state="nothing was exported") from error
