"""Prepare and copy: fill the new image with what is in use."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import BlockImage, ImageMap
from portunix_vdisk.platform.errors import Refused, VdiskError
from portunix_vdisk.platform.formats import TYPES
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.compact.survey import (
    LEAST_GAIN,
    Compaction,
    Survey,
    allocated,
    no_room,
    out_of_room,
    superfluous,
    survey,
)
from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.source import ImageSource
from portunix_vdisk.steps.step import Context, Json

PIECE: Final = 4 << 20
_BLOCK: Final = 4096
_ZEROS: Final = bytes(PIECE)


@dataclass(frozen=True, slots=True)
class PrepareCopy:
    """Make the new, empty image beside the old one, or keep the one that an earlier run has begun to fill.

    Raises ``Refused`` where the image can't be replaced by another file, is open elsewhere, its filesystem doesn't say
    what is in use, or the host has no room.
    """

    task: Compaction

    def run(self, ctx: Context) -> Json:
        """Result: bytes that will be copied, and that an earlier run left."""
        task = self.task
        about = task.image.lstat()
        refuse_irreplaceable(task.image, about)
        refuse_in_use(task, ctx)
        found = survey_or_refuse(task, ctx)
        there = self._begun(found, ctx)
        free = ctx.platform.free_space(task.image.parent)
        if there < 0 and task.partial.exists():
            free += allocated(task.partial)
        if free < found.kept_bytes - max(there, 0):
            raise Refused(
                f"compacting writes a new image beside the old one: {show_size(found.kept_bytes - max(there, 0))} are "
                f"needed in {task.image.parent}, {show_size(free)} are free",
                state="nothing was changed",
                hint="free some space, or move the image to a larger disk first",
            )
        if there < 0:
            self._make(found, about, ctx)
        return {"kept_bytes": found.kept_bytes, "there_bytes": max(there, 0)}

    def _begun(self, found: Survey, ctx: Context) -> int:
        """Bytes in the image of an earlier run; -1 if there is none that is worth going on with."""
        partial = self.task.partial
        if not os.path.lexists(partial):
            return -1
        if not stat.S_ISREG(partial.lstat().st_mode):
            raise Refused(f"{partial} is in the way", state="nothing was changed", hint="move it away")
        try:
            there = ctx.platform.map_image(partial, self.task.type)
        except VdiskError:
            return -1
        if there.size != found.map.size or superfluous(there, found.kept, TYPES[self.task.type].grain) >= LEAST_GAIN:
            return -1
        return sum(extent.length for extent in there.extents)

    def _make(self, found: Survey, about: os.stat_result, ctx: Context) -> None:
        partial = self.task.partial
        partial.unlink(missing_ok=True)
        # Nobody may read the copy who may not read the original.
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            ctx.platform.create_image(partial, self.task.type, found.map.size)
            if (about.st_uid, about.st_gid) != (partial.stat().st_uid, partial.stat().st_gid):
                os.chown(partial, about.st_uid, about.st_gid)
        except (VdiskError, OSError) as error:
            if out_of_room(error):
                raise no_room(self.task, error) from error
            raise


@dataclass(frozen=True, slots=True)
class CopyUsed:
    """Make the new image equal to what is in use in the old one: all else reads as zeros.

    What is there already is compared and, where it is right, left alone; that makes it continue where it was killed.
    Raises ``Failed``; the new image is kept.
    """

    task: Compaction

    def run(self, ctx: Context) -> Json:
        """Result: bytes written, and bytes found right."""
        task = self.task
        try:
            found = survey_or_refuse(task, ctx)
            with closing(ImageSource(task.image, found.map, found.used)) as source:
                there = ctx.platform.map_image(task.partial, task.type)
                with ctx.platform.open_image(task.partial, task.type, writable=True) as image:
                    written, right = Copying(source, there, image).run(ctx)
                source.check()
        except (VdiskError, OSError) as error:
            if out_of_room(error):
                raise no_room(task, error) from error
            raise
        return {"written_bytes": written, "reused_bytes": right}


@dataclass(frozen=True, slots=True)
class _Piece:
    """Parts of one piece of the disk that must be written, from their start in ``data``; ``right``: bytes that hold."""

    offset: int
    length: int
    data: bytes
    runs: tuple[tuple[int, int], ...]
    right: int


class Copying:
    """Make an image equal to a source; what is there already is compared and, where it is right, left alone."""

    def __init__(self, source: ImageSource, there: ImageMap, image: BlockImage) -> None:
        self._source = source
        self._image = image
        begun = [(extent.start, extent.start + extent.length) for extent in there.extents]
        self._touched = set(pieces(begun))
        self._offsets = sorted(self._touched.union(pieces(source.extents)))

    def run(self, ctx: Context) -> tuple[int, int]:
        """Bytes written and bytes found right."""
        written = right = done = 0
        pipeline = Pipeline(self._prepare, iter(self._offsets))
        try:
            while pipeline.head is not None:
                piece = pipeline.take(ctx.safe_point)
                with memoryview(piece.data) as view:
                    for start, end in piece.runs:
                        if piece.data.startswith(_ZEROS[: end - start], start):
                            self._image.zero(piece.offset + start, end - start)
                        else:
                            self._image.write(piece.offset + start, view[start:end])
                            written += end - start
                right += piece.right
                done += piece.length
                ctx.update(done, len(self._offsets) * PIECE)
        finally:
            pipeline.close()
        ctx.safe_point()
        return written, right

    def _prepare(self, offset: int) -> _Piece:
        length = min(PIECE, self._source.size - offset)
        wanted = bytearray(length)
        self._source.read_into(offset, wanted)
        there = _ZEROS[:length]
        if offset in self._touched:
            there = self._image.read(offset, length)
        if wanted == there:
            return _Piece(offset, length, b"", (), length if offset in self._touched else 0)
        return _Piece(offset, length, bytes(wanted), tuple(_differing(wanted, there)), 0)


def pieces(runs: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Offsets of the aligned pieces of the disk that the runs touch, ascending."""
    last = -1
    for start, end in runs:
        for number in range(max(start // PIECE, last + 1), -(-end // PIECE)):
            yield number * PIECE
            last = number


def _differing(wanted: bytearray, there: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of runs of blocks that differ; none is half zeros, so that holes stay holes."""
    begin, was = 0, ""
    with memoryview(wanted) as one, memoryview(there) as other:
        for start in range(0, len(wanted), _BLOCK):
            end = min(start + _BLOCK, len(wanted))
            kind = ""
            if one[start:end] != other[start:end]:
                kind = "data" if any(one[start : start + 8]) or one[start:end] != _ZEROS[: end - start] else "zero"
            if kind != was:
                if was:
                    yield begin, start
                begin, was = start, kind
    if was:
        yield begin, len(wanted)


def survey_or_refuse(task: Compaction, ctx: Context) -> Survey:
    """The survey. Raises ``Refused`` where the filesystem doesn't say what is in use, or there are snapshots inside."""
    try:
        found = survey(task, ctx.platform)
    except Doubt as doubt:
        raise cannot_tell(task.image, doubt) from doubt
    if found.map.snapshots:
        raise Refused(
            f"{task.image} cannot be compacted: QEMU keeps snapshots in it ({found.map.snapshots}); they would be lost",
            state="nothing was changed",
            hint=f"look at them: qemu-img snapshot -l {task.image}; drop those you don't need: qemu-img snapshot -d …",
        )
    return found


def cannot_tell(image: Path, doubt: Doubt) -> Refused:
    """Why an image can't be compacted."""
    return Refused(
        f"{image} cannot be compacted: {doubt.why}",
        state="nothing was changed",
        hint="mount the disk once and unmount it, then run the same command again" if doubt.unclean else "",
    )


def refuse_in_use(task: Compaction, ctx: Context) -> None:
    """Raises ``Refused`` if a virtual machine or another program has the image open for writing."""
    with ctx.platform.open_image(task.image, task.type, writable=True):
        pass


def refuse_irreplaceable(image: Path, about: os.stat_result) -> None:
    """Raises ``Refused`` where another file cannot take the place of this one without anybody noticing."""
    kept = "nothing was changed"
    if not stat.S_ISREG(about.st_mode):
        raise Refused(f"{image} is not a regular file", state=kept)
    if about.st_nlink > 1:
        raise Refused(
            f"{image} has {about.st_nlink - 1} other names (hard links), which would keep the old content",
            state=kept,
            hint="remove the other names first",
        )
    if os.geteuid() not in (0, about.st_uid):
        raise Refused(
            f"{image} belongs to another user, and a new image would belong to you",
            state=kept,
            hint="run the command as that user, or with sudo as root",
        )
