"""A small archive whose parts can be bent before it is written."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from blake3 import blake3

from portunix_vdisk.platform.errors import Corrupt, VdiskError
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes
from portunix_vdisk.steps.archive.layout import Kind
from portunix_vdisk.steps.archive.merkle import root_of
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import Record, document
from portunix_vdisk.tests.support.chunks import CHUNK, noise

PLAIN = noise(3000) + bytes(CHUNK - 3000)
DIGEST = blake3(PLAIN).digest()
NAME = "chunks/1-000000000000.zst"


def compress(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True, **options).compress(data)


class Forge:
    """A small valid archive as parts that can be bent before they are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] = {
            "format": "portunix-vdisk-archive",
            "version": 2,
            "archive_uuid": "a",
            "disk_uuid": "d",
            "chunk_size": CHUNK,
            "encryption": None,
        }
        self.payload = compress(PLAIN)
        self.digest = DIGEST
        self.rows: list[Any] = [[0, CHUNK, DIGEST.hex(), NAME, len(self.payload)]]
        self.index: dict[str, Any] = {
            "version": 2,
            "generation": 1,
            "previous": None,
            "disk": {
                "name": "n",
                "uuid": "d",
                "type": "img",
                "size": 2 * CHUNK,
                "file_system": "ext4",
                "partition": {"start": 0, "length": CHUNK},
                "created_at": "2025-01-01T00:00:00+00:00",
                "owner": {"uid": 0, "gid": 0},
            },
            "finished": "2025-01-01T00:00:00+00:00",
            "source": {"device": 1, "inode": 2, "size": 3, "mtime_ns": 4, "ctime_ns": 5, "view": ""},
        }
        self.index_plain: bytes | None = None
        self.index_payload: bytes | None = None
        self.index_record: Callable[[Record], Record] = lambda record: record
        self.members: Callable[[list[tuple[str, Entry]]], list[tuple[str, Entry]]] = lambda members: members
        self.directory: Callable[[bytes], bytes] = lambda data: data
        self.record: Callable[[Record], Record] = lambda record: record

    def refused(self, match: str = ".", kind: type[VdiskError] = Corrupt, *, write: bool = True) -> None:
        """Written and then refused with the archive's name, in under 2 s and 64 MB."""
        if write:
            self.write()
        tracemalloc.start()
        started = time.monotonic()
        try:
            with pytest.raises(kind, match=match) as caught:
                self.read_all()
            assert str(self.path) in caught.value.what
            assert time.monotonic() - started < 2
            assert tracemalloc.get_traced_memory()[1] < 64 << 20
        finally:
            tracemalloc.stop()

    def read_all(self) -> None:
        """Read everything that a reader reads."""
        with ArchiveReader(self.path) as reader:
            reader.check_headers()
            for chunk in reader.index.chunks:
                reader.plain(chunk)

    def chunk(self) -> Record:
        crc = zlib.crc32(self.payload)
        return self.record(Record(NAME, Kind.ZSTD, 1, 0, CHUNK, self.digest, len(self.payload), crc))

    def write(self) -> None:
        size = self.index["disk"]["size"]
        if "root" not in self.index:
            try:
                leaves = [(row[0], row[1], bytes.fromhex(row[2])) for row in self.rows]
                self.index |= {"data_bytes": sum(row[1] for row in self.rows), "root": root_of(size, leaves).hex()}
            except (ValueError, TypeError, struct.error, IndexError, KeyError):
                self.index |= {"data_bytes": 0, "root": "00" * 32}
        rows = b",\n".join(json.dumps(row).encode() for row in self.rows)
        plain = self.index_plain or json.dumps(self.index)[:-1].encode() + b', "chunks": [\n' + rows + b"\n]}\n"
        data, members = b"", []
        for record, payload in (
            document("portunix-vdisk.json", json.dumps(self.header).encode(), 0),
            (self.chunk(), self.payload),
            document("index-1.json.zst", plain, 0, self.index_payload or compress(plain)),
        ):
            record = self.index_record(record) if "index" in record.name else record
            members.append((record.name, Entry(len(data), record.stored, record.crc)))
            data += record.header() + payload
        self.path.write_bytes(data + self.directory(directory_bytes(self.members(members), len(data))))
