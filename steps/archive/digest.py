"""H, the digest of everything in an archive: BLAKE3-256; and the CRC-32 that ZIP has for each member.

Source: "BLAKE3, one function, fast everywhere", https://github.com/BLAKE3-team/BLAKE3-specs. SHA-256 would cost a fifth
of the time that zstd needs for the same bytes, BLAKE3 a tenth.
zlib-ng makes the CRC-32 of the standard library's zlib ten times as fast, with the processor's vector instructions.
"""

from __future__ import annotations

from blake3 import blake3
from zlib_ng.zlib_ng import crc32

__all__ = ["crc32", "digest_of"]


def digest_of(*parts: bytes | bytearray | memoryview) -> bytes:
    """H of all parts joined: 32 bytes."""
    if len(parts) == 1:
        return blake3(parts[0]).digest()
    state = blake3()
    for part in parts:
        state.update(part)
    return state.digest()
