"""Mending what holds an archive together: its directory, documents and indexes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import zstandard
from blake3 import blake3

from portunix_vdisk.platform.errors import Corrupt, Refused, VdiskError
from portunix_vdisk.steps.archive.commit import finish_update
from portunix_vdisk.steps.archive.digest import crc32, digest_of
from portunix_vdisk.steps.archive.directory import Directory, Entry
from portunix_vdisk.steps.archive.donors import Copy
from portunix_vdisk.steps.archive.keyring import has_key, key_of
from portunix_vdisk.steps.archive.layout import MAX_INDEX, MEMBER, RECOVER_NAME, Kind, kind_of
from portunix_vdisk.steps.archive.members import numbered, read_first, read_member
from portunix_vdisk.steps.archive.mending import Lenient, Overlay, write_mended
from portunix_vdisk.steps.archive.rebuild import mend_directory
from portunix_vdisk.steps.archive.record import Record, document, header_length, parse_header
from portunix_vdisk.steps.archive.sealing import Vault
from portunix_vdisk.steps.archive.storage import ArchiveFile, whole_path
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class RepairFrame:
    """Mend directory, first document, keys, sessions, indexes and RECOVER.txt of an archive, in place.

    No password is needed, but it helps where little is left of the directory. That is put together from the members'
    headers, headers from the directory, and whatever can't be had that
    way is taken from a copy of this archive, where it must have the same length and CRC. The result names what was
    mended, and what could not be. Raises ``Corrupt`` if the directory is beyond that, ``Failed``.
    """

    archive: Path
    copies: tuple[Path, ...] = ()

    def run(self, ctx: Context) -> Json:
        archive = whole_path(self.archive)
        with suppress(Refused, Corrupt):
            # An update that was cut off looks like a damaged end; if this isn't one, the end is looked at below.
            finish_update(archive, ctx.safe_point)
        with ExitStack() as stack:
            file = stack.enter_context(ArchiveFile(archive))
            overlay = Overlay(Lenient(file))
            copies = [stack.enter_context(copy) for copy in _open(self.copies)]
            try:
                directory = mend_directory(overlay, [copy.entries for copy in copies], _vault(overlay))
            except Corrupt as error:
                raise Corrupt(
                    f"{archive}: {error.what}; the end of the file is damaged beyond what its members tell",
                    state="nothing was changed",
                    hint="use a copy of the archive; what was finished before the damage may still be imported",
                ) from error
            mended = ["directory"] if overlay.pieces else []
            lost = []
            for name, entry in directory.entries.items():
                ctx.safe_point()
                if name.startswith(("chunks/", "sealed/")) or is_whole(overlay, name, entry):
                    continue
                if _mend(overlay, directory, name, copies):
                    mended.append(name)
                else:
                    lost.append(name)
            indexes = numbered(directory.entries, "index")
            if "directory" in mended and (not indexes or indexes[-1][1] in lost):
                # As it is, former generations can be read at least.
                raise Corrupt(
                    f"{archive} has lost the end of its newest generation: directory and index",
                    state="nothing was changed; former generations, if there are any, can be imported",
                    hint="name a copy of the archive with --from FILE, or export again to another file",
                )
            written = write_mended(archive, overlay)
        return {"mended": mended, "lost": lost, "written_bytes": written}


def _vault(file: Overlay) -> Vault | None:
    """What opens the archive, if it is encrypted and its key is at hand."""
    with suppress(VdiskError):
        header = read_first(file)[1]
        if header.encrypted and has_key(header.archive_uuid):
            return Vault(key_of(header.archive_uuid, Path()), header.archive_uuid)
    return None


def _open(paths: Sequence[Path]) -> Iterator[Copy]:
    for path in paths:
        with suppress(VdiskError, OSError):
            yield Copy(path)


def is_whole(file: Overlay, name: str, entry: Entry) -> bool:
    """Whether header and payload of a member are what the directory says."""
    try:
        record, payload = read_member(file, entry.offset, name)
    except Corrupt:
        return False
    return (record.stored, record.crc) == (entry.stored, entry.crc) and crc32(payload) == entry.crc


def _mend(overlay: Overlay, directory: Directory, name: str, copies: Sequence[Copy]) -> bool:
    entry = directory.entries[name]
    for made in _candidates(overlay, name, entry, copies):
        overlay.put(entry.offset, made)
        with suppress(Corrupt):
            parse_header(made)
            if is_whole(overlay, name, entry):
                return True
        overlay.drop(entry.offset)
    return False


def _candidates(overlay: Overlay, name: str, entry: Entry, copies: Sequence[Copy]) -> Iterator[bytes]:
    payload = overlay.read(entry.offset + header_length(name), entry.stored)
    if crc32(payload) == entry.crc:
        with suppress(Corrupt):
            yield _record(name, entry, payload).header() + payload
    if name == RECOVER_NAME:
        record, payload = document(name, (resources.files(__package__) / "recover.txt").read_bytes())
        if (record.stored, record.crc) == (entry.stored, entry.crc):
            yield record.header() + payload
    yield from (made for copy in copies if (made := copy.member(name, entry)) is not None)


def _record(name: str, entry: Entry, payload: bytes) -> Record:
    """The header of a document whose payload is whole. Raises ``Corrupt``."""
    match = MEMBER.fullmatch(name)
    assert match is not None
    if kind_of(name) is Kind.SEALED:
        place = int(match["indexer"]), int(match["place"], 16)
        return Record(name, Kind.SEALED, *place, 0, bytes(32), entry.stored, entry.crc)
    length, digest = _facts_of_index(payload, name) if match["index"] else (len(payload), digest_of(payload))
    session = int(match["session"] or 0)
    return Record(name, Kind.DOCUMENT, session, 0, length, digest, entry.stored, entry.crc)


def _facts_of_index(payload: bytes, name: str) -> tuple[int, bytes]:
    """Length and digest of what a frame holds; piece by piece, since a small one may hold 256 MiB."""
    state, length = blake3(), 0
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(payload) as stream:
            while piece := stream.read(1 << 20):
                state.update(piece)
                length += len(piece)
                if length > MAX_INDEX:
                    raise Corrupt(f"member {name} is damaged: it is too long")
    except zstandard.ZstdError as error:
        raise Corrupt(f"member {name} is damaged: {error}") from error
    return length, state.digest()
