"""Adding a finished update to its archive so that the archive can be imported at every moment.

``NAME.next`` holds the update byte for byte as it will stand behind the archive's present end. It is made durable
before the archive is touched; then its records are appended and made durable, then index, directory and end records,
then ``NAME.next`` goes. Whoever finds a cut-off end reads the archive up to the last whole directory; whoever writes
and finds ``NAME.next`` appends it again, and without it touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Corrupt, Failed, Refused, VdiskError
from portunix_vdisk.steps.archive.directory import Directory, directory_digest, last_whole_directory, read_directory
from portunix_vdisk.steps.archive.documents import Update, parse_update_text
from portunix_vdisk.steps.archive.members import check_payload, numbered, read_first
from portunix_vdisk.steps.archive.partial import never_begun
from portunix_vdisk.steps.archive.record import MAX_HEADER, parse_header
from portunix_vdisk.steps.archive.storage import ArchiveFile, Joined, Prefix, Readable, exists, read_exactly
from portunix_vdisk.steps.durable import fsync_folder, partial_of

_PIECE: Final = 4 << 20
_BLOCK: Final = 512


def next_of(archive: Path) -> Path:
    """Where an update of an archive is prepared."""
    return archive.with_name(archive.name + ".next")


def is_update(archive: Path) -> bool:
    """Whether an export to ``archive`` adds a generation: there is one, and no unfinished new one beside it."""
    return exists(archive) and not exists(partial_of(archive))


def read_update(file: Readable) -> Update:
    """The document that begins an update. Raises ``Corrupt``, ``OSError``."""
    first = parse_header(file.read(0, MAX_HEADER))
    payload = read_exactly(file, first.header_length, first.stored)
    check_payload(first, payload)
    return parse_update_text(payload)


def finish_update(archive: Path, poll: Callable[[], None] = lambda: None) -> bool:
    """Finish what a killed :func:`append_update` has begun; whether there was anything.

    Raises ``Refused`` for an archive with an end that belongs to no whole generation, unless the update that was being
    appended lies beside it: a generation whose directory has a bad sector looks the same, and must not be cut off.
    """
    prepared = next_of(archive)
    try:
        with ArchiveFile(archive) as file:
            directory, begun, idle = last_whole_directory(file), False, False
            extra = file.size - directory.end
            if exists(prepared):
                with ArchiveFile(prepared) as next_file:
                    begun, idle = _begun(file, directory, next_file), _is_idle(file, directory, next_file)
    except OSError as error:
        raise Failed(f"cannot read {archive}: {error.strerror}") from error
    if begun:
        append_update(archive, poll)
    elif extra:
        raise Refused(
            f"the last {extra} bytes of {archive} belong to no whole generation: an update that was cut off, or damage",
            state="it was not touched; what comes before them can be imported",
            hint=f"portunix vdisk archive repair {archive} --from DISK-OR-COPY mends damage; or export to another file",
        )
    elif idle:
        _remove(prepared)
    return begun


def _is_idle(file: ArchiveFile, directory: Directory, next_file: ArchiveFile) -> bool:
    """Whether an update that never came to be appended holds nothing to go on with.

    That is so for other keys, for nothing at all, and for replaced members, which belong to a generation that is there
    already; an update with that number against another state of the archive is somebody's work.
    """
    try:
        if never_begun(next_file):
            return True
        update = read_update(next_file)
        there = update.generation in dict(numbered(directory.entries, "index"))
        return bool(update.wipe) or (there and directory_digest(file, directory).hex() == update.directory)
    except VdiskError:
        return False


def _begun(file: ArchiveFile, directory: Directory, next_file: ArchiveFile) -> bool:
    """Whether the archive ends with the update or, behind its last whole directory, with a part of it."""
    try:
        update = read_update(next_file)
    except VdiskError:
        return False
    extra = file.size - update.at
    if extra == next_file.size and directory.end == file.size:
        return _alike(file, update.at, next_file)
    if directory.end != update.at or not 0 < extra <= next_file.size:
        return False
    length = min(extra, _PIECE)
    ours = _is_part_of(file.read(update.at, length), next_file.read(0, length), update.at)
    return ours and _whole(file, update, next_file) is not None


def _is_part_of(there: bytes, update: bytes, at: int) -> bool:
    """Whether ``there``, at this offset of its file, is what a power loss may leave of ``update``.

    Some blocks of the file may be zeros, none may be somebody else's.
    """
    start = 0
    while start < len(there):
        end = start + _BLOCK - (at + start) % _BLOCK
        block = there[start:end]
        if block != update[start : start + len(block)] and block.strip(b"\0"):
            return False
        start = end
    return True


def _alike(file: ArchiveFile, at: int, next_file: ArchiveFile) -> bool:
    """Whether the archive ends with exactly the update; its directory, which covers all of it, stands for the rest."""
    length = min(next_file.size, _PIECE)
    tail = next_file.size - length
    return file.read(at, length) == next_file.read(0, length) and file.read(at + tail, length) == next_file.read(
        tail, length
    )


def _whole(file: Readable, update: Update, next_file: ArchiveFile) -> int | None:
    """Where in the update its index begins, if the update is whole and belongs to this state of the archive."""
    before = Prefix(file, update.at)
    try:
        if directory_digest(before, read_directory(before)).hex() != update.directory:
            return None
        entries = read_directory(Joined(before, update.at, next_file)).entries
    except Corrupt:
        return None
    name = dict(numbered(entries, "index")).get(update.generation)
    return None if name is None else max(0, entries[name].offset - update.at)


def append_update(archive: Path, poll: Callable[[], None] = lambda: None) -> None:
    """Append a prepared update to its archive, durably, and remove it.

    Doing it again after a kill ends in the same. Raises ``Corrupt`` if the update isn't whole or not the archive's, and
    ``Failed`` for errors of the system: the archive can be imported as before, or as updated, in any case.
    """
    prepared = next_of(archive)
    try:
        with ArchiveFile(prepared) as source:
            update = read_update(source)
            with ArchiveFile(archive) as target:
                limit = read_first(target)[1].volume_size
            with ArchiveFile(archive, writable=True, limit=limit) as target:
                tail = _whole(target, update, source)
                if tail is None:
                    raise Corrupt(f"{prepared} is not an update of {archive}", state="neither was changed")
                if target.size != update.at + source.size or not _alike(target, update.at, source):
                    if target.size > update.at:
                        target.truncate(update.at)
                        target.sync()
                    _copy(source, target, update.at, 0, tail, poll)
                    target.sync()
                    _copy(source, target, update.at, tail, source.size, lambda: None)
                target.sync()
                _wipe(target, update)
    except OSError as error:
        raise Failed(
            f"cannot add the new generation to {archive}: {error.strerror}",
            state=f"the archive holds its former generations; the new one is whole in {prepared}",
            hint="once the cause is gone, run the same command to finish; on another medium with --move-to DIR",
        ) from error
    _remove(prepared)


def _wipe(target: ArchiveFile, update: Update) -> None:
    for offset, length in update.wipe:
        if offset + length > update.at:
            raise Corrupt("the update would wipe what it added itself")
        target.write(offset, (bytes(length),))
    if update.wipe:
        target.sync()


def _copy(source: ArchiveFile, target: ArchiveFile, at: int, start: int, end: int, poll: Callable[[], None]) -> None:
    while start < end:
        poll()
        piece = source.read(start, min(_PIECE, end - start))
        if not piece:
            raise OSError(5, "the update became shorter")
        target.write(at + start, (piece,))
        start += len(piece)


def _remove(prepared: Path) -> None:
    with ArchiveFile(prepared) as file:
        files = file.files
    # The first volume goes last: without it the others are nobody's.
    for path in reversed(files):
        with suppress(FileNotFoundError):
            path.unlink()
    fsync_folder(prepared.parent)
