"""Members as they are before encryption, and the ciphers of all sessions of one archive.

A sealed payload holds ``u8 kind, u64 offset, u32 length, H of the plain content (32 bytes)``, little endian, and then
the payload that the member would have if the archive weren't encrypted.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from typing import Final

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.digest import crc32, digest_of
from portunix_vdisk.steps.archive.documents import Session, identity_json, parse_identity, parse_object
from portunix_vdisk.steps.archive.encryption import SessionCipher
from portunix_vdisk.steps.archive.keys import MasterKey
from portunix_vdisk.steps.archive.layout import CHUNK_SIZE, Kind, sealed_name, stored_sane
from portunix_vdisk.steps.archive.record import Record
from portunix_vdisk.steps.source import SourceIdentity

_INNER: Final = struct.Struct("<BQI32s")
_SOURCE: Final = b"source"


@dataclass(frozen=True, slots=True)
class Piece:
    """What a record says about its content: of which kind it is, where it belongs, and its digest."""

    kind: Kind
    offset: int
    length: int
    digest: bytes


def piece_of(record: Record) -> Piece:
    """What the header of a record that isn't sealed says."""
    return Piece(record.kind, record.offset, record.length, record.digest)


class Vault:
    """The master key of an archive and the ciphers of its sessions. Opening is safe from several threads."""

    def __init__(self, key: MasterKey, archive_uuid: str) -> None:
        self._key = key
        self._uuid = archive_uuid
        self._ciphers: dict[int, SessionCipher] = {}

    def begin(self, session: Session) -> Session:
        """The document of a new session, with a fresh salt and its source sealed."""
        cipher = SessionCipher.begin(self._key, self._uuid, session.number)
        self._ciphers[session.number] = cipher
        assert session.source is not None
        text = json.dumps(identity_json(session.source)).encode()
        return replace(session, salt=cipher.salt, sealed=cipher.seal(cipher.next_number(), text, _SOURCE))

    def learn(self, session: Session) -> Session:
        """Make what a session sealed readable; its document with the source. Raises ``Corrupt``."""
        cipher = self._ciphers.get(session.number)
        if cipher is None:
            cipher = SessionCipher(self._key, self._uuid, session.number, session.salt)
        text = cipher.open(0, session.sealed, _SOURCE)
        source: SourceIdentity = parse_identity(parse_object(text, "a session document"))
        self._ciphers[session.number] = cipher
        return replace(session, source=source)

    def seal(self, session: int, piece: Piece, payload: bytes, generation: int = 0) -> tuple[Record, bytes]:
        """Record and payload of a member; with a ``generation`` it is that one's index."""
        cipher = self._ciphers[session]
        number = cipher.next_number()
        name = sealed_name(session, number, generation)
        inner = _INNER.pack(piece.kind, piece.offset, piece.length, piece.digest)
        sealed = cipher.seal(number, (inner, payload), name.encode())
        return Record(name, Kind.SEALED, session, number, 0, bytes(32), len(sealed), crc32(sealed)), sealed

    def seal_again(self, record: Record, piece: Piece, payload: bytes, there: bytes) -> bytes | None:
        """The payload that this member had, if this is what it held; see :meth:`SessionCipher.seal_again`."""
        cipher = self._ciphers.get(record.session)
        inner = _INNER.pack(piece.kind, piece.offset, piece.length, piece.digest)
        about = record.name.encode()
        if cipher is None:
            return None
        return cipher.seal_again(record.offset, inner + payload, about, there, record.crc)

    def open(self, record: Record, sealed: bytes) -> tuple[Piece, bytes]:
        """What is in a sealed member. Raises ``Corrupt``."""
        cipher = self._ciphers.get(record.session)
        if cipher is None:
            raise Corrupt(f"member {record.name} belongs to a session that the archive does not have")
        plain = cipher.open(record.offset, sealed, record.name.encode())
        if len(plain) < _INNER.size:
            raise Corrupt(f"member {record.name} is damaged: it is too short")
        kind, offset, length, digest = _INNER.unpack_from(plain)
        payload = plain[_INNER.size :]
        index = record.name.startswith("index-")
        if kind not in set(Kind) or kind == Kind.SEALED or (kind == Kind.DOCUMENT) != index:
            raise Corrupt(f"member {record.name} holds something that this format does not have")
        if not index and (length > CHUNK_SIZE or not stored_sane(Kind(kind), length, len(payload))):
            raise Corrupt(f"member {record.name} has impossible sizes")
        return Piece(Kind(kind), offset, length, digest), payload


def index_piece(plain: bytes) -> Piece:
    """What a sealed index says about itself."""
    return Piece(Kind.DOCUMENT, 0, len(plain), digest_of(plain))
