from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import zstandard

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.directory import Entry
from portunix_vdisk.steps.archive.layout import Kind
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.tests.support.chunks import CHUNK
from portunix_vdisk.tests.support.forging import NAME, PLAIN, compress


def bend_payload(forge: Any, payload: bytes) -> None:
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
def test_chunk_that_is_not_what_the_index_says(forge: Any, payload: bytes) -> None:
    bend_payload(forge, payload)
    forge.refused(NAME)


def test_frame_that_lies_about_its_size(forge: Any) -> None:
    """A bomb of 1 GiB whose frame header says 4 MiB."""
    frame = bytearray(compress(bytes(1 << 30)))
    honest = compress(PLAIN)
    size = zstandard.frame_header_size(honest)
    bend_payload(forge, honest[:size] + bytes(frame[zstandard.frame_header_size(bytes(frame)) :]))
    forge.refused(NAME)


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
def test_headers_that_disagree(forge: Any, change: dict[str, Any]) -> None:
    """The directory tells of the honest header; the header itself is another."""
    honest = forge.chunk()
    forge.record = lambda record: replace(record, **change)
    forge.members = lambda members: [
        (honest.name, Entry(one.offset, honest.stored, honest.crc)) if number == 1 else (name, one)
        for number, (name, one) in enumerate(members)
    ]
    forge.refused()
    with ArchiveReader(forge.path) as reader, pytest.raises(Corrupt):
        reader.plain(reader.index.chunks[0])
