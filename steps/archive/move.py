"""Moving what an unfinished export wrote to another medium, to go on there.

Nothing is given up before its copy is durable and was read back. For an update the archive itself is copied first: it
stays where it was too, with the generations that it had.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound, Refused
from portunix_vdisk.steps.archive.commit import is_update, next_of, read_update
from portunix_vdisk.steps.archive.layout import NotAnArchive
from portunix_vdisk.steps.archive.members import read_first
from portunix_vdisk.steps.archive.partial import never_begun
from portunix_vdisk.steps.archive.storage import ArchiveFile, exists, take_back, volume_path, volumes_of
from portunix_vdisk.steps.durable import fsync_folder, partial_of, publish
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context, Json

_PIECE: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class MoveUnfinished:
    """Move ``NAME.partial``, or ``NAME.next`` and a copy of its archive, to where the export of ``output`` goes on.

    A run that was killed is continued. ``limit`` is the size of volumes where the new place needs them. Raises
    ``NotFound`` (nothing unfinished there), ``Refused`` (something else is in the way, an export is running, no room),
    ``Corrupt`` (what was copied reads back different), ``Failed``: everything is then still where it was.
    """

    former: Path
    output: Path
    limit: int | None = None

    @property
    def unfinished(self) -> Path:
        """What is moved."""
        return next_of(self.former) if is_update(self.former) else partial_of(self.former)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to move, and the export can go on, or has, at its new place."""
        begun = any(exists(path) for path in (self.output, partial_of(self.output), next_of(self.output)))
        return self.former == self.output or (begun and not exists(self.unfinished))

    def run(self, ctx: Context) -> Json:
        if not self.output.parent.is_dir():
            raise NotFound(f"{self.output.parent}: no such folder", hint="name an existing folder with --move-to")
        if self.is_done:
            return {"moved_bytes": 0}
        unfinished, update = self.unfinished, is_update(self.former)
        if not exists(unfinished):
            raise NotFound(
                f"there is no unfinished export at {self.former}",
                state="nothing was moved",
                hint="export to the new place with --output",
            )
        target = next_of(self.output) if update else partial_of(self.output)
        if not update and exists(self.output):
            raise _in_the_way(self.output)
        try:
            with ExitStack() as stack:
                source = stack.enter_context(ArchiveFile(unfinished))
                _lock(source)
                archive = stack.enter_context(ArchiveFile(self.former)) if update else None
                total = source.size + (archive.size if archive else 0)
                self._check_room(total, target, ctx)
                if archive is not None:
                    self._copy_archive(archive, ctx)
                _copy(source, target, self._limit(archive or source), ctx)
                if archive is None or _is_untouched(archive, source):
                    _remove(source)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise Failed(
                f"no space left in {self.output.parent}" if full else f"cannot move {unfinished}: {error.strerror}",
                state="the unfinished export is whole where it was",
                hint="run the same command again, perhaps with another folder",
            ) from error
        return {"moved_bytes": total}

    def _limit(self, first: ArchiveFile) -> int | None:
        """Size of the volumes at the new place: as they are, else as the place needs them."""
        if first.split:
            with suppress(NotAnArchive, Corrupt):
                return read_first(first)[1].volume_size or first.limit
        return self.limit

    def _check_room(self, total: int, target: Path, ctx: Context) -> None:
        names = (target, self.output, _moving(self.output))
        there = sum(file.stat().st_size for name in names for file in volumes_of(name))
        free = ctx.platform.free_space(self.output.parent)
        if free < total - there:
            raise Refused(
                f"{show_size(total - there)} are needed in {self.output.parent}, {show_size(free)} are free",
                state="nothing was moved",
                hint="name a folder with more room",
            )

    def _copy_archive(self, archive: ArchiveFile, ctx: Context) -> None:
        moving = _moving(self.output)
        take_back(moving, self.output)
        if exists(self.output):
            with ArchiveFile(self.output) as there:
                if there.size != archive.size or _digest(there, there.size, ctx) != _digest(archive, archive.size, ctx):
                    raise _in_the_way(self.output)
            return
        _copy(archive, moving, self._limit(archive), ctx)
        with ArchiveFile(moving) as file:
            files, split = file.files, file.split
        # The first volume comes last: with it the archive is there.
        for number in range(len(files), 0, -1):
            publish(files[number - 1], volume_path(self.output, number) if split else self.output)


def _moving(output: Path) -> Path:
    return output.with_name(output.name + ".moving")


def _in_the_way(path: Path) -> Refused:
    return Refused(
        f"{path} exists and is something else",
        state="neither it nor the unfinished export was touched",
        hint="name another folder with --move-to",
    )


def _lock(file: ArchiveFile) -> None:
    try:
        file.lock()
    except BlockingIOError:
        raise Refused(f"an export is writing {file.path}", hint="stop it first") from None


def _copy(source: ArchiveFile, target: Path, limit: int | None, ctx: Context) -> None:
    """Copy a file to another place, durably, and read it back; a copy that was cut off is gone on with."""
    with ArchiveFile(target, writable=True, create=True, limit=limit) as file:
        _lock(file)
        at, size = file.size, source.size
        if at > size or _digest(file, at, ctx) != _digest(source, at, ctx):
            if not never_begun(file):
                raise _in_the_way(target)
            file.truncate(0)
            at = 0
        while at < size:
            ctx.safe_point()
            piece = source.read(at, min(_PIECE, size - at))
            if not piece:
                raise OSError(errno.EIO, "the file became shorter")
            file.write(at, (piece,))
            at += len(piece)
            ctx.update(at, size)
        file.sync()
        file.forget_cache()
        if file.size != size or _digest(file, size, ctx) != _digest(source, size, ctx):
            raise Corrupt(
                f"{target} reads back different from what was written",
                state=f"{source.path} is whole",
                hint="the new medium may be failing; name another folder with --move-to",
            )


def _digest(file: ArchiveFile, end: int, ctx: Context) -> bytes:
    state, at = blake3(), 0
    while at < end and (piece := file.read(at, min(_PIECE, end - at))):
        ctx.safe_point()
        state.update(piece)
        at += len(piece)
    return state.digest()


def _is_untouched(archive: ArchiveFile, update: ArchiveFile) -> bool:
    """Whether appending has not begun yet. Otherwise the archive needs its update beside it, and keeps it."""
    try:
        return never_begun(update) or archive.size == read_update(update).at
    except Corrupt:
        return False


def _remove(file: ArchiveFile) -> None:
    # The first volume goes last: without it the others are nobody's.
    for path in reversed(file.files):
        path.unlink()
    fsync_folder(file.path.parent)
