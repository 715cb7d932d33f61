"""Partition tables of disks that become larger and smaller; sfdisk is the judge in ``tests/system/test_resize.py``."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.base import MIB, ImageType, Partition
from portunix_vdisk.platform.errors import Corrupt, Refused
from portunix_vdisk.steps.gpt import build_gpt, parse_gpt
from portunix_vdisk.steps.gpt_copies import copies_of
from portunix_vdisk.steps.resize.table import resized_partition, table_changes

GUID = "0fc63daf-8483-4772-8e79-3d69d8477de4"


def made(size: int) -> bytearray:
    """A disk with one partition."""
    disk = bytearray(size)
    table = build_gpt(size, str(uuid4()), str(uuid4()), GUID, "my-dev")
    disk[: len(table.primary)] = table.primary
    disk[table.backup_offset :] = table.backup
    return disk


def read_of(disk: bytearray):  # type: ignore[no-untyped-def]
    return lambda offset, length: bytes(disk[offset : offset + length])


@settings(max_examples=15, deadline=None)
@given(before=st.integers(3, 6), after=st.integers(3, 6), killed=st.integers(0, 3), torn=st.integers(0, 40))
def test_a_copy_is_whole_whenever_it_is_killed(before: int, after: int, killed: int, torn: int) -> None:
    disk = made(before * MIB)
    (old,) = parse_gpt(read_of(disk), len(disk))
    disk += bytes(max(0, (after - before) * MIB))  # a larger image comes first, a smaller one last
    wanted = resized_partition(old.partition, ImageType.IMG, after * MIB)
    planned = table_changes(read_of(disk), len(disk), after * MIB, wanted)
    for number, (offset, data) in enumerate(planned):
        whole = number < killed
        part = data if whole else data[: torn * 512]
        disk[offset : offset + len(part)] = part
        if not whole:
            break
    (found,) = parse_gpt(read_of(disk), len(disk))
    assert found.partition in (old.partition, wanted)
    assert (found.guid, found.type_guid, found.name) == (old.guid, old.type_guid, old.name)
    for offset, data in table_changes(read_of(disk), len(disk), after * MIB, wanted):
        disk[offset : offset + len(data)] = data
    del disk[after * MIB :]
    expected = build_gpt(after * MIB, str(uuid4()), str(uuid4()), GUID, "my-dev").partition
    for copy in copies_of(read_of(disk), len(disk)):
        assert isinstance(copy, list)
        assert [each.partition for each in copy] == [wanted] == [expected]


def test_what_is_behind_it_stays() -> None:
    disk = made(5 * MIB)
    with pytest.raises(Refused, match="another partition"):
        table_changes(read_of(disk), len(disk), 9 * MIB, Partition(64 << 10, MIB))
    disk[600:620] = bytes(20)
    disk[-430:-410] = bytes(20)
    with pytest.raises(Corrupt, match="both copies"):
        table_changes(read_of(disk), len(disk), 9 * MIB, Partition(MIB, MIB))
    with pytest.raises(Refused, match="no GUID"):
        table_changes(read_of(bytearray(5 * MIB)), 5 * MIB, 9 * MIB, Partition(MIB, MIB))
