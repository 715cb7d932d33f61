"""Identity: another program reads the GUIDs of a renewed table, in both of its copies."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from portunix_vdisk.steps.convert.identity import renewed
from portunix_vdisk.steps.gpt import parse_gpt
from portunix_vdisk.steps.partition import part_uuid

MIB = 1 << 20
UUID = "12345678-1234-1234-1234-123456789abc"
GPT = "label: gpt\nlabel-id: 11111111-2222-3333-4444-555555555555\nstart=2048, size=8192, name=one\nsize=8192\n"


def made(path: Path, table: str) -> bytearray:
    path.write_bytes(bytes(16 * MIB))
    subprocess.run(["sfdisk", "-q", path], input=table.encode(), check=True, capture_output=True)
    return bytearray(path.read_bytes())


def renew(disk: bytearray) -> None:
    for offset, data in list(renewed(lambda at, length: bytes(disk[at : at + length]), len(disk), UUID)):
        disk[offset : offset + len(data)] = data


def table_of(path: Path) -> dict[str, object]:
    shown = subprocess.run(["sfdisk", "--json", path], check=True, capture_output=True, text=True)
    assert "error" not in shown.stderr and "mismatch" not in shown.stderr, shown.stderr
    return dict(json.loads(shown.stdout)["partitiontable"])


def test_a_gpt_gets_guids_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    disk = made(path, GPT)
    before = table_of(path)
    renew(disk)
    once = bytes(disk)
    renew(disk)
    assert bytes(disk) == once, "killed and run again, it comes out the same"
    path.write_bytes(disk)
    after = table_of(path)
    assert str(after["id"]).lower() == UUID
    parts: list[dict[str, object]] = list(after["partitions"])  # type: ignore[call-overload]
    assert [str(part.pop("uuid")).lower() for part in parts] == [
        part_uuid(UUID, "partition"),
        part_uuid(UUID, "partition 2"),
    ]
    for part in before["partitions"]:  # type: ignore[attr-defined]
        part.pop("uuid")
    assert (after["partitions"], after["firstlba"], after["lastlba"]) == (
        before["partitions"],
        before["firstlba"],
        before["lastlba"],
    )
    for place in (512, len(disk) - 512):  # each copy alone is whole
        alone = bytearray(disk)
        alone[place : place + 512] = bytes(512)
        assert parse_gpt(lambda at, length, one=alone: bytes(one[at : at + length]), len(disk))[0].name == "one"


def test_a_damaged_copy_stays_as_it_is(tmp_path: Path) -> None:
    disk = made(tmp_path / "disk", GPT)
    disk[1024] ^= 1
    damaged = bytes(disk[: 34 * 512])
    renew(disk)
    assert disk[: 34 * 512] == damaged
    guid = parse_gpt(lambda at, length: bytes(disk[at : at + length]), len(disk))[0].guid
    assert guid == part_uuid(UUID, "partition")


def test_an_mbr_gets_another_signature(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    disk = made(path, "label: dos\nlabel-id: 0xcafe0001\nstart=2048, size=8192\n")
    before = table_of(path)
    renew(disk)
    path.write_bytes(disk)
    after = table_of(path)
    assert after["id"] != before["id"] and after["partitions"] == before["partitions"]


def test_no_table_no_change() -> None:
    disk = bytearray(MIB)
    renew(disk)
    assert disk == bytes(MIB)
