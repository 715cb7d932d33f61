"""Archives made to hurt: each is refused at once, in little memory, and nothing is written outside the target."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import Corrupt, VdiskError
from portunix_vdisk.steps.archive.directory import directory_bytes
from portunix_vdisk.steps.archive.layout import (
    MAX_DOCUMENT,
    Kind,
    NewerVersion,
    NotAnArchive,
    Record,
    document,
    parse_header,
)
from portunix_vdisk.steps.archive.merkle import root_of
from portunix_vdisk.steps.archive.reader import ArchiveReader

CHUNK = 4 << 20
PLAIN = random.Random(1).randbytes(3000) + bytes(CHUNK - 3000)
DIGEST = hashlib.sha256(PLAIN).digest()
NAME = "chunks/1-000000000000.zst"


def compress(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True, **options).compress(data)


class Forge:
    """A small valid archive as parts that can be bent before they are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] = {
            "format": "portunix-vdisk-archive",
            "version": 1,
            "archive_uuid": "a",
            "disk_uuid": "d",
            "chunk_size": CHUNK,
            "encryption": None,
        }
        self.payload = compress(PLAIN)
        self.digest = DIGEST
        self.rows: list[Any] = [[0, CHUNK, DIGEST.hex(), NAME, len(self.payload)]]
        self.index: dict[str, Any] = {
            "version": 1,
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
            "source": {"device": 1, "inode": 2, "size": 3, "mtime_ns": 4, "ctime_ns": 5},
        }
        self.index_plain: bytes | None = None
        self.index_payload: bytes | None = None
        self.index_record: Callable[[Record], Record] = lambda record: record
        self.members: Callable[[list[tuple[int, Record]]], list[tuple[int, Record]]] = lambda members: members
        self.directory: Callable[[bytes], bytes] = lambda data: data
        self.record: Callable[[Record], Record] = lambda record: record

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
            members.append((len(data), record))
            data += record.header() + payload
        self.path.write_bytes(data + self.directory(directory_bytes(self.members(members), len(data))))


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "forged.zip")


def read_all(path: Path) -> None:
    with ArchiveReader(path) as reader:
        reader.check_headers()
        for chunk in reader.index.chunks:
            reader.plain(chunk)


def refused(path: Path, match: str = ".", kind: type[VdiskError] = Corrupt) -> None:
    """Refused with the archive's name, in under 2 s and 64 MB."""
    tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(kind, match=match) as caught:
            read_all(path)
        assert str(path) in caught.value.what
        assert time.monotonic() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_unbent_it_is_fine(forge: Forge) -> None:
    forge.write()
    read_all(forge.path)


# --- the index ----------------------------------------------------------------------------------------------------

STORED = len(compress(PLAIN))


@pytest.mark.parametrize(
    "rows",
    [
        [[0, CHUNK, DIGEST.hex(), "../../etc/passwd", STORED]],
        [[0, CHUNK, DIGEST.hex(), "/etc/passwd", STORED]],
        [[0, CHUNK, DIGEST.hex(), "portunix-vdisk.json", STORED]],
        [[0, CHUNK, DIGEST.hex(), "index-1.json.zst", STORED]],
        [[0, CHUNK, DIGEST.hex(), "chunks/1-000000400000.zst", STORED]],
        [[1, CHUNK, DIGEST.hex(), NAME, STORED]],
        [[-CHUNK, CHUNK, DIGEST.hex(), NAME, STORED]],
        [[2 * CHUNK, CHUNK, DIGEST.hex(), NAME, STORED]],
        [[1 << 70, CHUNK, DIGEST.hex(), NAME, STORED]],
        [[0, CHUNK - 1, DIGEST.hex(), NAME, STORED]],
        [[0, 2 * CHUNK, DIGEST.hex(), NAME, STORED]],
        [[0, -1, DIGEST.hex(), NAME, STORED]],
        [[CHUNK, CHUNK, DIGEST.hex(), NAME, STORED], [0, CHUNK, DIGEST.hex(), NAME, STORED]],
        [[0, CHUNK, DIGEST.hex(), NAME, STORED], [0, CHUNK, DIGEST.hex(), NAME, STORED]],
        [[0, CHUNK, DIGEST.hex().upper(), NAME, STORED]],
        [[0, CHUNK, "00", NAME, STORED]],
        [[0, CHUNK, "zz" * 32, NAME, STORED]],
        [[0, CHUNK, DIGEST.hex(), NAME, 0]],
        [[0, CHUNK, DIGEST.hex(), NAME, 1 << 40]],
        [[0, CHUNK, DIGEST.hex(), NAME, 7]],
        [[0, CHUNK, DIGEST.hex(), NAME]],
        [[0.0, CHUNK, DIGEST.hex(), NAME, STORED]],
        [[False, CHUNK, DIGEST.hex(), NAME, STORED]],
        [["0", CHUNK, DIGEST.hex(), NAME, STORED]],
        [{}],
        [None],
        ["x" * 600],
    ],
)
def test_impossible_rows(forge: Forge, rows: list[Any]) -> None:
    forge.rows = rows
    forge.write()
    refused(forge.path)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"root": "00" * 32, "data_bytes": CHUNK}, Corrupt),
        ({"version": 2}, NewerVersion),
        ({"generation": "1"}, Corrupt),
        ({"source": []}, Corrupt),
        ({"source": {"size": 1}}, Corrupt),
        ({"disk": {}}, Corrupt),
    ],
)
def test_index_that_lies(forge: Forge, change: dict[str, Any], kind: type[VdiskError]) -> None:
    forge.index |= change
    if "disk" in change:
        forge.index |= {"root": "", "data_bytes": 0}
        forge.index_plain = json.dumps(forge.index)[:-1].encode() + b', "chunks": [\n]}\n'
        forge.index["disk"] = {"size": 1}
    forge.write()
    refused(forge.path, kind=kind)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 1 << 60},
        {"size": -1},
        {"size": 2.5},
        {"partition": {"start": 1, "length": 2 * CHUNK}},
        {"partition": {"start": -1, "length": 5}},
        {"owner": None},
        {"uuid": "of another disk"},
        {"name": "../../root/.profile"},
        {"name": ".."},
        {"name": ""},
        {"name": "x" * 256},
        {"name": "a\nb"},
        {"name": "\0"},
    ],
)
def test_impossible_disks(forge: Forge, change: dict[str, Any]) -> None:
    forge.index["disk"] |= change
    forge.write()
    refused(forge.path)


def test_disk_of_an_unknown_type(forge: Forge) -> None:
    forge.index["disk"]["type"] = "floppy"
    forge.write()
    refused(forge.path, "floppy", NewerVersion)


@pytest.mark.parametrize(
    "plain",
    [
        b"[" * 100_000,
        b'{"chunks": [\n' + b"[" * 500 + b"\n]}\n",
        b'{"version": 1, "chunks": []}',
        b'{"version": 1, "chunks": [\n',
        b"\xff\xfe",
        b"null\n",
    ],
)
def test_index_that_is_no_index(forge: Forge, plain: bytes) -> None:
    forge.index_plain = plain
    forge.write()
    refused(forge.path)


@pytest.mark.parametrize("piece", [b"[],", b"\n", b"0,\n", b"x"])
def test_index_bomb(forge: Forge, piece: bytes) -> None:
    """200 MB of nothing in some kilobytes."""
    forge.write()
    head = json.dumps(forge.index)[:-1].encode() + b', "chunks": [\n'
    bomb = head + piece * ((200 << 20) // len(piece))
    forge.index_payload = compress(bomb)
    forge.index_plain = head
    forge.write()
    refused(forge.path)
    forge.index_plain = bomb
    forge.write()
    del bomb
    refused(forge.path)


@pytest.mark.parametrize("change", [{"digest": bytes(32)}, {"length": 10}, {"length": 1 << 20}, {"length": 1 << 31}])
def test_index_whose_header_lies(forge: Forge, change: dict[str, Any]) -> None:
    forge.index_record = lambda record: replace(record, **change)
    forge.write()
    refused(forge.path)


def test_index_goes_on_after_its_end(forge: Forge) -> None:
    forge.write()
    rows = json.dumps(forge.rows[0]).encode()
    forge.index_plain = json.dumps(forge.index)[:-1].encode() + b', "chunks": [\n' + rows + b"\n]}\n{}\n"
    forge.write()
    refused(forge.path)


# --- chunks -------------------------------------------------------------------------------------------------------


def bend_payload(forge: Forge, payload: bytes) -> None:
    forge.payload = payload
    forge.rows[0][4] = len(payload)


@pytest.mark.parametrize(
    "payload",
    [
        compress(bytes(1 << 30)),
        compress(PLAIN, write_content_size=False),
        compress(PLAIN[:-1]),
        compress(PLAIN) + b"more",
        compress(PLAIN) + compress(b""),
        compress(PLAIN)[:-10],
        compress(PLAIN[::-1]),
        b"no frame at all",
        b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + compress(PLAIN),
    ],
)
def test_chunk_that_is_not_what_the_index_says(forge: Forge, payload: bytes) -> None:
    bend_payload(forge, payload)
    forge.write()
    refused(forge.path, NAME)


def test_frame_that_lies_about_its_size(forge: Forge) -> None:
    """A bomb of 1 GiB whose frame header says 4 MiB."""
    frame = bytearray(compress(bytes(1 << 30)))
    honest = compress(PLAIN)
    size = zstandard.frame_header_size(honest)
    bend_payload(forge, honest[:size] + bytes(frame[zstandard.frame_header_size(bytes(frame)) :]))
    forge.write()
    refused(forge.path, NAME)


@pytest.mark.parametrize(
    "change",
    [
        {"length": CHUNK - 1},
        {"digest": bytes(32)},
        {"crc": 5},
        {"kind": Kind.RAW},
        {"kind": Kind.SAME},
        {"kind": Kind.PATCH},
        {"kind": Kind.DOCUMENT},
        {"offset": CHUNK},
        {"offset": 1 << 50},
        {"name": "chunks/1-000000000001.zst"},
        {"name": "chunks/2-000000000000.zst"},
    ],
)
def test_headers_that_disagree(forge: Forge, change: dict[str, Any]) -> None:
    """The directory tells of the honest header; the header itself is another."""
    honest = forge.chunk()
    forge.record = lambda record: replace(record, **change)
    forge.members = lambda members: [(offset, honest if "chunks" in r.name else r) for offset, r in members]
    forge.write()
    refused(forge.path)
    with ArchiveReader(forge.path) as reader, pytest.raises(Corrupt):
        reader.plain(reader.index.chunks[0])


# --- the directory ------------------------------------------------------------------------------------------------


def bent(change: dict[str, Any], shift: int = 0) -> Callable[..., list[tuple[int, Record]]]:
    return lambda members: [
        (offset + shift, replace(record, **change)) if "chunks" in record.name else (offset, record)
        for offset, record in members
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../chunks/1-000000000000.zst",
        "/chunks/1-000000000000.zst",
        "chunks/1-000000000000.zst/",
        "chunks/../../x.zst",
        "C:/chunks.zst",
        "chunks\\1-0.zst",
        "chunks/1-000000000000.same",
        "chunks/1-00000000000\u00e9.zst".encode().decode("latin-1"),
        "x" * 64,
        "x" * 65,
        "",
        "readme.txt",
    ],
)
def test_names(forge: Forge, name: str) -> None:
    forge.members = lambda members: [
        (offset, _Named(record, name) if "chunks" in record.name else record)  # type: ignore[misc]
        for offset, record in members
    ]
    forge.write()
    refused(forge.path)


class _Named:
    """A record with a name that isn't ASCII."""

    def __init__(self, record: Record, name: str) -> None:
        self.crc, self.stored, self.name = record.crc, record.stored, self
        self._bytes = name.encode("latin-1")

    def encode(self, encoding: str) -> bytes:
        return self._bytes


@pytest.mark.parametrize(
    "members",
    [
        lambda members: [*members, members[1]],
        lambda members: [
            members[0],
            members[1],
            members[2],
            (members[1][0], replace(members[1][1], name=NAME[:-4] + "-2.zst")),
        ],
        lambda members: members[1:],
        lambda members: members[:2],
        lambda members: [members[0], members[2]],
        lambda members: [],
        bent({}, shift=1),
        bent({}, shift=1 << 40),
        bent({"stored": CHUNK - 1}),
        bent({"stored": 0xFFFFFFFF}),
        bent({"crc": 1}),
    ],
)
def test_members_that_are_not_so(forge: Forge, members: Any) -> None:
    forge.members = members
    forge.write()
    refused(forge.path)


def patch_end(position: int, form: str, value: int) -> Callable[[bytes], bytes]:
    def patch(data: bytes) -> bytes:
        changed = bytearray(data)
        struct.pack_into(form, changed, len(data) - 22 + position, value)
        return bytes(changed)

    return patch


@pytest.mark.parametrize(
    "directory",
    [
        patch_end(4, "<H", 1),
        patch_end(6, "<H", 1),
        patch_end(8, "<H", 2),
        patch_end(10, "<H", 9),
        patch_end(12, "<I", 0),
        patch_end(12, "<I", 0xFFFFFFFE),
        patch_end(16, "<I", 0),
        patch_end(16, "<I", 0xFFFFFFFF),
        patch_end(20, "<H", 5),
        lambda data: data + b"\0",
        lambda data: data[:-1],
        lambda data: data[:-22],
        lambda data: data[1:],
        lambda data: b"\0" + data,
        lambda data: b"",
    ],
)
def test_end_records_that_lie(forge: Forge, directory: Any) -> None:
    forge.directory = directory
    forge.write()
    refused(forge.path)


@pytest.mark.parametrize(
    ("count", "length", "start"),
    [
        (10_000_000, 460_000_000, 0),
        (2**63, 2**63, 2**63),
        (1, 46, 2**64 - 46),
        (2**64 - 1, 2**64 - 1, 1),
        (1_000_000, 46_000_000, 0),
    ],
)
def test_zip64_lies(forge: Forge, count: int, length: int, start: int) -> None:
    def far(data: bytes) -> bytes:
        place = self_start[0] + len(data) - 22
        end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 0x32D, 45, 0, 0, count, count, length, start)
        locator = struct.pack("<IIQI", 0x07064B50, 0, place, 1)
        return (
            data[:-22]
            + end64
            + locator
            + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
        )

    self_start = [0]
    forge.directory = lambda data: b""
    forge.write()
    self_start[0] = forge.path.stat().st_size
    forge.directory = far
    forge.write()
    refused(forge.path)


def test_ten_million_members_in_a_sparse_file(tmp_path: Path, forge: Forge) -> None:
    """A true count in a file of zeros: refused by the count alone."""
    forge.directory = lambda data: b""
    forge.write()
    size = forge.path.stat().st_size
    length = 10_000_000 * 46
    with forge.path.open("r+b") as file:
        file.truncate(size + length)
        file.seek(size + length)
        file.write(struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 0x32D, 45, 0, 0, 10**7, 10**7, length, size))
        file.write(struct.pack("<IIQI", 0x07064B50, 0, size + length, 1))
        file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 65535, 65535, length, size, 0))
    refused(forge.path, "10000000 members")


# --- the first document -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"format": "something else"}, NotAnArchive),
        ({"version": 2}, NewerVersion),
        ({"version": 10**30}, NewerVersion),
        ({"version": "1"}, Corrupt),
        ({"version": True}, Corrupt),
        ({"version": 0}, Corrupt),
        ({"encryption": {"kdf": "argon2id"}}, NewerVersion),
        ({"chunk_size": 1 << 40}, Corrupt),
        ({"disk_uuid": None}, Corrupt),
        ({"disk_uuid": "another"}, Corrupt),
    ],
)
def test_first_documents(forge: Forge, change: dict[str, Any], kind: type[VdiskError]) -> None:
    forge.header |= change
    forge.write()
    refused(forge.path, kind=kind)


@pytest.mark.parametrize("length", [MAX_DOCUMENT + 1, 1 << 31])
def test_documents_are_small(length: int) -> None:
    parse_header(Record("session-1.json", Kind.DOCUMENT, 1, 0, MAX_DOCUMENT, bytes(32), MAX_DOCUMENT, 0).header())
    with pytest.raises(Corrupt, match="impossible sizes"):
        parse_header(Record("session-1.json", Kind.DOCUMENT, 1, 0, length, bytes(32), length, 0).header())


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(forge: Forge, data: st.DataObject) -> None:
    """Cuts, insertions, overwritten bytes anywhere: never anything but our own errors, never another content."""
    forge.write()
    whole = forge.path.read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        junk = data.draw(st.binary(max_size=12))
        gone = data.draw(st.integers(0, 12))
        whole = whole[:place] + junk + whole[place + gone :] or b"x"
    forge.path.write_bytes(whole)
    try:
        with ArchiveReader(forge.path) as reader:
            assert [reader.plain(chunk) for chunk in reader.index.chunks] == [PLAIN]
    except VdiskError:
        pass
