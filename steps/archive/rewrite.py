"""Writing an archive anew without what no kept generation needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Corrupt, Failed, Refused
from portunix_vdisk.steps.archive.commit import next_of
from portunix_vdisk.steps.archive.digest import crc32
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import header_length
from portunix_vdisk.steps.archive.storage import ArchiveFile, Readable, exists, whole_path
from portunix_vdisk.steps.durable import fsync_folder
from portunix_vdisk.steps.step import Context, Json

WORTH_IT: Final = 0.30
"""Share of dead bytes from which on an archive is written anew by itself."""


@dataclass(frozen=True, slots=True)
class Space:
    """How an archive's bytes are used."""

    size: int
    alive: int
    """What kept generations need, directory included."""

    @property
    def dead(self) -> int:
        """Bytes that no kept generation needs."""
        return self.size - self.alive

    @property
    def worth_rewriting(self) -> bool:
        """Whether more than 30 % are dead."""
        return self.dead > WORTH_IT * self.size


def space_of(reader: ArchiveReader, generations: Sequence[int]) -> Space:
    """How much of an archive these generations need. Raises ``Corrupt``."""
    members = reader.alive(generations)
    directory = len(directory_bytes(members.items(), reader.size))
    return Space(reader.size, directory + sum(header_length(name) + entry.stored for name, entry in members.items()))


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Write an archive anew with only these generations, prove the copy, and let it take the archive's name.

    A run that was killed goes on where it was. Raises ``Refused`` (volumes, no room), ``Corrupt`` (a member that is
    kept is damaged: the archive stays as it is), ``Failed``.
    """

    archive: Path
    generations: tuple[int, ...]

    def run(self, ctx: Context) -> Json:
        archive = whole_path(self.archive)
        copy = archive.with_name(archive.name + ".rewrite")
        with ArchiveReader(archive) as reader:
            if not archive.exists():
                raise Refused(
                    f"{archive} is in volumes, which are never written anew",
                    state="nothing was changed",
                    hint="export to another file instead",
                )
            if exists(next_of(archive)):
                raise Refused(
                    f"an export to {archive} is unfinished", state="nothing was changed", hint="finish it first"
                )
            members = sorted(reader.alive(self.generations).items(), key=lambda member: member[1].offset)
            total = sum(header_length(name) + entry.stored for name, entry in members)
            there = copy.stat().st_size if copy.exists() else 0
            if ctx.platform.free_space(archive.parent) < total - there + (1 << 20):
                raise Refused(
                    f"{archive.parent} has too little space: {total - there} bytes are needed to write {archive} anew",
                    state="nothing was changed",
                    hint="free some space, then run the same command",
                )
            before = reader.size
            try:
                with ArchiveFile(copy, writable=True, create=True) as file:
                    _copy(reader.file, file, members, total, ctx)
                self._prove(copy, reader)
                copy.replace(archive)
                fsync_folder(archive.parent)
            except OSError as error:
                raise Failed(
                    f"cannot write {copy}: {error.strerror}",
                    state=f"{archive} is as it was",
                    hint="run the same command to continue",
                ) from error
        after = archive.stat().st_size
        return {"archive_bytes": after, "saved_bytes": before - after, "generations": list(self.generations)}

    def _prove(self, copy: Path, former: ArchiveReader) -> None:
        for generation in self.generations:
            with ArchiveReader(copy, generation) as reader:
                reader.check_headers()
                if reader.index != former.read_index(generation):
                    raise Corrupt(f"{copy} came out different", state="the archive is as it was")


def _copy(
    source: Readable, target: ArchiveFile, members: Sequence[tuple[str, Entry]], total: int, ctx: Context
) -> None:
    """Copy members one behind the other; those that are there already are left alone.

    Raises ``Corrupt``, ``OSError``.
    """
    place, listed, going_on = 0, list[tuple[str, Entry]](), True
    for name, entry in members:
        ctx.safe_point()
        length = header_length(name) + entry.stored
        data = source.read(entry.offset, length)
        if len(data) < length or crc32(data[-entry.stored :] if entry.stored else b"") != entry.crc:
            raise Corrupt(
                f"member {name} of the archive is damaged",
                state="the archive is as it was",
                hint="mend it: portunix vdisk archive repair FILE --from DISK-OR-FILE",
            )
        going_on = going_on and target.read(place, length) == data
        if not going_on:
            target.write(place, (data,))
        listed.append((name, Entry(place, entry.stored, entry.crc)))
        place += length
        ctx.update(place, total)
    tail = directory_bytes(listed, place)
    target.write(place, (tail,))
    target.truncate(place + len(tail))
    target.sync()
