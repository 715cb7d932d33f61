"""Making one archive of a delta and everything that it is based on, without importing any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import FileIdentity
from portunix_vdisk.platform.errors import Corrupt, Failed, Refused, VdiskError
from portunix_vdisk.steps.archive import storage
from portunix_vdisk.steps.archive.layout import range_count
from portunix_vdisk.steps.archive.pack import Pack, Scan
from portunix_vdisk.steps.archive.plan import Export
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Publish, Seal, Verify
from portunix_vdisk.steps.archive.storage import volumes_of, whole_path
from portunix_vdisk.steps.durable import identity_of, partial_of
from portunix_vdisk.steps.source import Source
from portunix_vdisk.steps.step import Context, Json


class ArchivedDisk:
    """The disk in an archive as the source of an export; whole chunks only.

    It has the identity of what the archive was made from: the content is the same, so that an export of that disk finds
    the new archive up to date, and continues an unfinished one.
    """

    def __init__(self, reader: ArchiveReader) -> None:
        self.path = reader.path
        self.size = reader.index.disk.size
        self.identity = reader.index.source
        self.extents: Sequence[tuple[int, int]] = [
            (chunk.offset, chunk.offset + chunk.length) for chunk in reader.index.chunks
        ]
        self._reader = reader
        self._chunks = {chunk.offset: chunk for chunk in reader.index.chunks}
        self._files = _identities(reader.path)

    def read_into(self, offset: int, buffer: bytearray) -> None:
        """A whole chunk. Raises ``Corrupt`` where it, or what it rests on, is damaged."""
        chunk = self._chunks[offset]
        buffer[:] = self._reader.plain(chunk)

    def announce(self, offset: int, length: int) -> None:
        """Members are read whole, so there is nothing to advise."""

    def check(self) -> None:
        """Raises ``Failed`` if the archive was written to; what it is based on is judged by digests."""
        if _identities(self.path) != self._files:
            raise Failed(
                f"{self.path} was changed while it was read",
                state="what was written so far is kept",
                hint="run the same command again",
            )

    def close(self) -> None:
        """Release the archives."""
        self._reader.close()


@dataclass(frozen=True, slots=True)
class Merge:
    """Write a full archive with the newest state of a delta, proven chunk by chunk, and give it its name.

    An interrupted run is continued. The result says whether there was anything to do. Raises ``Refused`` (it is no
    delta, a base is missing or another archive, the output exists), ``NotFound`` (a base no longer has the state),
    ``Corrupt`` (something is damaged; what was written stays), ``Failed``.
    """

    archive: Path
    output: Path
    bases: tuple[Path, ...] = ()
    encrypted: bool = False
    volume_size: int | None = None
    level: int | None = None

    def run(self, ctx: Context) -> Json:
        with self._open() as reader:
            if reader.header.base is None:
                raise Refused(
                    f"{self.archive} is no delta: it is a full archive already",
                    state="nothing was written",
                    hint="copy it, if that is what you want",
                )
            reader.base()
            disk, root = reader.index.disk, reader.index.root
        facts: Json = {}
        changed = not self._is_there(root)
        if changed:
            export = Export(
                self.archive,
                self.output,
                disk,
                self.encrypted,
                self.level,
                self.volume_size,
                source=lambda ctx: self._source(),
            )
            Scan(export).run(ctx)
            count = range_count(disk.size)
            for number in range(count):
                Pack(export, number, count).run(ctx)
            Seal(export).run(ctx)
            facts = Verify(export, contents=True).run(ctx)
            assert isinstance(facts, dict)
            if facts["root"] != root.hex():
                raise Corrupt(
                    f"{partial_of(self.output)} came out different from {self.archive}",
                    state="it did not get its name",
                    hint="delete that file, then run the same command",
                )
            Publish(export).run(ctx)
        with ArchiveReader(self.output) as made:
            return {
                "archive_uuid": made.header.archive_uuid,
                "disk": disk.name,
                "root": root.hex(),
                "archive_bytes": made.size,
                "data_bytes": made.index.data_bytes,
                "encrypted": made.header.encrypted,
                "written_bytes": facts.get("written_bytes", 0) if isinstance(facts, dict) else 0,
                "reused_bytes": facts.get("reused_bytes", 0) if isinstance(facts, dict) else 0,
                "changed": changed,
            }

    def _open(self) -> ArchiveReader:
        return ArchiveReader(self.archive, bases=self.bases)

    def _source(self) -> Source:
        reader = self._open()
        try:
            return ArchivedDisk(reader)
        except BaseException:
            reader.close()
            raise

    def _is_there(self, root: bytes) -> bool:
        if not storage.exists(self.output):
            return False
        try:
            with ArchiveReader(self.output) as reader:
                if reader.index.root == root and reader.header.base is None:
                    return True
        except VdiskError as error:
            what = error.what
        else:
            what = f"{self.output} exists and holds something else"
        raise Refused(what, state="it was not touched", hint="name another file with --output")


def _identities(archive: Path) -> list[FileIdentity]:
    return [identity_of(path) for path in volumes_of(whole_path(archive))]
