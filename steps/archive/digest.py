"""H: the digest of everything in an archive, BLAKE3-256.

Source: "BLAKE3, one function, fast everywhere", https://github.com/BLAKE3-team/BLAKE3-specs. SHA-256 would cost a fifth
of the time that zstd needs for the same bytes, BLAKE3 a tenth.
"""

from __future__ import annotations

from blake3 import blake3


def digest_of(*parts: bytes | bytearray | memoryview) -> bytes:
    """H of all parts joined: 32 bytes."""
    if len(parts) == 1:
        return blake3(parts[0]).digest()
    state = blake3()
    for part in parts:
        state.update(part)
    return state.digest()
