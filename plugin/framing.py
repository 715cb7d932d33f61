"""Protobuf messages on a pipe: each is preceded by its length in bytes, a big-endian 32-bit number."""

from __future__ import annotations

import os
import struct

_LENGTH = struct.Struct(">I")

LONGEST = 64 << 20
"""More bytes than any message has; a larger length means that the stream is not ours."""


def write_message(descriptor: int, payload: bytes) -> None:
    """Write one message whole. Raises ``OSError`` (``BrokenPipeError`` when nobody reads any more)."""
    view = memoryview(_LENGTH.pack(len(payload)) + payload)
    while view:
        view = view[os.write(descriptor, view) :]


def read_message(descriptor: int) -> bytes | None:
    """The next message; None at the end of the stream, also in the middle of a message that was never finished.

    Raises ``OSError``, and ``ValueError`` for a length that cannot be.
    """
    head = _read(descriptor, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > LONGEST:
        raise ValueError(f"message of {length} bytes")
    return _read(descriptor, length)


def _read(descriptor: int, length: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < length:
        part = os.read(descriptor, min(length - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
