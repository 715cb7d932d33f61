"""Reading a sealed archive, from wherever it came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound, Refused, VdiskError
from portunix_vdisk.steps.archive.bases import LONGEST_CHAIN, find_base, missing_state
from portunix_vdisk.steps.archive.digest import digest_of
from portunix_vdisk.steps.archive.directory import Directory, Entry, last_whole_directory
from portunix_vdisk.steps.archive.documents import BaseArchive, Header, Session, parse_session_text
from portunix_vdisk.steps.archive.index import Chunk, Index, parse_index
from portunix_vdisk.steps.archive.keyring import key_of
from portunix_vdisk.steps.archive.layout import HEADER_NAME, Kind, NotAnArchive
from portunix_vdisk.steps.archive.members import check_payload, decompress, numbered, read_first, read_member
from portunix_vdisk.steps.archive.patch import apply_patch, base_digest, longest_patch
from portunix_vdisk.steps.archive.record import MAX_HEADER, Record, parse_header
from portunix_vdisk.steps.archive.sealing import Piece, Vault, piece_of
from portunix_vdisk.steps.archive.storage import ArchiveFile, Prefix, Readable, whole_path
from portunix_vdisk.steps.closing import Closing

_GET_ANOTHER = "copy the archive again or use another export"


class ArchiveReader(Closing):
    """One generation of an archive opened for reading; a context manager. Reading chunks is safe from several threads.

    Opening checks the first document, the directory and the index. Raises ``NotFound``, ``NotAnArchive``,
    ``NewerVersion``, ``Corrupt``, ``Locked`` (encrypted, and its key isn't on the keyring), and ``Failed`` for
    errors of the system.

    Args:
        path: the archive; of volumes the name without number, or the first one.
        generation: the newest one if None.
        file: its bytes, where they aren't simply those at ``path``; closed by whoever opened it.
        bases: where archives that this one is a delta against may be, beside its own folder.
    """

    header: Header
    directory: Directory
    generations: list[int]
    """Numbers of the generations in the archive, ascending."""
    index: Index

    def __init__(
        self,
        path: Path,
        generation: int | None = None,
        *,
        file: Readable | None = None,
        bases: Sequence[Path] = (),
        depth: int = 0,
    ) -> None:
        self.path = path
        self._bases = bases
        self._base: ArchiveReader | None = None
        self._base_lock = Lock()
        self._by_digest: dict[bytes, Chunk] = {}
        self._depth = depth
        self._stack = ExitStack()
        with _naming(path), self._stack as stack:
            try:
                self.file = file or stack.enter_context(ArchiveFile(whole_path(path)))
            except OSError as error:
                if error.strerror == "not a regular file":
                    raise NotAnArchive("not a file") from error
                raise
            self._open(generation)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Release the files."""
        if self._base is not None:
            self._base.close()
        self._stack.close()

    @property
    def size(self) -> int:
        """Length of the archive in bytes, without an update that was cut off."""
        return self.directory.end

    def _open(self, generation: int | None) -> None:
        first, self.header = read_first(self.file)
        whole = self.file.size
        self.directory = last_whole_directory(self.file)
        self.cut_off = whole - self.directory.end
        """Bytes behind the archive that an update left which was cut off."""
        if self.cut_off:
            self.file = Prefix(self.file, self.directory.end)
        if self.directory.entries[HEADER_NAME] != Entry(0, first.stored, first.crc):
            raise Corrupt("the archive's directory does not begin with its first document")
        self.vault: Vault | None = None
        if self.header.encrypted:
            self.vault = Vault(key_of(self.header.archive_uuid, self.path), self.header.archive_uuid)
            for session in self.sessions():
                self.vault.learn(session)
        self._indexes = dict(numbered(self.directory.entries, "index"))
        self.generations = list(self._indexes)
        if not self.generations:
            raise Corrupt("the archive has no index", hint=_GET_ANOTHER)
        self.index = self.read_index(self.generations[-1] if generation is None else generation)
        if self.index.disk.uuid != self.header.disk_uuid:
            raise Corrupt("the archive's index belongs to another disk than its first document")
        for member, stored in self.index.members():
            if self._entry(member).stored != stored:
                raise Corrupt(f"index and directory of the archive disagree about {member}")

    def sessions(self) -> Iterator[Session]:
        """All session documents. Raises ``Corrupt``, ``OSError``."""
        for number, name in numbered(self.directory.entries, "session"):
            record, payload = read_member(self.file, self._entry(name).offset, name)
            _compare(record, self._entry(name))
            check_payload(record, payload)
            session = parse_session_text(payload)
            if session.number != number or (not session.salt) == self.header.encrypted:
                raise Corrupt(f"member {name} of the archive is damaged")
            yield session

    def read_index(self, generation: int) -> Index:
        """The index of a generation. Raises ``NotFound``, ``Corrupt``."""
        name = self._indexes.get(generation)
        if name is None:
            kept = ", ".join(map(str, self.generations))
            raise NotFound(f"the archive has no generation {generation}", hint=f"it has: {kept}")
        piece, payload = self._member(name)
        index = parse_index(payload, piece.length, piece.digest, generation, self.directory.entries)
        if self.header.base is None and not all(
            chunk.member and (chunk.base is None or chunk.base.member) for chunk in index.chunks
        ):
            raise Corrupt("the archive's index is damaged: it refers to another archive, but this is no delta")
        return index

    def plain(self, chunk: Chunk) -> bytes:
        """The bytes of a chunk of the index. Raises ``Corrupt`` naming archive, member and offset; ``Failed``."""
        with _naming(self.path, f"chunk at disk offset {chunk.offset}: "):
            if not chunk.member:
                return self.base().by_digest(chunk.digest)
            piece, payload = self._member(chunk.member, chunk.stored)
            if chunk.base is None:
                data = self._whole(chunk.member, piece, payload, chunk.length, chunk.digest)
            else:
                self._agree(chunk.member, piece, (Kind.PATCH,), chunk.length, chunk.digest)
                patch = decompress(payload, longest_patch(chunk.length), f"member {chunk.member}", exactly=False)
                if base_digest(patch) != chunk.base.digest:
                    raise Corrupt(f"member {chunk.member} is a patch against another chunk", hint=_GET_ANOTHER)
                base = chunk.base
                data = apply_patch(self._former(base.member, base.stored, base.digest, chunk.length), patch)
            if digest_of(data) != chunk.digest:
                raise Corrupt(f"the content of member {chunk.member} is damaged", hint=_GET_ANOTHER)
            return data

    def base(self) -> ArchiveReader:
        """What this delta was made against, at that state. Raises ``Refused``, ``NotFound``, ``Corrupt``."""
        wanted = self.header.base
        if wanted is None:
            raise Corrupt("the archive's index is damaged: it refers to another archive, but this is no delta")
        with self._base_lock:
            if self._base is None:
                if self._depth > LONGEST_CHAIN:
                    raise Refused(f"{self.path} is at the end of more than {LONGEST_CHAIN} deltas")
                path = find_base(wanted, self.path, self._bases)
                self._base = open_state(path, wanted, self._bases, self._depth + 1)
            return self._base

    def by_digest(self, digest: bytes) -> bytes:
        """The content of the chunk with this digest. Raises ``Corrupt``, ``Failed``."""
        if not self._by_digest:
            self._by_digest = {chunk.digest: chunk for chunk in self.index.chunks}
        chunk = self._by_digest.get(digest)
        if chunk is None:
            raise Corrupt(f"{self.path} does not hold a chunk that the delta needs")
        return self.plain(chunk)

    def check_headers(self, poll: Callable[[], None] = lambda: None) -> None:
        """Check that headers, directory and index tell the same of every chunk and session. Raises ``Corrupt``.

        ``poll`` is called often and may raise.
        """
        with _naming(self.path):
            list(self.sessions())
            for number, chunk in enumerate(self.index.chunks):
                if not number % 256:
                    poll()
                if not chunk.member:
                    continue
                record = parse_header(self.file.read(self._entry(chunk.member).offset, MAX_HEADER))
                if record.name != chunk.member:
                    raise Corrupt(f"the archive holds member {record.name} where {chunk.member} should be")
                _compare(record, self._entry(chunk.member))
                if record.kind is not Kind.SEALED:
                    kinds = (Kind.PATCH,) if chunk.base else (Kind.ZSTD, Kind.RAW)
                    self._agree(chunk.member, piece_of(record), kinds, chunk.length, chunk.digest)

    def alive(self, generations: Sequence[int]) -> dict[str, Entry]:
        """All members that these generations need, documents included. Raises ``Corrupt``, ``OSError``."""
        names = {name for name in self.directory.entries if not name.startswith(("chunks/", "sealed/", "index-"))}
        for generation in generations:
            names.add(self._indexes[generation])
            index = self.index if generation == self.index.generation else self.read_index(generation)
            names.update(member for member, _ in index.members())
        return {name: self._entry(name) for name in names}

    def _former(self, member: str, stored: int, digest: bytes, length: int) -> bytes:
        if not member:
            return self.base().by_digest(digest)
        piece, payload = self._member(member, stored)
        return self._whole(member, piece, payload, length, digest)

    def _whole(self, member: str, piece: Piece, payload: bytes, length: int, digest: bytes) -> bytes:
        """The plain content of a member that holds a whole chunk."""
        self._agree(member, piece, (Kind.ZSTD, Kind.RAW), length, digest)
        return payload if piece.kind is Kind.RAW else decompress(payload, length, f"member {member}")

    def _agree(self, member: str, piece: Piece, kinds: tuple[Kind, ...], length: int, digest: bytes) -> None:
        if piece.kind not in kinds or (piece.length, piece.digest) != (length, digest):
            raise Corrupt(f"index and header of member {member} disagree", hint=_GET_ANOTHER)

    def _member(self, name: str, stored: int | None = None) -> tuple[Piece, bytes]:
        """What a member says about its content, and its payload, decrypted. Raises ``Corrupt``."""
        entry = self._entry(name)
        record, payload = read_member(self.file, entry.offset, name)
        _compare(record, entry)
        if stored not in (None, record.stored):
            raise Corrupt(f"index and header of member {name} disagree", hint=_GET_ANOTHER)
        if record.kind is not Kind.SEALED:
            return piece_of(record), payload
        if self.vault is None:
            raise Corrupt(f"member {name} is encrypted in an archive that isn't")
        return self.vault.open(record, payload)

    def _entry(self, name: str) -> Entry:
        entry = self.directory.entries.get(name)
        if entry is None:
            raise Corrupt(f"the archive has no member {name}", hint=_GET_ANOTHER)
        return entry


def open_state(path: Path, wanted: BaseArchive, bases: Sequence[Path], depth: int = 0) -> ArchiveReader:
    """An archive at the state that a delta was made against. Raises ``NotFound`` if it no longer holds that."""
    with ArchiveReader(path, bases=bases, depth=depth) as newest:
        for generation in reversed(newest.generations):
            if newest.read_index(generation).root.hex() == wanted.root:
                return ArchiveReader(path, generation, bases=bases, depth=depth)
    raise missing_state(wanted, path)


def _compare(record: Record, entry: Entry) -> None:
    if (record.stored, record.crc) != (entry.stored, entry.crc):
        raise Corrupt(f"directory and header of member {record.name} disagree", hint=_GET_ANOTHER)


@contextmanager
def _naming(path: Path, where: str = "") -> Iterator[None]:
    """Put the archive's name in front of what went wrong in it."""
    try:
        yield
    except VdiskError as error:
        told = error.what if str(path) in error.what else f"{path}: {where}{error.what}"
        raise type(error)(told, error.state, error.hint) from error
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except OSError as error:
        raise Failed(f"cannot read {path}: {where}{error.strerror}") from error
