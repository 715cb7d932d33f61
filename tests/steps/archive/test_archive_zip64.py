"""Beyond the limits of old ZIP: offsets over 4 GiB and more than 65535 members, in sparse files."""

from __future__ import annotations

import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes, read_directory
from portunix_vdisk.steps.archive.layout import Kind, chunk_name
from portunix_vdisk.steps.archive.members import read_member
from portunix_vdisk.steps.archive.record import Record, document
from portunix_vdisk.steps.archive.storage import ArchiveFile
from portunix_vdisk.steps.archive.writer import Appender

GIB = 1 << 30


def open_new(path: Path) -> ArchiveFile:
    return ArchiveFile(path, writable=True, create=True)


def entry(offset: int, record: Record) -> tuple[str, Entry]:
    return record.name, Entry(offset, record.stored, record.crc)


def chunk(number: int, payload: bytes) -> Record:
    digest = blake3(payload).digest()
    name = chunk_name(Kind.RAW, 1, number << 22) if number else "portunix-vdisk.json"
    return Record(name, Kind.RAW, 1, number << 22, len(payload), digest, len(payload), zlib.crc32(payload))


def seven_zip_tests(path: Path, count: int) -> None:
    done = subprocess.run(["7z", "t", path], check=True, capture_output=True, text=True)
    assert "Everything is Ok" in done.stdout and "Warning" not in done.stdout, done.stdout
    assert f"Files: {count}\n" in done.stdout


@pytest.mark.parametrize("far", [0xFFFFFFFE, 0xFFFFFFFF, 0x100000000, 5 * GIB, 9000 * GIB])
def test_offsets_beyond_4_gib(tmp_path: Path, far: int) -> None:
    path = tmp_path / "far.zip"
    appender = Appender(open_new(path), 0)
    first, payload = document("portunix-vdisk.json", b"{}", 0)
    members = [(appender.append(first, payload), first)]
    appender.end = far
    for number in range(3):
        record = chunk(number + 1, b"content %d" % number)
        members.append((appender.append(record, b"content %d" % number), record))
    appender.append_bytes(directory_bytes((entry(*one) for one in members), appender.end))
    appender.sync()
    try:
        directory = read_directory(appender.file)
        assert [entry.offset for entry in directory.entries.values()] == [offset for offset, _ in members]
        for offset, record in members[1:]:
            assert read_member(appender.file, offset, record.name)[0] == record
    finally:
        appender.close()
    with zipfile.ZipFile(path) as archive:
        assert archive.read(members[2][1].name) == b"content 1"
        assert archive.testzip() is None
    if far < 6 * GIB:
        subprocess.run(["unzip", "-tqq", path], check=True)
    seven_zip_tests(path, 4)


@pytest.mark.parametrize("count", [65534, 65535, 65536, 70000])
def test_more_members_than_16_bits_count(tmp_path: Path, count: int) -> None:
    path = tmp_path / "many.zip"
    appender = Appender(open_new(path), 0)
    payload = b"x"
    members: list[tuple[int, Record]] = []
    parts: list[bytes] = []
    place = 0
    for number in range(count):
        record = chunk(number, payload)
        members.append((place, record))
        parts += [record.header(), payload]
        place += record.total
    appender.append_bytes(b"".join(parts), directory_bytes((entry(*one) for one in members), place))
    try:
        directory = read_directory(appender.file)
    finally:
        appender.close()
    assert len(directory.entries) == count and directory.start == place
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == count
        assert archive.read(members[-1][1].name) == payload
    seven_zip_tests(path, count)


def test_far_fields_may_not_lie(tmp_path: Path) -> None:
    """Every byte of the directory and the end records of a ZIP64 archive matters."""
    path = tmp_path / "far.zip"
    appender = Appender(open_new(path), 5 * GIB)
    record = chunk(3, b"content")
    members: list[Any] = [(appender.append(record, b"content"), record)]
    start = appender.append_bytes(directory_bytes((entry(*one) for one in members), appender.end))
    file, size = appender.file, appender.end
    tail = file.read(start, size - start)
    try:
        for place in range(len(tail)):
            damaged = bytearray(tail)
            damaged[place] ^= 0xFF
            file.write(start, (bytes(damaged),))
            with pytest.raises(Corrupt):
                entries = read_directory(file).entries
                found, _ = read_member(file, entries[record.name].offset, record.name)
                if entries[record.name].crc != found.crc:  # what a reader compares next
                    raise Corrupt("directory and header disagree")
    finally:
        appender.close()
