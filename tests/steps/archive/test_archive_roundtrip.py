from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from typing import Any

import pytest
import zstandard
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portunix_vdisk.steps.archive.merkle import root_of
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Seal
from portunix_vdisk.tests.support.chunks import CHUNK, noise

PYTHON = os.path.realpath(sys.executable)
"""The interpreter below the virtual environment: it knows nothing of this package."""


def text(length: int, seed: int = 1) -> bytes:
    words = [b"%x" % random.Random(seed * 1000 + n).getrandbits(40) for n in range(500)]
    line = b" ".join(words)
    return (line * (length // len(line) + 1))[:length]


pieces = st.lists(
    st.tuples(
        st.integers(0, 5 * CHUNK),
        st.integers(1, CHUNK + 5000),
        st.sampled_from(["noise", "text", "zero", "ones"]),
        st.integers(0, 2),
    ),
    max_size=5,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(size=st.integers(1, 6 * CHUNK), pieces=pieces, count=st.integers(1, 4))
def test_any_disk_comes_back(new_house: Any, size: int, pieces: Any, count: int) -> None:
    house = new_house()
    fill = {"noise": noise, "text": text, "zero": lambda n, s: bytes(n), "ones": lambda n, s: b"\1" * n}
    house.make(size, {at: fill[how](min(length, size - at), seed) for at, length, how, seed in pieces if at < size})
    result = house.export(count)
    again = house.import_(count)
    house.assert_same()
    assert result["root"] == again["root"] and result["disk_bytes"] == size
    assert result["reused_bytes"] == 0 and result["written_bytes"] == result["archive_bytes"]
    assert house.output.stat().st_size == result["archive_bytes"] and not house.partial.exists()
    with zipfile.ZipFile(house.output) as archive:
        assert archive.testzip() is None


@pytest.fixture
def varied(house: Any) -> Any:
    """Text, noise, twice the same, explicit zeros, a hole, a short last chunk."""
    house.make(
        6 * CHUNK + 1234,
        {
            0: text(CHUNK),
            CHUNK: noise(CHUNK),
            2 * CHUNK: noise(CHUNK),
            3 * CHUNK: bytes(CHUNK),
            5 * CHUNK + 100: text(2000),
            6 * CHUNK + 1000: text(234),
        },
    )
    return house


def test_members_are_what_the_format_says(varied: Any) -> None:
    result = varied.export()
    with zipfile.ZipFile(varied.output) as archive:
        names = archive.namelist()
        assert names == [
            "portunix-vdisk.json",
            "session-1.json",
            "chunks/1-000000000000.zst",
            "chunks/1-000000400000.raw",
            "chunks/1-000001400000.zst",
            "chunks/1-000001800000.zst",
            "index-1.json.zst",
            "RECOVER.txt",
        ]
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        header = json.loads(archive.read(names[0]))
        assert header.pop("archive_uuid") == result["archive_uuid"] and header.pop("disk_uuid")
        assert header == {"format": "portunix-vdisk-archive", "version": 2, "chunk_size": CHUNK} | dict.fromkeys(
            ("encryption", "base", "volume_size")
        )
        session = json.loads(archive.read(names[1]))
        status = varied.image.stat()
        assert session["source"] == {
            "device": status.st_dev,
            "inode": status.st_ino,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "ctime_ns": status.st_ctime_ns,
            "view": "",
        }
        assert (session["session"], session["generation"], session["salt"]) == (1, 1, None)
        index = json.loads(zstandard.ZstdDecompressor().decompress(archive.read("index-1.json.zst")))
        frame = zstandard.get_frame_parameters(archive.read(names[2]))
        assert frame.content_size == CHUNK and frame.has_checksum
    assert index["previous"] is None and index["root"] == result["root"]
    assert [row[0] // CHUNK for row in index["chunks"]] == [0, 1, 2, 5, 6]
    assert index["chunks"][2][3] == index["chunks"][1][3], "equal chunks share a member"
    assert index["data_bytes"] == sum(row[1] for row in index["chunks"]) == 4 * CHUNK + 1234


def test_local_header_byte_for_byte(varied: Any) -> None:
    varied.export()
    data = varied.output.read_bytes()
    with zipfile.ZipFile(varied.output) as archive:
        info = archive.getinfo("chunks/1-000000400000.raw")
    head = data[info.header_offset :][: 30 + len(info.filename) + 56]
    plain = noise(CHUNK)
    own = struct.pack("<HHBBHQI", 0x7650, 52, 1, 2, 1, CHUNK, CHUNK) + blake3(plain).digest()
    expected = struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", 10, 0, 0, 0, 0x21, info.CRC, CHUNK, CHUNK, len(info.filename), 56
    )
    expected += info.filename.encode() + own
    assert head == expected + struct.pack("<I", zlib.crc32(expected))


def test_root_is_the_documented_tree() -> None:
    def h(data: bytes) -> bytes:
        return blake3(data).digest()

    digests = [h(b"a"), h(b"b"), h(b"c")]
    chunks = [(n * CHUNK, CHUNK, digest) for n, digest in enumerate(digests)]
    a, b, c = (h(b"\0" + struct.pack("<QI", offset, length) + digest) for offset, length, digest in chunks)
    top = h(b"\1" + h(b"\1" + a + b) + c)
    assert root_of(3 * CHUNK, chunks) == h(b"\2" + struct.pack("<Q", 3 * CHUNK) + top)
    assert root_of(99, []) == h(b"\2" + struct.pack("<Q", 99) + bytes(32))


def test_other_programs_accept_it(varied: Any) -> None:
    varied.export()
    subprocess.run(["unzip", "-tqq", varied.output], check=True)
    for name in ("7z", "7zz", "7za"):
        if shutil.which(name):
            done = subprocess.run([name, "t", varied.output], check=True, capture_output=True, text=True)
            assert "Warnings" not in done.stdout


def test_holes_after_dense_chunks(house: Any) -> None:
    """Threads keep their buffers: what a chunk before left in them must not show in the holes of the next."""
    dense = {n * CHUNK: noise(CHUNK, n) for n in range(6)}
    middle = {n * CHUNK + CHUNK // 2: noise(4096, n) for n in range(6, 12)}
    start = {n * CHUNK: noise(4096, n) for n in range(12, 18)}
    house.make(18 * CHUNK, dense | middle | start)
    house.export()
    house.import_()
    house.assert_same()


def test_import_keeps_holes(varied: Any) -> None:
    varied.export()
    varied.import_()
    assert varied.back.stat().st_blocks <= varied.image.stat().st_blocks


def test_empty_disk(house: Any) -> None:
    house.make(10 * CHUNK, {})
    result = house.export()
    house.import_()
    house.assert_same()
    assert result["data_bytes"] == 0 and house.back.stat().st_blocks == 0


def test_sealing_twice_changes_nothing(varied: Any) -> None:
    varied.pack()
    Seal(varied.export_of()).run(varied.ctx)
    before, data = varied.partial.stat(), varied.partial.read_bytes()
    for fresh in (False, True):
        if fresh:
            varied.new_process()
        facts = Seal(varied.export_of()).run(varied.ctx)
        after = varied.partial.stat()
        assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
        assert varied.partial.read_bytes() == data
    assert facts["written_bytes"] == 0 and facts["reused_bytes"] == len(data)


def test_progress_is_in_data_bytes_of_the_whole_disk(varied: Any) -> None:
    varied.export(3)
    done, total = varied.talk.steps[-1]
    assert done == total
    assert [step for step, _ in varied.talk.steps] == sorted(step for step, _ in varied.talk.steps)


def test_reader_is_a_second_opinion_on_python_zipfile(varied: Any) -> None:
    varied.export()
    with ArchiveReader(varied.output) as reader, zipfile.ZipFile(varied.output) as archive:
        assert set(reader.directory.entries) == set(archive.namelist())
        for info in archive.infolist():
            entry = reader.directory.entries[info.filename]
            assert (entry.offset, entry.stored, entry.crc) == (info.header_offset, info.file_size, info.CRC)
