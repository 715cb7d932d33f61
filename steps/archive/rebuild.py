"""A damaged directory, put together again from the headers of the members and from what is left of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from portunix_vdisk.platform.errors import Corrupt, VdiskError
from portunix_vdisk.steps.archive.directory import (
    ENTRY_MARK,
    Directory,
    Entry,
    directory_bytes,
    directory_start,
    last_whole_directory,
    parse_entry,
    read_directory,
)
from portunix_vdisk.steps.archive.documents import parse_session_text
from portunix_vdisk.steps.archive.index import parse_index
from portunix_vdisk.steps.archive.keyring import Locked
from portunix_vdisk.steps.archive.layout import MAX_MEMBERS, Kind
from portunix_vdisk.steps.archive.members import numbered, read_member
from portunix_vdisk.steps.archive.mending import Overlay
from portunix_vdisk.steps.archive.record import LOCAL_SIGNATURE, MAX_HEADER, Record, header_length, parse_header
from portunix_vdisk.steps.archive.sealing import Vault, piece_of
from portunix_vdisk.steps.archive.storage import Readable

_MARK: Final = LOCAL_SIGNATURE.to_bytes(4, "little")
_WINDOW: Final = 1 << 20
_BLOCK: Final = 512
_MOST_FALSE: Final = 100_000
"""Places that look like the beginning of a header and are none: files on a disk that is stored as it is have some."""
_LARGEST: Final = 128 << 20
_MOST_KEPT: Final = 64
"""Generations of which the directory may have listed the newest one, or two, and so on."""
Members = dict[str, Entry]


@dataclass(frozen=True, slots=True)
class _End:
    """What is behind the last member: where it begins, and its bytes."""

    start: int
    stored: bytes


def mend_directory(overlay: Overlay, copies: Sequence[Members], vault: Vault | None) -> Directory:
    """The directory of an archive, put over it again where it is damaged.

    ``copies`` are directories of copies; ``vault`` opens an encrypted archive, whose indexes may be needed. Raises
    ``Corrupt`` if it can't be put together: then nothing was put over the archive.
    """
    try:
        return read_directory(overlay)
    except Corrupt as error:
        problem = error
    found = dict(walk(overlay, _known_end(overlay)))
    before = _before(overlay)
    known = {**before, **found}
    if not known:
        raise problem
    best: tuple[int, int, bytes] | None = None
    for start in sorted({_end_of(known), *map(_end_of, copies), *directory_start(overlay)}):
        if not 0 <= overlay.size - start <= _LARGEST:
            continue
        end = _End(start, overlay.read(start, overlay.size - start))
        # An entry that is still whole tells of a member whose own header is damaged.
        listed = {name: entry for _, name, entry, _ in _anchors(end.stored)}
        # A copy that agrees with every header tells most: an entry may be damaged and still look like one.
        agreeing = [copy for copy in copies if all(known.get(name) in (None, entry) for name, entry in copy.items())]
        for members in [*agreeing, *_candidates(overlay, end, {**listed, **known}, known, vault)]:
            made = directory_bytes(sorted(members.items(), key=lambda member: member[1].offset), start)
            differing = -1 if members in agreeing else _differing(made, end.stored)
            if len(made) == len(end.stored) and (best is None or differing < best[0]):
                best = differing, start, made
    if best is None:
        raise problem
    overlay.put(*best[1:])
    try:
        return read_directory(overlay)
    except Corrupt:
        overlay.drop(best[1])
        raise problem from None


def _end_of(members: Members) -> int:
    return max((entry.offset + header_length(name) + entry.stored for name, entry in members.items()), default=0)


def walk(file: Readable, at: int = 0) -> Iterator[tuple[str, Entry]]:
    """Every member whose header is whole from ``at`` on, in the order of the file; damage and gaps are skipped.

    A header has a CRC of its own, so nothing else is taken for one. Raises ``Corrupt`` where too much looks like one.
    """
    size, count, false = file.size, 0, 0
    while at < size and count < MAX_MEMBERS:
        try:
            record = parse_header(file.read(at, MAX_HEADER))
        except Corrupt:
            found = _next_header(file, at + 1, _MOST_FALSE - false)
            if found is None:
                return
            at, tried = found
            false += tried
            continue
        if at + record.total > size:
            return
        if _is_listed(record):
            yield record.name, Entry(at, record.stored, record.crc)
        at, count = at + record.total, count + 1


def _next_header(file: Readable, at: int, left: int) -> tuple[int, int] | None:
    """Where the next whole header is, and how many places before it only looked like one."""
    tried = 0
    while at < file.size:
        window = file.read(at, _WINDOW + MAX_HEADER)
        found = window.find(_MARK)
        while 0 <= found < _WINDOW:
            try:
                parse_header(window[found : found + MAX_HEADER])
            except Corrupt:
                tried += 1
                if tried > left:
                    raise Corrupt("the archive is damaged beyond what its members tell") from None
                found = window.find(_MARK, found + 1)
                continue
            return at + found, tried
        at += _WINDOW
    return None


def _is_listed(record: Record) -> bool:
    return record.kind not in (Kind.SAME, Kind.ZERO) and not record.name.startswith("next-")


def _known_end(file: Readable) -> int:
    """Where the last state of the archive ends whose directory is whole."""
    try:
        return last_whole_directory(file).end
    except Corrupt:
        return 0


def _before(file: Readable) -> Members:
    try:
        return last_whole_directory(file).entries
    except Corrupt:
        return {}


def _candidates(file: Readable, end: _End, known: Members, sure: Members, vault: Vault | None) -> Iterator[Members]:
    """What the directory may have listed; ``sure`` are members whose headers are whole."""
    newest_keys = dict(numbered(known, "keys")[-1:])
    everything = {
        name: entry for name, entry in known.items() if not name.startswith("keys-") or name in newest_keys.values()
    }
    yield from (filled for filled in [_filled(end, everything, sure)] if filled is not None)
    yield everything
    # Of two indexes of one generation the one that was written later holds.
    latest = dict(sorted(numbered(known, "index"), key=lambda found: known[found[1]].offset))
    indexes = [latest[generation] for generation in sorted(latest)]
    needed = set[str]()
    for name in reversed(indexes[-_MOST_KEPT:]):
        try:
            needed |= _needs(file, known, name, vault)
        except VdiskError:
            break  # encrypted and no key, or damaged
        yield {
            name: entry
            for name, entry in everything.items()
            if name in needed or not name.startswith(("chunks/", "sealed/", "index-"))
        }


def _needs(file: Readable, known: Members, name: str, vault: Vault | None) -> set[str]:
    """The index of a generation and every member that it names. Raises ``Corrupt``, ``Locked``."""
    record, payload = read_member(file, known[name].offset, name)
    piece = piece_of(record)
    if record.kind is Kind.SEALED:
        if vault is None:
            raise Locked("the archive is encrypted")
        for _, session in numbered(known, "session"):
            vault.learn(parse_session_text(read_member(file, known[session].offset, session)[1]))
        piece, payload = vault.open(record, payload)
    index = parse_index(payload, piece.length, piece.digest, numbered([name], "index")[0][0])
    members = dict(index.members())
    if any(member not in known or known[member].stored != stored for member, stored in members.items()):
        raise Corrupt("the index needs other members than were found")
    return {name, *members}


def _filled(end: _End, known: Members, sure: Members) -> Members | None:
    """The entries that are still whole, and between them the others, if all of them fit exactly."""
    listed = sorted(known.items(), key=lambda member: member[1].offset)
    offsets = [entry.offset for _, entry in listed]
    members: Members = {}
    at, last = 0, -1
    for place, name, entry, taken in _anchors(end.stored):
        if sure.get(name, entry) != entry:
            continue  # damaged, though it looks like an entry
        between = listed[bisect_right(offsets, last) : bisect_left(offsets, entry.offset)]
        if place > at:
            # As many bytes as all of them have: then it is all of them, and no guess.
            if sum(len(_entry_bytes(*one)) for one in between) != place - at:
                return None
            members.update(between)
        members[name] = entry
        at, last = place + taken, entry.offset
    members.update(listed[bisect_right(offsets, last) :])
    return members if last >= 0 else None


def _anchors(stored: bytes) -> Iterator[tuple[int, str, Entry, int]]:
    """Entries that can still be read: place, name, entry and length of each, members ascending."""
    at, last = 0, -1
    while (at := stored.find(ENTRY_MARK, at)) >= 0:
        try:
            name, entry, taken = parse_entry(stored, at)
        except Corrupt:
            at += 1
            continue
        if entry.offset > last:
            yield at, name, entry, taken
            last = entry.offset
        at += taken


def _entry_bytes(name: str, entry: Entry) -> bytes:
    whole, none = directory_bytes([(name, entry)], 0), directory_bytes([], 0)
    return whole[: len(whole) - len(none)]


def _differing(made: bytes, stored: bytes) -> int:
    return sum(made[at : at + _BLOCK] != stored[at : at + _BLOCK] for at in range(0, len(made), _BLOCK))
