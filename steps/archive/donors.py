"""Where a damaged chunk may be found again: in a disk, in another archive. Everything is judged by its digest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound, Refused, VdiskError
from portunix_vdisk.steps.archive.damage import readable_indexes
from portunix_vdisk.steps.archive.digest import crc32, digest_of
from portunix_vdisk.steps.archive.directory import Entry, last_whole_directory
from portunix_vdisk.steps.archive.index import Chunk
from portunix_vdisk.steps.archive.layout import chunk_length
from portunix_vdisk.steps.archive.mending import Lenient
from portunix_vdisk.steps.archive.packing import covered_chunks
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import header_length
from portunix_vdisk.steps.archive.storage import ArchiveFile, whole_path
from portunix_vdisk.steps.closing import Closing
from portunix_vdisk.steps.free_space import used_extents
from portunix_vdisk.steps.source import ImageSource, Source
from portunix_vdisk.steps.step import Context


class Donor(Protocol):
    """Something that may hold what is damaged."""

    def chunk(self, digest: bytes, offsets: Sequence[int], length: int) -> bytes | None:
        """The chunk with this digest, which was at one of these places of the disk."""

    def close(self) -> None:
        """Release what is held."""


@dataclass(frozen=True, slots=True)
class DiskSource:
    """An image in which chunks may be found; nobody writes to it meanwhile."""

    image: Path
    type: ImageType
    partition: Partition
    file_system: str

    def open(self, ctx: Context) -> Donor:
        """Raises ``Failed``, ``NotFound``, ``Corrupt``."""
        return DiskDonor(self, ctx)


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An archive in which chunks, and of a copy whole members, may be found; its key is on the keyring."""

    archive: Path
    bases: tuple[Path, ...] = ()

    def open(self, ctx: Context) -> Donor:
        """Raises what :class:`ArchiveReader` raises."""
        return ArchiveDonor(self)


class DiskDonor(Closing):
    """Chunks of a disk: at the place where they were, else, after reading the whole disk once, anywhere."""

    def __init__(self, disk: DiskSource, ctx: Context) -> None:
        self._poll = ctx.safe_point
        self._found: dict[bytes, int] | None = None
        with ExitStack() as stack:
            image = ctx.platform.map_image(disk.image, disk.type)
            whole = ImageSource(disk.image, image)
            stack.callback(whole.close)
            used = used_extents(whole, disk.partition, disk.file_system)
            self._views: list[Source] = [whole]
            if used is not None:
                # As an export reads it: without free blocks. These may have been in use when the archive was made.
                view = ImageSource(disk.image, image, used)
                stack.callback(view.close)
                self._views.insert(0, view)
            self._stack = stack.pop_all()

    def chunk(self, digest: bytes, offsets: Sequence[int], length: int) -> bytes | None:
        for offset in offsets:
            for view in self._views:
                if (data := self._read(view, offset, length)) is not None and digest_of(data) == digest:
                    return data
        if self._found is None:
            self._found = self._scan()
        if digest in self._found:
            data = self._read(self._views[0], self._found[digest], length)
            if data is not None and digest_of(data) == digest:
                return data
        return None

    def close(self) -> None:
        self._stack.close()

    def _scan(self) -> dict[bytes, int]:
        view = self._views[0]
        offsets = covered_chunks(view.extents)

        def digest(offset: int) -> bytes:
            data = self._read(view, offset, chunk_length(offset, view.size))
            return b"" if data is None else digest_of(data)

        pipeline: Pipeline[int, bytes] = Pipeline(digest, iter(offsets))
        try:
            return {pipeline.take(self._poll): offset for offset in offsets}
        finally:
            pipeline.close()

    @staticmethod
    def _read(view: Source, offset: int, length: int) -> bytes | None:
        if not 0 <= offset < view.size or chunk_length(offset, view.size) != length:
            return None
        buffer = bytearray(length)
        try:
            view.read_into(offset, buffer)
        except Failed:
            return None  # the donor has bad places of its own; another one, or another place, may do
        return bytes(buffer)


class ArchiveDonor(Closing):
    """Chunks of all generations of an archive, and those that its patches are against."""

    def __init__(self, source: ArchiveSource) -> None:
        self._reader = ArchiveReader(source.archive, bases=source.bases)
        self._chunks: dict[bytes, Chunk] = {}
        try:
            indexes, _ = readable_indexes(self._reader)
        except BaseException:
            self._reader.close()
            raise
        for index in indexes:
            for chunk in index.chunks:
                self._add(chunk)

    def chunk(self, digest: bytes, offsets: Sequence[int], length: int) -> bytes | None:
        chunk = self._chunks.get(digest)
        if chunk is None or chunk.length != length:
            return None
        try:
            return self._reader.plain(chunk)
        except (Corrupt, Failed, Refused, NotFound):
            return None  # damaged itself, or a delta whose base is elsewhere

    def close(self) -> None:
        self._reader.close()

    def _add(self, chunk: Chunk) -> None:
        self._chunks[chunk.digest] = chunk
        if (base := chunk.base) is not None:
            held = Chunk(chunk.offset, chunk.length, base.digest, base.member, base.stored)
            self._chunks.setdefault(base.digest, held)


class Copy(Closing):
    """A copy of the damaged archive: it holds the very same members, which are copied without a password.

    Raises ``Corrupt``, ``OSError``.
    """

    def __init__(self, path: Path) -> None:
        self._file = ArchiveFile(whole_path(path))
        self._lenient = Lenient(self._file)
        try:
            self.entries = last_whole_directory(self._lenient).entries
        except BaseException:
            self._file.close()
            raise

    def member(self, name: str, entry: Entry) -> bytes | None:
        """Header and payload of the member of this name, if it has the same length and CRC; None otherwise."""
        there = self.entries.get(name)
        if there is None or (there.stored, there.crc) != (entry.stored, entry.crc):
            return None
        head = header_length(name)
        data = self._lenient.read(there.offset, head + there.stored)
        return data if crc32(data[head:]) == entry.crc and len(data) == head + entry.stored else None

    def close(self) -> None:
        self._file.close()


class Donors(Closing):
    """All of them, asked one after the other."""

    def __init__(self, sources: Sequence[DiskSource | ArchiveSource], ctx: Context) -> None:
        self._stack = ExitStack()
        self._donors: list[Donor] = []
        self._copies: list[Copy] = []
        with self._stack as stack:
            for source in sources:
                if isinstance(source, ArchiveSource):
                    with suppress(VdiskError, OSError):
                        self._copies.append(stack.enter_context(Copy(source.archive)))
                try:
                    donor = source.open(ctx)
                except Corrupt as error:
                    # Two damaged copies mend each other as far as they can.
                    ctx.warn(f"no help from there: {error.what}")
                    continue
                stack.callback(donor.close)
                self._donors.append(donor)
            self._stack = stack.pop_all()

    def chunk(self, digest: bytes, offsets: Sequence[int], length: int) -> bytes | None:
        """The chunk with this digest, from the first that has it."""
        return next((found for one in self._donors if (found := one.chunk(digest, offsets, length)) is not None), None)

    def member(self, name: str, entry: Entry) -> list[bytes]:
        """Members of copies with this name, length and CRC. An archive that has grown apart may have others there."""
        return [found for copy in self._copies if (found := copy.member(name, entry)) is not None]

    def close(self) -> None:
        self._stack.close()
