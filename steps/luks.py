"""The header of an encrypted partition: LUKS1, as cryptsetup, dm-crypt and QEMU read it.

Source: C. Fruhwirth, "LUKS1 On-Disk Format Specification" 1.2.3. All numbers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from portunix_vdisk.platform.errors import Corrupt

MAGIC: Final = b"LUKS\xba\xbe"
SLOTS: Final = 8
_SECTOR = 512
_ACTIVE = 0x00AC71F3
_INACTIVE = 0x0000DEAD
# magic, version, cipher, mode, hash, payload offset (sectors), key bytes, digest, its salt, its iterations, UUID
_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
# active, iterations, salt, offset of the key material (sectors), stripes
_MOST_ITERATIONS = 100_000_000
"""More than a minute for a password; cryptsetup by itself takes two seconds' worth, a few million. Whoever made the
image must not make others compute for days."""
_STRIPES = 4000
_SLOT = struct.Struct(">II32sII")
HEADER_BYTES: Final = _HEADER.size + SLOTS * _SLOT.size
LARGEST_HEADER: Final = 64 << 20
"""Bytes before the content, key material included: two MiB are usual."""


@dataclass(frozen=True, slots=True)
class LuksHeader:
    """What a header says in the clear.

    ``payload`` is where the content begins, in bytes after the start of the partition; ``key_bits`` the size of the
    key that encrypts it; ``slots`` the numbers of the key slots in use, each of which has a password of its own.
    """

    cipher: str
    hash: str
    key_bits: int
    payload: int
    uuid: str
    slots: tuple[int, ...]


def is_encrypted(start: bytes) -> bool:
    """Whether a partition that starts with these bytes is encrypted with LUKS, of whatever version."""
    return start.startswith(MAGIC)


def parse_luks(data: bytes) -> LuksHeader:
    """Understand the first :data:`HEADER_BYTES` of a partition. Raises ``Corrupt`` for what is no LUKS1 header."""
    if len(data) < HEADER_BYTES or not is_encrypted(data):
        raise Corrupt("the partition has no LUKS header")
    _, version, cipher, mode, hash, payload, key_bytes, _, _, iterations, uuid = _HEADER.unpack_from(data)
    if version != 1:
        raise Corrupt(f"the partition is encrypted with LUKS{version}, and only LUKS1 is understood")
    if (
        not _HEADER.size < payload * _SECTOR <= LARGEST_HEADER
        or not 0 < key_bytes <= 512
        or iterations > _MOST_ITERATIONS
    ):
        raise Corrupt("the LUKS header of the partition makes no sense")
    active = []
    for number in range(SLOTS):
        state, iterations, _, _, stripes = _SLOT.unpack_from(data, _HEADER.size + number * _SLOT.size)
        costly = state == _ACTIVE and (iterations > _MOST_ITERATIONS or stripes != _STRIPES)
        if state not in (_ACTIVE, _INACTIVE) or costly:
            raise Corrupt(f"key slot {number} in the LUKS header of the partition makes no sense")
        if state == _ACTIVE:
            active.append(number)
    name = f"{_text(cipher)}-{_text(mode)}"
    return LuksHeader(name, _text(hash), key_bytes * 8, payload * _SECTOR, _text(uuid), tuple(active))


def is_text(secret: bytes) -> bool:
    """Whether a password is text in UTF-8 without NUL: QEMU takes no other, and a disk has to open everywhere."""
    try:
        return "\0" not in secret.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("ascii", "replace")
