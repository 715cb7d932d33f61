from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt, VdiskError
from portunix_vdisk.steps.archive.layout import NewerVersion
from portunix_vdisk.tests.support.chunks import CHUNK
from portunix_vdisk.tests.support.forging import DIGEST, NAME, PLAIN, compress

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
def test_impossible_rows(forge: Any, rows: list[Any]) -> None:
    forge.rows = rows
    forge.refused()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"root": "00" * 32, "data_bytes": CHUNK}, Corrupt),
        ({"version": 3}, NewerVersion),
        ({"generation": "1"}, Corrupt),
        ({"source": []}, Corrupt),
        ({"source": {"size": 1}}, Corrupt),
        ({"disk": {}}, Corrupt),
    ],
)
def test_index_that_lies(forge: Any, change: dict[str, Any], kind: type[VdiskError]) -> None:
    forge.index |= change
    if "disk" in change:
        forge.index |= {"root": "", "data_bytes": 0}
        forge.index_plain = json.dumps(forge.index)[:-1].encode() + b', "chunks": [\n]}\n'
        forge.index["disk"] = {"size": 1}
    forge.refused(kind=kind)


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
def test_impossible_disks(forge: Any, change: dict[str, Any]) -> None:
    forge.index["disk"] |= change
    forge.refused()


def test_disk_of_an_unknown_type(forge: Any) -> None:
    forge.index["disk"]["type"] = "floppy"
    forge.refused("floppy", NewerVersion)


@pytest.mark.parametrize(
    "plain",
    [
        b"[" * 100_000,
        b'{"chunks": [\n' + b"[" * 500 + b"\n]}\n",
        b'{"version": 2, "chunks": []}',
        b'{"version": 2, "chunks": [\n',
        b"\xff\xfe",
        b"null\n",
    ],
)
def test_index_that_is_no_index(forge: Any, plain: bytes) -> None:
    forge.index_plain = plain
    forge.refused()


@pytest.mark.parametrize("piece", [b"[],", b"\n", b"0,\n", b"x"])
def test_index_bomb(forge: Any, piece: bytes) -> None:
    """200 MB of nothing in some kilobytes."""
    forge.write()
    head = json.dumps(forge.index)[:-1].encode() + b', "chunks": [\n'
    bomb = head + piece * ((200 << 20) // len(piece))
    forge.index_payload = compress(bomb)
    forge.index_plain = head
    forge.refused()
    forge.index_plain = bomb
    forge.write()
    forge.refused()


@pytest.mark.parametrize("change", [{"digest": bytes(32)}, {"length": 10}, {"length": 1 << 20}, {"length": 1 << 31}])
def test_index_whose_header_lies(forge: Any, change: dict[str, Any]) -> None:
    forge.index_record = lambda record: replace(record, **change)
    forge.refused()


def test_index_goes_on_after_its_end(forge: Any) -> None:
    forge.write()
    rows = json.dumps(forge.rows[0]).encode()
    forge.index_plain = json.dumps(forge.index)[:-1].encode() + b', "chunks": [\n' + rows + b"\n]}\n{}\n"
    forge.refused()


def test_empty_lines_behind_the_end(forge: Any) -> None:
    """A frame of 8 KiB with 256 million of them: the first one is one too many."""
    forge.index |= {"root": "00" * 32, "data_bytes": 0}
    honest = json.dumps(forge.index)[:-1].encode() + b', "chunks": [\n]}\n'
    for count in (1, 64 << 20):
        forge.index_plain = honest + b"\n" * count
        forge.refused("goes on after its end")


def test_a_million_rows_of_members_that_are_not_there(forge: Any) -> None:
    forge.index["disk"]["size"] = 1 << 46
    forge.index |= {"root": "00" * 32, "data_bytes": 0}
    head = json.dumps(forge.index)[:-1].encode() + b', "chunks": [\n'
    row = '[{0},4194304,"' + "00" * 32 + '","chunks/1-{0:012x}.zst",100000]'
    rows = ",\n".join(row.format(number << 22) for number in range(300_000))
    forge.index_plain = head + rows.encode() + b"\n]}\n"
    forge.refused("no member")
