"""An import under way: the state that the steps of one import share."""

from __future__ import annotations

import errno
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import BlockImage, ImageType, Platform
from portunix_vdisk.platform.errors import Corrupt, Failed
from portunix_vdisk.steps.archive.digest import digest_of
from portunix_vdisk.steps.archive.index import Chunk
from portunix_vdisk.steps.archive.layout import CHUNK_SIZE, chunk_length, range_count, range_of
from portunix_vdisk.steps.archive.mending import Lenient, is_unreadable
from portunix_vdisk.steps.archive.packing import covered_chunks
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.storage import ArchiveFile, whole_path
from portunix_vdisk.steps.archive.write_back import WriteBack
from portunix_vdisk.steps.step import Context

_BLOCK = 64 << 10
_ZERO_BLOCK = bytes(_BLOCK)
_ZERO_CHUNK = bytes(CHUNK_SIZE)


@dataclass(frozen=True, slots=True)
class Import:
    """What is imported to where.

    ``partial`` is the image under its temporary name. It exists already, with the disk's size; whatever it holds is
    compared and, where it differs, overwritten.
    """

    archive: Path
    partial: Path
    type: ImageType
    generation: int | None = None
    bases: tuple[Path, ...] = ()
    salvage: bool = False
    """Chunks that are damaged become zeros, and are told."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A chunk of the target: what it must hold; None means zeros."""

    offset: int
    length: int
    chunk: Chunk | None


@dataclass(frozen=True, slots=True)
class _Ready:
    """What is to be done at a place: nothing if it holds the right bytes already."""

    place: _Place
    right: bool
    data: bytes
    runs: tuple[tuple[int, int], ...]
    """Parts of ``data`` that must be written; the rest is zeros where the image has zeros."""


class ImportJob:
    """One import in this process: the archive, the image, the threads, and which chunks are proven.

    Proven means that this process has either written the chunk, after checking its digest, or read it back from the
    image with the right digest.
    """

    def __init__(self, task: Import, platform: Platform) -> None:
        self.task = task
        self.written = 0
        """Disk bytes written in this process."""
        self.reused = 0
        """Disk bytes found right in the image."""
        self.done = 0
        self.damaged: dict[int, int] = {}
        """Offset and length of chunks that could not be had and are zeros now."""
        self._pipeline: Pipeline[_Place, _Ready] | None = None
        with ExitStack() as stack:
            self.reader = stack.enter_context(_open(task, stack))
            size = self.reader.index.disk.size
            image = platform.map_image(task.partial, task.type)
            if image.size != size:
                raise Failed(
                    f"{task.partial} is a disk of {image.size} bytes, the archive holds one of {size}",
                    hint="delete that file and import again",
                )
            self._touched = set(covered_chunks((one.start, one.start + one.length) for one in image.extents))
            self._image: BlockImage = stack.enter_context(platform.open_image(task.partial, task.type, writable=True))
            self._write_back = WriteBack(self._image.flush)
            self._stack = stack.pop_all()
        places = {offset: _Place(offset, chunk_length(offset, size), None) for offset in self._touched}
        places |= {chunk.offset: _Place(chunk.offset, chunk.length, chunk) for chunk in self.reader.index.chunks}
        self._places = [places[offset] for offset in sorted(places)]
        self._offsets = [place.offset for place in self._places]
        self._proven: set[int] = set()
        self.total = self.reader.index.data_bytes

    def close(self) -> None:
        """Stop the threads, flush and release the image."""
        if self._pipeline is not None:
            self._pipeline.close()
        with _Io(self.task.partial), self._stack, closing(self._write_back):
            self._write_back.wait()

    def unpack(self, index: int, count: int, ctx: Context) -> None:
        """Make one range of the image right; see :class:`Unpack`."""
        start, end = range_of(index, count, self.reader.index.disk.size)
        for place in self._missing(start, end):
            if self._pipeline is None or self._pipeline.head is not place:
                self._restart(place)
            assert self._pipeline is not None
            self._apply(self._pipeline.take(ctx.safe_point))
            with _Io(self.task.partial):
                self._write_back.keep_up(ctx.safe_point)
            self._proven.add(place.offset)
            if place.chunk is not None:
                self.done += place.length
            ctx.update(self.done, self.total)
        ctx.safe_point()

    def finish(self, ctx: Context) -> None:
        """Prove every chunk that this process has not proven yet; then all of it is durable."""
        count = range_count(self.reader.index.disk.size)
        for number in range(count):
            self.unpack(number, count, ctx)
        with _Io(self.task.partial):
            self._write_back.wait()
            self._image.flush()

    def _missing(self, start: int, end: int) -> Iterator[_Place]:
        inside = range(bisect_left(self._offsets, start), bisect_left(self._offsets, end))
        return (self._places[number] for number in inside if self._offsets[number] not in self._proven)

    def _restart(self, place: _Place) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
        self._pipeline = Pipeline(self._prepare, self._missing(place.offset, self.reader.index.disk.size))

    def _prepare(self, place: _Place) -> _Ready:
        touched = place.offset in self._touched
        if touched:
            with _Io(self.task.partial):
                there = self._image.read(place.offset, place.length)
            if place.chunk is None:
                return _Ready(place, there == _ZERO_CHUNK[: place.length], b"", ())
            if digest_of(there) == place.chunk.digest:
                return _Ready(place, True, b"", ())
        assert place.chunk is not None
        try:
            data = self.reader.plain(place.chunk)
        except (Corrupt, Failed) as error:
            if not self.task.salvage or not (isinstance(error, Corrupt) or is_unreadable(error)):
                raise
            self.damaged[place.offset] = place.length
            zero = not touched or there == _ZERO_CHUNK[: place.length]
            return _Ready(_Place(place.offset, place.length, None), zero, b"", ())
        return _Ready(place, False, data, ((0, len(data)),) if touched else tuple(_data_runs(data)))

    def _apply(self, ready: _Ready) -> None:
        place = ready.place
        if ready.right:
            self.reused += place.length if place.chunk is not None else 0
            return
        self._write_back.wrote(place.length)
        with _Io(self.task.partial):
            if place.chunk is None:
                self._image.zero(place.offset, place.length)
                return
            with memoryview(ready.data) as view:
                for start, end in ready.runs:
                    self._image.write(place.offset + start, view[start:end])
        self.written += place.length


def _open(task: Import, stack: ExitStack) -> ArchiveReader:
    """The archive; to be salvaged, what its medium does not give back is damaged and stops nothing."""
    file = None
    if task.salvage:
        try:
            file = Lenient(stack.enter_context(ArchiveFile(whole_path(task.archive))))
        except OSError as error:
            raise Failed(f"cannot read {task.archive}: {error.strerror}") from error
    return ArchiveReader(task.archive, task.generation, file=file, bases=task.bases)


def _data_runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Parts of ``data`` that aren't zeros, in blocks of 64 KiB: an empty image keeps its holes."""
    begin = -1
    for start in range(0, len(data), _BLOCK):
        # Most blocks that aren't zero show it in their first bytes; only others are compared whole.
        zero = not any(data[start : start + 8]) and data[start : start + _BLOCK] == _ZERO_BLOCK[: len(data) - start]
        if zero and begin >= 0:
            yield begin, start
            begin = -1
        elif not zero and begin < 0:
            begin = start
    if begin >= 0:
        yield begin, len(data)


class _Io:
    """Turns errors of the system on the image into ``Failed``; a plain class, since it is entered for every chunk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise Failed(
                f"no space left for {self._path}" if full else f"cannot write {self._path}: {error.strerror}",
                state="what was written so far is kept in that file",
                hint=("free some space, then " if full else "") + "run the same command to continue",
            ) from error


_jobs: dict[Path, ImportJob] = {}


def with_import(task: Import, platform: Platform, work: Callable[[ImportJob], None]) -> ImportJob:
    """Run ``work`` with the import under way to this image in this process; it is closed if that fails."""
    job = _jobs.get(task.partial)
    if job is not None and job.task != task:
        close_import(task.partial)
        job = None
    if job is None:
        job = _jobs[task.partial] = ImportJob(task, platform)
    try:
        work(job)
    except BaseException:
        close_import(task.partial)
        raise
    return job


def close_import(partial: Path) -> None:
    """Flush and release the image of an import."""
    if (job := _jobs.pop(partial, None)) is not None:
        job.close()


def close_imports() -> None:
    """Release all imports of this process."""
    for partial in list(_jobs):
        close_import(partial)
