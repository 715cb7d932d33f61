"""What of an archive is damaged: every chunk that a generation needs is read and compared with its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from portunix_vdisk.platform.errors import Corrupt, Failed, Refused
from portunix_vdisk.steps.archive.directory import Entry
from portunix_vdisk.steps.archive.index import Base, Chunk, Index
from portunix_vdisk.steps.archive.layout import MAX_CHUNKS
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.archive.reader import ArchiveReader

_MOST_ROWS = 2 * MAX_CHUNKS
"""Rows of all generations together: two of the largest. Small files may claim any number of large ones."""
MOST_PLACES = 64
"""Places on the disk that are remembered of one chunk."""


@dataclass(frozen=True, slots=True)
class Need:
    """A member that generations need, and what they say about it."""

    name: str
    entry: Entry
    length: int
    """Plain bytes of the chunk."""
    digest: bytes
    """H of the chunk; of a patch, of its result."""
    base: Base | None
    """The chunk that a patch is against."""
    offsets: tuple[int, ...]
    """Where on the disk the chunk is, or was in a state that patches are against."""
    generations: tuple[int, ...]
    """Which generations need it, ascending."""

    def chunk(self) -> Chunk:
        """As a row of an index."""
        return Chunk(self.offsets[0], self.length, self.digest, self.name, self.entry.stored, self.base)


@dataclass(frozen=True, slots=True)
class Damaged:
    """A member that does not give its chunk, and why."""

    need: Need
    problem: str


def needs_of(reader: ArchiveReader, indexes: Sequence[Index]) -> list[Need]:
    """Every chunk member that these generations need, in the order of the file. Raises ``Corrupt``."""
    found: dict[str, Need] = {}

    def add(member: str, chunk: Chunk, digest: bytes, base: Base | None, generation: int) -> None:
        former = found.get(member)
        if former is None:
            entry = reader.directory.entries.get(member)
            if entry is None:
                raise Corrupt(f"the archive has no member {member}")
            found[member] = Need(member, entry, chunk.length, digest, base, (chunk.offset,), (generation,))
            return
        offsets, generations = former.offsets, former.generations
        if chunk.offset not in offsets and len(offsets) < MOST_PLACES:
            offsets += (chunk.offset,)
        if generation not in generations:
            generations += (generation,)
        if offsets is not former.offsets or generations is not former.generations:
            found[member] = replace(former, offsets=offsets, generations=generations)

    for index in indexes:
        for chunk in index.chunks:
            if chunk.member:
                add(chunk.member, chunk, chunk.digest, chunk.base, index.generation)
            if chunk.base is not None and chunk.base.member:
                add(chunk.base.member, chunk, chunk.base.digest, None, index.generation)
    return sorted(found.values(), key=lambda need: need.entry.offset)


def problem_of(reader: ArchiveReader, need: Need) -> str:
    """What is wrong with a member; empty if it gives its chunk. Raises ``Failed`` for other files that are in need."""
    try:
        reader.plain(need.chunk())
    except Corrupt as error:
        return error.what
    return ""


def find_damage(
    reader: ArchiveReader, needs: Sequence[Need], poll: Callable[[], None], progress: Callable[[int], None]
) -> list[Damaged]:
    """The members among ``needs`` that are damaged. ``progress`` hears of plain bytes that were checked.

    Raises ``Failed``, ``Refused`` and ``NotFound`` where the archive that this one is a delta against is wanting.
    """
    found: list[Damaged] = []
    pipeline: Pipeline[Need, str] = Pipeline(lambda need: problem_of(reader, need), iter(needs))
    try:
        for need in needs:
            problem = pipeline.take(poll)
            if problem:
                found.append(Damaged(need, problem))
            progress(need.length)
    finally:
        pipeline.close()
    return found


def readable_indexes(reader: ArchiveReader) -> tuple[list[Index], dict[int, str]]:
    """The indexes of all generations, ascending, and of those whose index is damaged what is wrong with it.

    Raises ``Refused`` if they are too large to be held together.
    """
    whole: list[Index] = []
    broken: dict[int, str] = {}
    rows = 0
    for generation in reader.generations:
        try:
            whole.append(reader.read_index(generation))
            rows += len(whole[-1].chunks)
        except (Corrupt, Failed) as error:
            broken[generation] = error.what
        if rows > _MOST_ROWS:
            raise Refused(
                f"the {len(reader.generations)} generations of {reader.path} are too large to be looked at together",
                state="nothing was changed",
                hint="prune the archive, or import what is wanted of it with --salvage",
            )
    return whole, broken


def generations_of(damaged: Iterable[Damaged]) -> list[int]:
    """The generations that need any of these members."""
    return sorted({generation for one in damaged for generation in one.need.generations})
