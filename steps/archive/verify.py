"""Reading every chunk of an archive and comparing it with its digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Corrupt, Failed
from portunix_vdisk.steps.archive.index import Chunk
from portunix_vdisk.steps.archive.mending import is_unreadable
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.step import Context, Json

_NAMED = 3


@dataclass(frozen=True, slots=True)
class VerifyArchive:
    """Check an archive: headers, directory, documents, index and root; without ``quick`` also the content of every
    chunk of every generation.

    Raises ``Corrupt`` naming what is damaged. The result has sizes in bytes.
    """

    archive: Path
    quick: bool = False
    bases: tuple[Path, ...] = ()

    def run(self, ctx: Context) -> Json:
        checked, seen = 0, set[tuple[str, bytes]]()
        with ArchiveReader(self.archive) as newest:
            numbers = newest.generations
        for generation in reversed(numbers):
            with ArchiveReader(self.archive, generation, bases=self.bases) as reader:
                reader.check_headers(ctx.safe_point)
                if self.quick:
                    continue
                chunks = [chunk for chunk in reader.index.chunks if (chunk.member, chunk.digest) not in seen]
                seen.update((chunk.member, chunk.digest) for chunk in chunks)
                verify_chunks(reader, chunks, ctx)
                checked += sum(chunk.length for chunk in chunks)
        return {
            "archive_uuid": newest.header.archive_uuid,
            "disk": newest.index.disk.name,
            "generations": list(numbers),
            "root": newest.index.root.hex(),
            "archive_bytes": newest.size,
            "checked_bytes": checked,
            "quick": self.quick,
            "cut_off_bytes": newest.cut_off,
        }


def damaged_chunks(reader: ArchiveReader, chunks: Sequence[Chunk], ctx: Context) -> list[tuple[Chunk, Corrupt]]:
    """Read these chunks; those that are damaged, with what is wrong. Raises ``Failed`` for errors of the system.

    A place that the medium doesn't give back is damage like any other.
    """

    def check(chunk: Chunk) -> Corrupt | None:
        try:
            reader.plain(chunk)
        except Corrupt as error:
            return error
        except Failed as error:
            if not is_unreadable(error):
                raise
            return Corrupt(error.what, error.state, error.hint)
        return None

    total, done = sum(chunk.length for chunk in chunks), 0
    found: list[tuple[Chunk, Corrupt]] = []
    pipeline: Pipeline[Chunk, Corrupt | None] = Pipeline(check, iter(chunks))
    try:
        for chunk in chunks:
            error = pipeline.take(ctx.safe_point)
            if error is not None:
                found.append((chunk, error))
            done += chunk.length
            ctx.update(done, total)
    finally:
        pipeline.close()
    return found


def verify_chunks(reader: ArchiveReader, chunks: Sequence[Chunk], ctx: Context) -> None:
    """Read these chunks. Raises ``Corrupt`` if any is damaged, naming the first ones."""
    found = damaged_chunks(reader, chunks, ctx)
    if not found:
        return
    names = ", ".join(f"{chunk.member} (disk offset {chunk.offset})" for chunk, _ in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise Corrupt(
        f"{reader.path} is damaged: {len(found)} of {len(chunks)} chunks: {names}{more}",
        state="everything else is whole",
        hint=f"mend it: portunix vdisk archive repair {reader.path} --from DISK-OR-FILE; or use another copy",
    )
