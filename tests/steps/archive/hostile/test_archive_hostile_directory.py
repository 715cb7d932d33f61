from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive import directory
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes, last_whole_directory, parse_entry
from portunix_vdisk.tests.support.chunks import CHUNK
from portunix_vdisk.tests.support.forging import NAME


def bent(change: dict[str, Any], shift: int = 0) -> Callable[..., list[tuple[str, Entry]]]:
    return lambda members: [
        (name, replace(one, offset=one.offset + shift, **change)) if "chunks" in name else (name, one)
        for name, one in members
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
def test_names(forge: Any, name: str) -> None:
    forge.members = lambda members: [
        (_Named(name) if "chunks" in former else former, one)  # type: ignore[misc]
        for former, one in members
    ]
    forge.refused()


class _Named:
    """A name that isn't ASCII."""

    def __init__(self, name: str) -> None:
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
            (NAME[:-4] + "-2.zst", members[1][1]),
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
def test_members_that_are_not_so(forge: Any, members: Any) -> None:
    forge.members = members
    forge.refused()


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
        lambda data: data[:-1],
        lambda data: data[:-22],
        lambda data: data[1:],
        lambda data: b"\0" + data,
        lambda data: b"",
    ],
)
def test_end_records_that_lie(forge: Any, directory: Any) -> None:
    forge.directory = directory
    forge.refused()


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
def test_zip64_lies(forge: Any, count: int, length: int, start: int) -> None:
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
    forge.refused()


def test_ten_million_members_in_a_sparse_file(tmp_path: Path, forge: Any) -> None:
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
    forge.refused("10000000 members", write=False)


def test_many_directories_one_behind_the_other_are_not_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each claims the entries of those before it and one more, which isn't there: known when the last was read."""
    entries = 1000
    names = [("portunix-vdisk.json", Entry(0, 10, 0))]
    names += [(f"chunks/1-{number << 22:012x}.zst", Entry(200 + number * 120, 5, 0)) for number in range(entries)]
    start = 200 + entries * 120
    data = bytearray(start) + directory_bytes(names, start)[:-22]
    for _ in range(60):
        size = len(data) - start
        data += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, entries + 2, entries + 2, size, start, 0)
    read = 0

    def counted(buffer: bytes, at: int) -> Any:
        nonlocal read
        read += 1
        return parse_entry(buffer, at)

    monkeypatch.setattr(directory, "parse_entry", counted)
    monkeypatch.setattr(directory, "MAX_MEMBERS", 3 * entries)
    with pytest.raises(Corrupt):
        last_whole_directory(InMemory(bytes(data)))
    assert read < 5 * entries


class InMemory:
    """Something to read."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]
