"""The keys of an encrypted archive: a slot that a password opens, and the master key in it.

A password opens a key slot and the slot gives the master key, from which everything else is made. Changing the
password makes another slot and touches nothing else.

Sources: Argon2id, RFC 9106 (version 0x13); AES-256-GCM, NIST SP 800-38D. Numbers are big endian; ``UUID`` is the
archive's UUID as 16 bytes (RFC 9562), so that its spelling changes nothing. A key slot::

    key     = Argon2id(password, salt[16], memory, iterations, lanes, 32 bytes; no secret, no associated data)
    wrapped = AES-256-GCM(key, nonce[12], master[32], SLOT_DOMAIN || UUID || memory u32 || iterations u32 || lanes u32
                          || salt[16]), the tag of 16 bytes last: 48 bytes

Secrets are never shown by ``repr``, and refuse to be pickled and copied. Python cannot erase them from memory.
"""

from __future__ import annotations

import os
import re
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from portunix_vdisk.platform.errors import BadUsage, Corrupt, Missing, WrongPassword

SLOT_DOMAIN: Final = b"portunix-vdisk-archive/key-slot/1\0"
"""What is sealed here: it passes for nothing else, nor for anything of another program."""

TAG_LENGTH: Final = 16
"""Bytes that sealing adds."""
MAX_PASSWORD: Final = 4096
"""Bytes of a password, at most."""
_MASTER_LENGTH: Final = 32
_SLOT_SALT: Final = 16
_NONCE: Final = 12


@dataclass(frozen=True, slots=True)
class Argon2Parameters:
    """What guessing one password costs. The default is RFC 9106's second recommended option.

    Raises ``Corrupt`` outside of the bounds that every reader keeps: a hostile archive must not take the machine.
    """

    memory: int = 64 << 10
    """KiB; 8 MiB to 192 MiB, so that the whole program stays below 300 MB."""
    iterations: int = 3
    """1 to 16."""
    lanes: int = 4
    """1 to 16."""

    def __post_init__(self) -> None:
        bounds = ((self.memory, 8 << 10, 192 << 10), (self.iterations, 1, 16), (self.lanes, 1, 16))
        if any(type(value) is not int or not low <= value <= high for value, low, high in bounds):
            raise Corrupt("the archive is damaged: impossible parameters of its key slot")


@dataclass(frozen=True, slots=True)
class KeySlot:
    """The master key, locked with one password. Nothing in it is secret."""

    parameters: Argon2Parameters
    salt: bytes
    """16 bytes."""
    nonce: bytes
    """12 bytes."""
    wrapped: bytes
    """48 bytes: the master key and a tag."""

    def to_json(self) -> dict[str, object]:
        """For a document of the archive; bytes in lower-case hexadecimal."""
        return {
            "kdf": "argon2id",
            "memory_kib": self.parameters.memory,
            "iterations": self.parameters.iterations,
            "lanes": self.parameters.lanes,
            "salt": self.salt.hex(),
            "nonce": self.nonce.hex(),
            "wrapped": self.wrapped.hex(),
        }

    @classmethod
    def parse(cls, data: Mapping[str, object]) -> KeySlot:
        """Read what :meth:`to_json` made and nothing else. Raises ``Corrupt``; nothing is computed."""
        names = {"kdf", "memory_kib", "iterations", "lanes", "salt", "nonce", "wrapped"}
        if set(data) != names or data["kdf"] != "argon2id":
            raise Corrupt("the archive is damaged: its key slot is none that this format has")
        memory, iterations, lanes = data["memory_kib"], data["iterations"], data["lanes"]
        if not (type(memory) is int and type(iterations) is int and type(lanes) is int):
            raise Corrupt("the archive is damaged: impossible parameters of its key slot")
        return cls(
            Argon2Parameters(memory, iterations, lanes),
            _bytes(data["salt"], _SLOT_SALT),
            _bytes(data["nonce"], _NONCE),
            _bytes(data["wrapped"], _MASTER_LENGTH + TAG_LENGTH),
        )


class MasterKey:
    """32 secret bytes that open a whole archive."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _MASTER_LENGTH:
            raise ValueError(f"a master key has {_MASTER_LENGTH} bytes")
        self._secret = secret

    def secret(self) -> bytes:
        """The bytes themselves, for a process of ours that reads the archive on our behalf."""
        return self._secret

    @classmethod
    def new(cls) -> MasterKey:
        """A master key that nobody has yet."""
        return cls(os.urandom(_MASTER_LENGTH))

    def wrap(self, password: bytes, archive_uuid: str, parameters: Argon2Parameters | None = None) -> KeySlot:
        """A new slot that ``password`` opens.

        Args:
            password: 1 to 4096 bytes, used as they are. Raises ``BadUsage`` for any other length.
            archive_uuid: the slot opens in this archive only.
            parameters: what guessing costs; the default unless a test says otherwise.
        """
        costs = parameters or Argon2Parameters()
        salt, nonce = os.urandom(_SLOT_SALT), os.urandom(_NONCE)
        key = _password_key(password, salt, costs)
        wrapped = AESGCM(key).encrypt(nonce, self._secret, _slot_data(archive_uuid, costs, salt))
        return KeySlot(costs, salt, nonce, wrapped)

    @classmethod
    def unlock(cls, slot: KeySlot, password: bytes, archive_uuid: str, subject: str = "the archive") -> MasterKey:
        """The master key in a slot. ``subject`` is what messages call the archive.

        Raises ``WrongPassword``, also for a slot whose bytes were changed, ``Corrupt`` for a UUID that is none,
        ``BadUsage`` for a password that cannot be one. Takes about 0.1 s and as much memory as the slot says.
        """
        data = _slot_data(archive_uuid, slot.parameters, slot.salt)
        key = _password_key(password, slot.salt, slot.parameters)
        try:
            return cls(AESGCM(key).decrypt(slot.nonce, slot.wrapped, data))
        except InvalidTag:
            raise WrongPassword(
                f"wrong password for {subject}",
                state="nothing was read or written",
                hint="try again; if the password is right, the archive's first bytes are damaged",
            ) from None

    def derive(self, salt: bytes, info: bytes) -> bytes:
        """A key of 32 bytes for one purpose: HKDF-SHA-256 (RFC 5869) of the master key."""
        return HKDF(SHA256(), 32, salt, info).derive(self._secret)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MasterKey) and self._secret == other._secret

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "MasterKey(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not stored or copied")


def check_password(password: bytes) -> None:
    """Raises ``BadUsage`` unless the password has 1 to 4096 bytes."""
    if not password:
        raise BadUsage("the password is empty", state="nothing was done", hint="use a password that is not")
    if len(password) > MAX_PASSWORD:
        raise BadUsage(f"the password is longer than {MAX_PASSWORD} bytes", state="nothing was done")


def _password_key(password: bytes, salt: bytes, parameters: Argon2Parameters) -> bytes:
    check_password(password)
    try:
        return Argon2id(
            salt=salt,
            length=32,
            iterations=parameters.iterations,
            lanes=parameters.lanes,
            memory_cost=parameters.memory,
        ).derive(password)
    except UnsupportedAlgorithm:
        raise Missing(
            "the installed cryptography package has no Argon2id",
            hint="install its wheel from PyPI, or one that was built with OpenSSL 3.2 or newer",
        ) from None
    except MemoryError:
        raise Missing(f"{parameters.memory} KiB of memory for the password are not to be had") from None


def _slot_data(archive_uuid: str, parameters: Argon2Parameters, salt: bytes) -> bytes:
    numbers = struct.pack(">III", parameters.memory, parameters.iterations, parameters.lanes)
    return SLOT_DOMAIN + uuid_bytes(archive_uuid) + numbers + salt


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID. Raises ``Corrupt``."""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        raise Corrupt("the archive is damaged: its UUID is none") from None


def _bytes(value: object, length: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{2 * length}}}", value):
        raise Corrupt("the archive is damaged: its key slot is none that this format has")
    return bytes.fromhex(value)
