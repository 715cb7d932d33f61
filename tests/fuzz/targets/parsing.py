"""Every reader of a single structure, on bytes that never were one, and on structures that were bent."""

from __future__ import annotations

from contextlib import suppress

import small  # first: it makes chunks small
from bending import Bytes, compress
from edits import edit_index, edit_json
from script import Script
from store import bases

from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.archive import documents
from portunix_vdisk.steps.archive.commit import read_update
from portunix_vdisk.steps.archive.digest import digest_of
from portunix_vdisk.steps.archive.directory import directory_bytes, last_whole_directory, read_directory
from portunix_vdisk.steps.archive.index import index_text, parse_index
from portunix_vdisk.steps.archive.keys import KeySlot
from portunix_vdisk.steps.archive.members import decompress, read_first, read_member
from portunix_vdisk.steps.archive.partial import never_begun, read_back
from portunix_vdisk.steps.archive.patch import apply_patch, base_digest, changed_blocks, make_patch
from portunix_vdisk.steps.archive.rebuild import walk
from portunix_vdisk.steps.archive.record import MAX_HEADER, parse_header

_ARCHIVE = bases()["generations-plain/disk.zip"]
_ENTRIES = read_directory(Bytes(_ARCHIVE))
_PAYLOADS = {
    name: read_member(Bytes(data), entry.offset, name)[1]
    for data in (_ARCHIVE, bases()["next-encrypted/disk.zip"])
    for name, entry in read_directory(Bytes(data)).entries.items()
    if name.endswith((".json", ".json.zst"))
}
_INDEX = decompress(_PAYLOADS["index-2.json.zst"], 1 << 20, "index", exactly=False)
_UPDATE = next(data for name, data in bases().items() if name == "next-plain/disk.zip.next")
_FORMER, _LATER = (small.content(state)[small.CHUNK : 2 * small.CHUNK] for state in (1, 2))
_PATCH = make_patch(digest_of(_FORMER), _LATER, changed_blocks(_FORMER, _LATER))


def run(data: bytes) -> None:
    script = Script(data)
    with suppress(VdiskError):
        (_headers, _texts, _index, _patch, _directory, _backwards, _anything)[script.below(7)](script)


def _poked(script: Script, data: bytes) -> bytes:
    made = bytearray(data)
    while script.left:
        at = script.below(len(made))
        made[at : at + 4] = (script.strange() & 0xFFFFFFFF).to_bytes(4, "little")[: len(made) - at]
    return bytes(made)


def _headers(script: Script) -> None:
    entry = script.pick(list(_ENTRIES.entries.values()))
    raw = _poked(script, _ARCHIVE[entry.offset : entry.offset + MAX_HEADER])
    record = parse_header(raw)
    assert parse_header(record.header()) == record, "a header is read as it was not written"


def _texts(script: Script) -> None:
    name = script.pick(sorted(one for one in _PAYLOADS if one.endswith(".json")))
    text = edit_json(script, _PAYLOADS[name])
    for parse in (documents.parse_header_text, documents.parse_session_text, documents.parse_update_text):
        with suppress(VdiskError):
            parse(text)
    KeySlot.parse(documents.parse_object(text, "it"))


def _index(script: Script) -> None:
    plain = _INDEX
    for _ in range(1 + script.below(3)):
        plain = edit_index(script, plain)
    index = parse_index(compress(plain), len(plain), digest_of(plain), 2)
    text = index_text(index)
    assert parse_index(compress(text), len(text), digest_of(text), 2) == index, "an index is read as it was not written"


def _patch(script: Script) -> None:
    plain = script.take(400) if script.below(4) == 3 else _poked(script, _PATCH)
    base_digest(plain)
    assert len(apply_patch(_FORMER, plain)) == len(_FORMER), "a patch changes the length"


def _directory(script: Script) -> None:
    start = _ENTRIES.start
    file = Bytes(_ARCHIVE[:start] + _poked(script, _ARCHIVE[start:]))
    found = last_whole_directory(file)
    members = sorted(found.entries.items(), key=lambda member: member[1].offset)
    assert directory_bytes(members, found.start) == file.read(found.start, found.end - found.start) or found != _ENTRIES


def _backwards(script: Script) -> None:
    data = _poked(script, script.pick((_UPDATE, bases()["partial-plain/disk.zip.partial"])))
    file = Bytes(data[: script.below(len(data) + 1)] if script.below(2) else data)
    never_begun(file)
    content = read_back(file, payloads=bool(script.below(2)))
    assert content.end <= file.size, "what is kept ends behind the file"


def _anything(script: Script) -> None:
    file = Bytes(script.take(512))
    for read in (read_first, read_update, never_begun, last_whole_directory, lambda one: list(walk(one))):
        with suppress(VdiskError):
            read(file)
    read_back(file, payloads=True)
