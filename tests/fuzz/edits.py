"""Changes to the texts of an archive: its documents and indexes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from script import Script

from portunix_vdisk.steps.archive.merkle import root_of

_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    1 << 31,
    1 << 63,
    1 << 64,
    10**30,
    0.5,
    float("nan"),
    float("inf"),
)
_VALUES += ("", "x", "x" * 300, "../up", "/etc/passwd", "a\0b", "\ud800", "\u202e", ".", "..", [], {}, [[]], {"a": []})
_VALUES += ("00" * 32, "AES-256-GCM", "img", "vhd", "é" * 255, "chunks/1-000000000000.zst")


def _slots(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a document where something may be put."""
    found: list[tuple[Any, Any]] = []
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        found += _slots(value[key])
    return found


def _bend(script: Script, document: Any) -> None:
    slots = _slots(document)
    if not slots:
        return
    holder, key = script.pick(slots)
    old = holder[key]
    match script.below(4):
        case 0:
            del holder[key]
        case 1 if isinstance(old, int):
            holder[key] = script.strange(old)
        case 1 if isinstance(old, str):
            at = script.below(len(old) + 1)
            holder[key] = old[:at] + script.take(script.below(4)).decode("latin-1") + old[at + 1 :]
        case 2:
            other, there = script.pick(slots)
            with suppress(KeyError, IndexError):
                holder[key] = other[there]
        case _:
            holder[key] = script.pick(_VALUES)


def edit_json(script: Script, text: bytes) -> bytes:
    """A document with a change."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    match script.below(12):
        case 0:
            return script.pick((b"[" * 30000, b'{"a":' * 9000, b"", b"null", b"\xff", b"1" * 5000, b" " * 65536))
        case 1:
            at = script.below(len(text) + 1)
            return text[:at] + script.take(script.below(16)) + text[at + script.below(16) :]
        case _:
            _bend(script, document)
    with suppress(ValueError, RecursionError):
        return json.dumps(document).encode()
    return text


def edit_index(script: Script, plain: bytes) -> bytes:
    """An index with a change, and perhaps with the root that belongs to that."""
    head, _, rest = plain.partition(b"\n")
    lines = rest.split(b"\n")
    rows, end = lines[:-2], lines[-2:]
    match script.below(8):
        case 0 | 1:
            try:
                document = json.loads(head + b"]}")
                _bend(script, document)
                text = json.dumps(document)
                head = (text[:-2] if text.endswith("[]}") else text[:-1] + ', "chunks": [').encode()
            except (ValueError, RecursionError):
                pass
        case 2 | 3 if rows:
            number = script.below(len(rows))
            try:
                row = json.loads(rows[number].removesuffix(b","))
                _bend(script, row)
                rows[number] = json.dumps(row).encode() + b","
            except (ValueError, RecursionError):
                pass
        case 4 if rows:
            rows.insert(script.below(len(rows)), script.pick(rows))
        case 5 if rows:
            del rows[script.below(len(rows))]
        case 6:
            end = [b"]}", script.pick((b"x", b"\n" * 1000, b"]}\n", b"{}"))]
        case _:
            rows.insert(script.below(len(rows) + 1), script.take(script.below(64)))
    if rows:
        rows = [row.removesuffix(b",") + b"," for row in rows[:-1]] + [rows[-1].removesuffix(b",")]
    if script.below(2):
        head = _with_root(head, rows)
    return b"\n".join([head, *rows, *end])


def _with_root(head: bytes, rows: list[bytes]) -> bytes:
    with suppress(Exception):  # whatever is bent too far keeps its wrong root
        document = json.loads(head + b"]}")
        cells = [json.loads(row.removesuffix(b",")) for row in rows]
        leaves = [(row[0], row[1], bytes.fromhex(row[2])) for row in cells]
        document["root"] = root_of(document["disk"]["size"], leaves).hex()
        document["data_bytes"] = sum(row[1] for row in cells)
        return json.dumps(document)[:-2].encode()
    return head
