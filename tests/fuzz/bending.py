"""Archives taken apart into members, bent, and put together again with every checksum right: so lies get deep."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import zstandard
from edits import edit_index, edit_json
from script import Script

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.digest import digest_of
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes, read_directory
from portunix_vdisk.steps.archive.layout import HEADER_NAME
from portunix_vdisk.steps.archive.record import MAX_HEADER, Record, parse_header
from portunix_vdisk.steps.archive.storage import Joined

_NAMES = ("chunks/1-000000000000.zst", "chunks/1-000000010000.raw", "chunks/2-000000010000.patch.zst", "RECOVER.txt")
_NAMES += ("session-1.json", "index-1.json.zst", "index-2.json.zst", "keys-1.json", "next-2.json", HEADER_NAME)
_NAMES += ("chunks/1-000000000000.same", "chunks/1-000000000000.zero", "sealed/1-00000001", "../up", "/etc/x", "a\\b")
_FIELDS = {"kind": 1, "session": 2, "offset": 8, "length": 4, "stored": 4, "crc": 4}


class Bytes:
    """Something to read, in memory."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class Part:
    """A member."""

    def __init__(self, record: Record, payload: bytes) -> None:
        self.record, self.payload = record, payload
        self.listed: Record | None = None
        """What the directory says, where it is to say something else."""

    @property
    def plain(self) -> bytes:
        """The payload, without compression where it has that; as it is where that fails."""
        try:
            if zstandard.get_frame_parameters(self.payload).content_size > 1 << 22:
                return self.payload  # a bomb of our own
            return zstandard.ZstdDecompressor().decompress(self.payload)
        except zstandard.ZstdError:
            return self.payload

    def put(self, payload: bytes, plain: bytes | None = None) -> None:
        """Another payload, with the right CRC; with ``plain``, also with its length and digest."""
        self.payload = payload
        stored = len(payload) & 0xFFFFFFFF
        self.record = replace(self.record, stored=stored, crc=zlib.crc32(payload))
        if plain is not None:
            self.record = replace(self.record, length=len(plain) & 0xFFFFFFFF, digest=digest_of(plain))


def _bomb(size: int, piece: bytes) -> bytes:
    """A frame of many megabytes."""
    stream = zstandard.ZstdCompressor(level=1, write_content_size=True).compressobj(size=size)
    return b"".join([*(stream.compress(piece) for _ in range(size // len(piece))), stream.flush()])


_BOMBS = [_bomb(size, piece) for size in (1 << 20, 1 << 28, 1 << 30) for piece in (bytes(1 << 20), b"\n" * (1 << 20))]


def compress(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True, write_content_size=True).compress(data)


class Bent:
    """A file of an archive. ``before`` is what it is appended to."""

    def __init__(self, data: bytes, before: bytes = b"") -> None:
        self.honest = True
        """Whether nothing was changed with a checksum made right again."""
        self._before = len(before)
        self.pieces: list[Part | bytes] = []
        listed: dict[str, Entry] = {}
        end = len(data)
        try:
            directory = read_directory(Joined(Bytes(before), len(before), Bytes(data)))
            listed, end = directory.entries, directory.start - len(before)
        except Corrupt:
            pass
        self._whole = bool(listed)
        self._outside = {name: entry for name, entry in listed.items() if entry.offset < len(before)}
        self._names = set(listed) - set(self._outside)
        self._edits: list[Callable[[list[tuple[str, Entry]]], None]] = []
        self._end: list[tuple[int, int]] = []
        at = 0
        while at < end:
            try:
                record = parse_header(data[at : at + MAX_HEADER])
                payload = data[at + record.header_length : at + record.total]
                self.pieces.append(Part(record, payload))
                at += record.total
            except Corrupt:
                next_at = data.find(b"PK\3\4", at + 1)
                stop = end if next_at < 0 else min(next_at, end)
                self.pieces.append(data[at:stop])
                at = stop

    @property
    def parts(self) -> list[Part]:
        return [piece for piece in self.pieces if isinstance(piece, Part)]

    def build(self) -> bytes:
        """The file."""
        made, members = bytearray(), list(self._outside.items())
        for piece in self.pieces:
            if isinstance(piece, bytes):
                made += piece
                continue
            told = piece.listed or piece.record
            if told.name in self._names or piece.listed:
                members.append((told.name, Entry(self._before + len(made), told.stored, told.crc)))
            made += piece.record.header() + piece.payload
        if self._whole:
            for edit in self._edits:
                edit(members)
            end = bytearray(directory_bytes(members, self._before + len(made)))
            for place, value in self._end:
                end[place % len(end)] = value
            made += end
        return bytes(made)

    def bend(self, script: Script) -> None:
        """One change, with checksums made right."""
        self.honest = False
        part = script.pick(self.parts)
        match script.below(12):
            case 0 | 1:
                self._bend_header(script, part)
            case 2 | 3:
                if part.record.name.endswith(".json"):
                    text = edit_json(script, part.payload)
                    part.put(text, text)
                elif part.record.name.startswith("index-") and part.record.name.endswith(".zst"):
                    plain = edit_index(script, part.plain)
                    part.put(compress(plain), plain)
                else:
                    self._bend_payload(script, part)
            case 4 | 5:
                self._bend_payload(script, part)
            case 6:
                plain = bytearray(part.plain)
                for _ in range(1 + script.below(4)):
                    at = script.below(min(len(plain), 80) if script.below(2) else len(plain))
                    plain[at : at + 4] = (script.strange() & 0xFFFFFFFF).to_bytes(4, "little")
                part.put(compress(bytes(plain)), bytes(plain) if script.below(2) else None)
            case 7:
                other = script.pick(self.parts)
                part.payload, other.payload = other.payload, part.payload
                if script.below(2):
                    part.put(part.payload)
                    other.put(other.payload)
            case 8:
                self._move(script, part)
            case 9:
                self._bend_entry(script)
            case 10:
                self._end.append((script.number(2) if script.below(2) else -1 - script.below(98), script.number()))
            case _:
                part.put(script.pick(_BOMBS))
                if script.below(2):
                    part.record = replace(part.record, length=1 << 28)

    def _bend_header(self, script: Script, part: Part) -> None:
        before = part.record
        field = script.pick((*_FIELDS, "name", "digest"))
        if field == "name":
            part.record = replace(before, name=script.pick((*_NAMES, script.pick(self.parts).record.name)))
        elif field == "digest":
            part.record = replace(before, digest=script.pick(self.parts).record.digest)
        else:
            value = script.strange(getattr(before, field)) & ((1 << 8 * _FIELDS[field]) - 1)
            part.record = replace(before, **{field: value})
        if script.below(2):
            part.listed = before
        elif before.name in self._names:
            part.listed = part.record

    def _bend_payload(self, script: Script, part: Part) -> None:
        payload = bytearray(part.payload)
        for _ in range(1 + script.below(4)):
            if payload:
                payload[script.below(len(payload))] = script.number()
        part.put(bytes(payload))
        if script.below(2):
            part.put(bytes(payload), bytes(payload))

    def _move(self, script: Script, part: Part) -> None:
        number = self.pieces.index(part)
        match script.below(4):
            case 0:
                del self.pieces[number]
                if not self.parts:
                    self.pieces.append(part)
            case 1:
                self.pieces.insert(script.below(len(self.pieces) + 1), Part(part.record, part.payload))
            case 2:
                self.pieces.insert(script.below(len(self.pieces)), self.pieces.pop(number))
            case _:
                self.pieces.insert(
                    number, script.pick((b"\0", bytes(512), b"PK\5\6" + bytes(18), part.record.header()))
                )

    def _bend_entry(self, script: Script) -> None:
        which, how, other = script.number(), script.below(6), script.number()
        value, name = script.strange(), script.pick(_NAMES)

        def edit(members: list[tuple[str, Entry]]) -> None:
            if not members:
                return
            number, second = which % len(members), other % len(members)
            old, entry = members[number]
            changed: Any = {
                0: (old, replace(entry, offset=value & ((1 << 64) - 1))),
                1: (old, replace(entry, stored=value & 0xFFFFFFFF)),
                2: (name, entry),
                3: (members[second][0], entry),
                4: (old, members[second][1]),
            }.get(how)
            if changed is not None:
                members[number] = changed
            else:
                members.insert(second, members[number])

        self._edits.append(edit)


def damage(script: Script, data: bytes) -> bytes:
    """What media and crashes do: nothing is made right again."""
    made = bytearray(data)
    at = script.below(len(made) + 1)
    match script.below(5):
        case 0:
            made[at : at + 1] = script.take(1)
        case 1:
            del made[at:]
        case 2:
            length = script.strange(512) % 5000
            made[at : at + length] = bytes(min(length, len(made) - at))
        case 3:
            piece = made[script.below(len(made) + 1) :][: script.below(2000)]
            made[at : at + len(piece)] = piece
        case _:
            made[at:at] = script.take(script.below(32))
    return bytes(made)


def parse_keys(text: bytes) -> dict[str, bytes]:
    """The master keys of the bases, by archive."""
    return {uuid: bytes.fromhex(secret) for uuid, secret in json.loads(text).items()}
