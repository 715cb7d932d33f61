"""Where an export writes: into ``NAME.partial`` for a new archive, into ``NAME.next`` for another generation of one.

An update never touches the archive before it is whole: see :mod:`portunix_vdisk.steps.archive.commit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Corrupt, Failed, Refused
from portunix_vdisk.steps.archive.commit import finish_update, is_update, next_of
from portunix_vdisk.steps.archive.directory import directory_digest
from portunix_vdisk.steps.archive.documents import BaseArchive, Header, Update
from portunix_vdisk.steps.archive.index import Base, Chunk
from portunix_vdisk.steps.archive.keyring import key_of
from portunix_vdisk.steps.archive.layout import MAX_NUMBER, NotAnArchive
from portunix_vdisk.steps.archive.members import read_first
from portunix_vdisk.steps.archive.partial import Content, never_begun, read_back
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.sealing import Vault
from portunix_vdisk.steps.archive.storage import ArchiveFile, take_back, volumes_of
from portunix_vdisk.steps.durable import partial_of


@dataclass(slots=True)
class Target:
    """An opened place to write to; ``content`` is None if nothing is there yet."""

    file: ArchiveFile
    base: int
    """Offset in the archive of the first byte of ``file``."""
    former: FormerState | None
    content: Content | None
    vault: Vault | None
    """Of an archive that exists already, finished or not, and is encrypted."""

    def close(self) -> None:
        """Release the files."""
        self.file.close()
        if self.former is not None:
            self.former.reader.close()


class FormerState:
    """The newest generation of the archive that an export continues."""

    def __init__(self, reader: ArchiveReader) -> None:
        self.reader = reader
        self._rows = {chunk.offset: chunk for chunk in reader.index.chunks}

    @property
    def generation(self) -> int:
        """Number of the generation to come."""
        return self.reader.generations[-1] + 1

    def base_at(self, offset: int) -> tuple[Base, bytes] | None:
        """The whole chunk that patches for this place are made against, and its content. Raises ``Corrupt``."""
        chunk = self._rows.get(offset)
        if chunk is None:
            return None
        base = self.base_of(chunk)
        return base, self.reader.plain(Chunk(offset, chunk.length, base.digest, base.member, base.stored))

    def base_for(self, offset: int) -> Base | None:
        """The same without its content."""
        chunk = self._rows.get(offset)
        return None if chunk is None else self.base_of(chunk)

    @staticmethod
    def base_of(chunk: Chunk) -> Base:
        """A patch's own base, so that no patch is ever against a patch; else the chunk itself."""
        return chunk.base or Base(chunk.member, chunk.stored, chunk.digest)

    def update(self) -> Update:
        """What begins an update of this state."""
        reader = self.reader
        if self.generation > MAX_NUMBER:
            raise Refused(f"{reader.path} has been updated too often", hint="export to another file")
        digest = directory_digest(reader.file, reader.directory).hex()
        return Update(reader.header.archive_uuid, self.generation, reader.size, digest)


class DeltaBase(FormerState):
    """The state of another archive that a delta is made against: its chunks are named by digest only."""

    def base_at(self, offset: int) -> tuple[Base, bytes] | None:
        chunk = self._rows.get(offset)
        return None if chunk is None else (Base("", 0, chunk.digest), self.reader.plain(chunk))

    @staticmethod
    def base_of(chunk: Chunk) -> Base:
        return Base("", 0, chunk.digest)

    def document(self) -> BaseArchive:
        """What the delta says about it."""
        reader = self.reader
        return BaseArchive(reader.header.archive_uuid, reader.index.root.hex(), reader.path.name)


def open_delta_base(archive: Path, disk_uuid: str) -> DeltaBase:
    """The newest state of an archive, to make a delta against. Raises ``Refused``, and what reading raises."""
    reader = ArchiveReader(archive)
    if reader.header.disk_uuid != disk_uuid:
        reader.close()
        raise Refused(f"{archive} is an archive of another disk", "nothing was written", "name another --base")
    return DeltaBase(reader)


def open_target(output: Path, disk_uuid: str, limit: int | None, poll: Callable[[], None] = lambda: None) -> Target:
    """Open what an export of this disk to ``output`` writes to, and read what an earlier run left there.

    ``limit`` is the size of volumes for a new archive. Raises ``Refused`` if what is there is another disk's, of
    another format, damaged, or being written by somebody else.
    """
    if is_update(output):
        return _open_update(output, disk_uuid, poll)
    path = partial_of(output)
    there, partial = volumes_of(output), volumes_of(path)
    if there and partial and not there[0].samefile(partial[0]):
        raise Refused(
            f"{output} exists, and beside it the unfinished export {path}",
            state="neither was touched",
            hint=f"move {output} away to finish that export, or delete {path} to update the archive",
        )
    take_back(path, output)
    file = _locked(path, limit)
    try:
        with _in_the_way(path):
            if never_begun(file):
                return Target(file, 0, None, None, None)
            vaults: list[Vault | None] = []

            def vault(header: Header | None) -> Vault | None:
                assert header is not None
                if header.disk_uuid != disk_uuid:
                    raise Refused(
                        f"{path} is the unfinished export of another disk",
                        state="it was not touched",
                        hint="finish that export, delete the file, or choose another output",
                    )
                uuid = header.archive_uuid
                vaults.append(Vault(key_of(uuid, path), uuid) if header.encrypted else None)
                return vaults[0]

            content = read_back(file, payloads=True, vault=vault, poll=poll)
            if content.header is None:
                raise NotAnArchive("not the beginning of an archive")
            return Target(file, 0, None, content, vaults[0])
    except BaseException:
        file.close()
        raise


def _open_update(output: Path, disk_uuid: str, poll: Callable[[], None]) -> Target:
    with _in_the_way(output), ArchiveFile(output) as file:
        header = read_first(file)[1]
    if header.disk_uuid != disk_uuid:
        raise Refused(
            f"{output} is an archive of another disk", state="it was not touched", hint="export to another file"
        )
    with _in_the_way(output):
        finish_update(output, poll)
        reader = ArchiveReader(output)
    try:
        former = FormerState(reader)
        path = next_of(output)
        file = _locked(path, reader.header.volume_size)
    except BaseException:
        reader.close()
        raise
    try:
        with _in_the_way(path):
            if never_begun(file):
                return Target(file, reader.size, former, None, reader.vault)
            content = read_back(file, payloads=True, vault=lambda header: reader.vault, poll=poll)
            if content.update != former.update():
                raise Refused(
                    f"{path} belongs to another state of {output}",
                    state="neither was touched",
                    hint=f"delete {path}, or put the archive back that it belongs to",
                )
            return Target(file, reader.size, former, content, reader.vault)
    except BaseException:
        file.close()
        reader.close()
        raise


def _locked(path: Path, limit: int | None) -> ArchiveFile:
    try:
        file = ArchiveFile(path, writable=True, create=True, limit=limit)
    except OSError as error:
        raise Failed(f"cannot open {path}: {error.strerror}", state="it was not changed") from error
    try:
        file.lock()
    except BlockingIOError:
        file.close()
        raise Refused(f"another export is writing {path}", hint="wait until it is done") from None
    return file


class _in_the_way:  # noqa: N801 - a context manager that reads like a phrase
    """Turns what is wrong with a file that is in the way into ``Refused``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotAnArchive | Corrupt):
            raise Refused(
                f"{self._path} is in the way: {error.what}",
                state="it was not touched",
                hint="move or delete that file",
            ) from error
        if isinstance(error, OSError):
            raise Failed(f"cannot read {self._path}: {error.strerror}", state="it was not changed") from error
