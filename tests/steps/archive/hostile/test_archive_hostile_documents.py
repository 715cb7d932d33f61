from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import Corrupt, VdiskError
from portunix_vdisk.steps.archive.layout import MAX_DOCUMENT, Kind, NewerVersion, NotAnArchive
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import Record, parse_header
from portunix_vdisk.tests.support.forging import PLAIN


def test_unbent_it_is_fine(forge: Any) -> None:
    forge.write()
    forge.read_all()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"format": "something else"}, NotAnArchive),
        ({"version": 3}, NewerVersion),
        ({"version": 10**30}, NewerVersion),
        ({"version": "2"}, Corrupt),
        ({"version": True}, Corrupt),
        ({"version": 0}, Corrupt),
        ({"encryption": {"kdf": "argon2id"}}, NewerVersion),
        ({"chunk_size": 1 << 40}, Corrupt),
        ({"disk_uuid": None}, Corrupt),
        ({"disk_uuid": "another"}, Corrupt),
    ],
)
def test_first_documents(forge: Any, change: dict[str, Any], kind: type[VdiskError]) -> None:
    forge.header |= change
    forge.refused(kind=kind)


@pytest.mark.parametrize("length", [MAX_DOCUMENT + 1, 1 << 31])
def test_documents_are_small(length: int) -> None:
    parse_header(Record("session-1.json", Kind.DOCUMENT, 1, 0, MAX_DOCUMENT, bytes(32), MAX_DOCUMENT, 0).header())
    with pytest.raises(Corrupt, match="impossible sizes"):
        parse_header(Record("session-1.json", Kind.DOCUMENT, 1, 0, length, bytes(32), length, 0).header())


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(forge: Any, data: st.DataObject) -> None:
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


@pytest.mark.parametrize("text", ["\x9b31m", "\x7f", "\ud800", "\udfff", "a\x80"])
@pytest.mark.parametrize("key", ["name", "created_at"])
def test_texts_that_a_terminal_obeys_or_nothing_can_write(forge: Any, key: str, text: str) -> None:
    forge.index["disk"][key] = text
    forge.refused(key)


def test_a_time_is_a_short_text(forge: Any) -> None:
    forge.index["finished"] = "\x1b]0;title\x07"
    forge.refused("finished")
