"""How the members of an archive are encrypted: one cipher for each session.

The master key (:mod:`portunix_vdisk.steps.archive.keys`) gives the key of each session, of which every member is
sealed under its own number. A session draws 32 random bytes of salt when it starts, so that its key is its own over
resumed and rolled back exports, and over copies of one archive that grow apart.

Sources: HKDF, RFC 5869; AES-256-GCM, NIST SP 800-38D, section 8.2.1 for the nonces. Numbers are big endian; ``UUID``
is the archive's UUID as 16 bytes::

    key    = HKDF-SHA-256(master, salt[32], KEY_DOMAIN || UUID || session u16), 32 bytes
    sealed = AES-256-GCM(key, 00 00 00 00 || number u64, plain, MEMBER_DOMAIN || UUID || session u16 || number u64
                         || about), the tag of 16 bytes last
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from typing import Final, NoReturn, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.digest import crc32
from portunix_vdisk.steps.archive.keys import TAG_LENGTH, MasterKey, uuid_bytes

KEY_DOMAIN: Final = b"portunix-vdisk-archive/session-key/1\0"
MEMBER_DOMAIN: Final = b"portunix-vdisk-archive/member/1\0"
"""What a key or a seal is for: none can pass for another, nor for one of another program."""
SALT_LENGTH: Final = 32
"""Bytes of a session's salt."""
_WITNESS: Final = 512
"""Bytes in which a damaged member is compared: a sector."""
_OUTSTANDING: Final = 4096
"""Numbers that may wait to be sealed; the oldest of more can't be sealed any longer."""

Buffer: TypeAlias = bytes | bytearray | memoryview


class SessionCipher:
    """Seals and opens the members of one session of one archive. Usable from several threads.

    A key may never seal two members under one number: whoever had both could read and forge. So only a session that
    has just begun (:meth:`begin`) seals, since nobody else has its salt, and each number that it gave out once.
    """

    __slots__ = ("_aead", "_given", "_lock", "_next", "_place", "_seals", "salt", "session")

    def __init__(self, master: MasterKey, archive_uuid: str, session: int, salt: bytes) -> None:
        """For opening what an earlier session sealed. Raises ``Corrupt`` for a salt, number or UUID that is none."""
        self.session = session
        """1 to 65535."""
        self.salt = salt
        """32 bytes, to be stored with the session; not secret."""
        if not 0 < session < 1 << 16:
            raise Corrupt("the archive is damaged: impossible number of a session")
        if len(salt) != SALT_LENGTH:
            raise Corrupt("the archive is damaged: a session's salt has the wrong length")
        self._place = uuid_bytes(archive_uuid) + struct.pack(">H", session)
        self._aead = AESGCM(master.derive(salt, KEY_DOMAIN + self._place))
        self._lock = threading.Lock()
        self._seals = False
        self._next = 0
        self._given: dict[int, None] = {}

    @classmethod
    def begin(cls, master: MasterKey, archive_uuid: str, session: int) -> SessionCipher:
        """A new session, with a salt of its own; it seals, and opens what it sealed."""
        cipher = cls(master, archive_uuid, session, os.urandom(SALT_LENGTH))
        cipher._seals = True
        return cipher

    def next_number(self) -> int:
        """A number to seal one member under: 0, 1, 2 … It may stay unused."""
        if not self._seals:
            raise RuntimeError("only a session that has just begun seals")
        with self._lock:
            number = self._next
            self._next += 1
            self._given[number] = None
            if len(self._given) > _OUTSTANDING:
                del self._given[next(iter(self._given))]
            return number

    def seal(self, number: int, plain: Buffer | Sequence[Buffer], about: bytes = b"") -> bytes:
        """Encrypt a member: as many bytes as ``plain`` has (of parts: all of them, joined), then a tag of 16.

        Args:
            number: from :meth:`next_number`, each once; anything else is a mistake in the program (``RuntimeError``).
            plain: below 2 GiB.
            about: what else the member is bound to; opening needs the same bytes, which are not stored here.
        """
        with self._lock:
            if number not in self._given:
                raise RuntimeError(f"number {number} was not given out for sealing, or has been used")
            del self._given[number]
        data = plain if isinstance(plain, bytes | bytearray | memoryview) else b"".join(plain)
        return self._aead.encrypt(_nonce(number), data, self._bound(number, about))

    def seal_again(self, number: int, plain: bytes, about: bytes, there: bytes, crc: int) -> bytes | None:
        """What was sealed under this number before, if ``plain`` is what it was; None if it wasn't, or can't be told.

        The same key, number and content make the same bytes, so nothing new becomes known with them. Other content
        under a number that was used must never leave this process. So beside the CRC-32 that the directory has of the
        sealed bytes, what damage left of them must bear witness: the tag, which depends on every byte, or most of the
        rest.

        Args:
            number: the one that it had.
            plain: what may have been sealed.
            about: what it was bound to.
            there: the sealed member as it lies in the file, with its damage.
            crc: CRC-32 of the sealed member as it was.
        """
        if len(there) != len(plain) + TAG_LENGTH:
            return None
        sealed = self._aead.encrypt(_nonce(number), plain, self._bound(number, about))
        if crc32(sealed) != crc:
            return None
        if sealed[-TAG_LENGTH:] == there[-TAG_LENGTH:]:
            return sealed
        blocks = range(0, len(sealed) - TAG_LENGTH, _WITNESS)
        alike = sum(sealed[at : at + _WITNESS] == there[at : at + _WITNESS] for at in blocks)
        return sealed if 2 * alike > len(blocks) else None

    def open(self, number: int, sealed: Buffer, about: bytes = b"") -> bytes:
        """Decrypt a member.

        Raises ``Corrupt`` unless exactly these bytes were sealed in this session of this archive, under this number,
        about the same.
        """
        if not 0 <= number < 1 << 64:
            raise Corrupt("the archive is damaged: impossible number of an encrypted member")
        try:
            return self._aead.decrypt(_nonce(number), sealed, self._bound(number, about))
        except InvalidTag:
            raise Corrupt(
                f"encrypted member {number} of session {self.session} is damaged, or is not from this place"
            ) from None

    def __repr__(self) -> str:
        return f"SessionCipher(session={self.session}, …)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not stored or copied")

    def _bound(self, number: int, about: bytes) -> bytes:
        return MEMBER_DOMAIN + self._place + struct.pack(">Q", number) + about


def _nonce(number: int) -> bytes:
    return bytes(4) + struct.pack(">Q", number)
