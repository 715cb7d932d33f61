"""What this machine remembers of the chunks that it packed: a digest of each block, to find what changed in them.

A patch needs to know which blocks of a chunk differ from a former state. Unpacking that state tells, and costs more
than all the rest of a second export; so do 8 bytes for each 4 KiB, kept beside the catalog, in a file for each disk.

The file is a cache. A record holds for a content, named by its digest, and for nothing else, so it is never out of
date; a torn or damaged one has a wrong checksum and counts as none; without the file an export takes longer, once. The
digests are XXH3 with a secret that is drawn for each file: that two states of a block have the same one by chance
(2^-64) is less likely by far than that the memory or the medium exchanges a bit unnoticed.

Little endian: 16 bytes of magic, 8 bytes secret, then at 4096 + n * 8240 the record of the chunk at n * 4 MiB: digest
of the chunk (32), XXH3-64 of each block (8 each; zeros behind a short chunk's last), XXH3-128 of that and the length.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from portunix_vdisk.steps.archive.layout import CHUNK_SIZE
from portunix_vdisk.steps.archive.patch import BLOCK

_MAGIC: Final = b"vdisk blocks 1\0\0"
_FIRST: Final = 4096
_BLOCKS: Final = CHUNK_SIZE // BLOCK
_BODY: Final = struct.Struct(f"<32s{_BLOCKS}Q")
_RECORD: Final = _BODY.size + 16


class KnownBlocks:
    """Digests of the blocks of one disk's chunks. Usable from several threads; failing costs time, so nothing raises.

    Args:
        path: the file; made, with its folder, if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        self._secret = 0
        try:
            path.parent.mkdir(exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            head = os.pread(self._file, 24, 0)
            if len(head) < 24 or not head.startswith(_MAGIC):
                os.ftruncate(self._file, 0)
                head = _MAGIC + os.urandom(8)
                os.pwrite(self._file, head, 0)
            self._secret = int.from_bytes(head[16:], "little")
        except OSError:
            self.close()

    def note(self, offset: int, digest: bytes, content: bytes | bytearray) -> None:
        """Remember the chunk at ``offset``, whose digest is given."""
        if self._file is None:
            return
        blocks = self._digests(content)
        blocks += [0] * (_BLOCKS - len(blocks))
        body = _BODY.pack(digest, *blocks)
        try:
            os.pwrite(self._file, body + self._checksum(body, len(content)), self._place(offset))
        except OSError:
            return

    def changed(self, offset: int, digest: bytes, now: bytes | bytearray) -> Sequence[int] | None:
        """Numbers of the blocks in which ``now`` differs from the chunk with that digest; None if that is not known.

        Both are the chunk at ``offset``, and have the same length.
        """
        if self._file is None:
            return None
        try:
            record = os.pread(self._file, _RECORD, self._place(offset))
        except OSError:
            return None
        body, checksum = record[: _BODY.size], record[_BODY.size :]
        if not body.startswith(digest) or checksum != self._checksum(body, len(now)):
            return None
        former = _BODY.unpack(body)[1:]
        return [number for number, block in enumerate(self._digests(now)) if block != former[number]]

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _digests(self, content: bytes | bytearray) -> list[int]:
        view, secret = memoryview(content), self._secret
        return [xxh3_64_intdigest(view[at : at + BLOCK], secret) for at in range(0, len(content), BLOCK)]

    def _checksum(self, body: bytes, length: int) -> bytes:
        return xxh3_128_digest(body + length.to_bytes(4, "little"), self._secret)

    @staticmethod
    def _place(offset: int) -> int:
        return _FIRST + offset // CHUNK_SIZE * _RECORD
