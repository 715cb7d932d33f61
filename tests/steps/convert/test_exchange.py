"""Exchange: killed between any two of its steps, nothing is lost and the next run finishes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from silent import Silent

from portunix_vdisk.platform.base import FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.platform.errors import Corrupt, Refused
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.convert import exchange
from portunix_vdisk.steps.convert.copy import CopyDisk
from portunix_vdisk.steps.convert.exchange import Exchange, convert_partial_of, converted_path, note_of, settle
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.step import Context

MIB = 1 << 20
UUID = "12345678-1234-1234-1234-123456789abc"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def ctx() -> Context:
    return Context(LinuxPlatform(), Silent())


@pytest.fixture
def work(tmp_path: Path) -> Exchange:
    """A raw image in the catalog, to become a DMG."""
    image = tmp_path / "my-dev.img"
    image.write_bytes(os.urandom(MIB) + bytes(6 * MIB) + os.urandom(MIB))
    disk = Disk(
        name="my-dev",
        uuid=UUID,
        path=image,
        type=ImageType.IMG,
        size=8 * MIB,
        file_system=FileSystemType.EXT4,
        state=DiskState.READY,
        created_at="2025-01-01T00:00:00Z",
        partition=Partition(MIB, 6 * MIB),
        owner=Owner(0, 0),
        imported_identity=durable.identity_of(image),
    )
    with Catalog.open(tmp_path / "catalog.db", create=True) as catalog:
        catalog.declare(disk)
    partial = convert_partial_of(image, ImageType.DMG)
    return Exchange(
        CopyDisk(image, ImageType.IMG, partial, ImageType.DMG), tmp_path / "my-dev.dmg", tmp_path / "catalog.db", UUID
    )


def known(work: Exchange) -> Disk:
    with Catalog.open(work.catalog, create=False) as catalog:
        found = catalog.by_uuid(UUID)
    assert found is not None
    return found


def convert(work: Exchange, ctx: Context) -> None:
    """As the operation does."""
    for path in (work.copy.image, work.final):
        settle(work.catalog, UUID, path)
    if known(work).path == work.copy.image:
        work.copy.prepare(ctx)
        work.copy.run(ctx)
        work.run(ctx)


@pytest.mark.parametrize("written_meanwhile", [False, True])
@pytest.mark.parametrize("place", ["replace_text", "publish", "published", "set_image", "recorded", "_remove", "gone"])
def test_killed_anywhere(
    work: Exchange, ctx: Context, monkeypatch: pytest.MonkeyPatch, place: str, written_meanwhile: bool
) -> None:
    content = work.copy.image.read_bytes()

    def kill(*_: Any) -> None:
        raise Killed

    def after(target: Any, name: str) -> None:
        real = getattr(target, name)
        monkeypatch.setattr(target, name, lambda *words: (real(*words), kill()))

    match place:
        case "published":
            after(durable, "publish")
        case "recorded":
            after(Catalog, "set_image")
        case "gone":
            after(exchange, "_remove")
        case "replace_text" | "publish":
            monkeypatch.setattr(durable, place, kill)
        case "set_image":
            monkeypatch.setattr(Catalog, place, kill)
        case "_remove":
            monkeypatch.setattr(exchange, place, kill)
    with pytest.raises(Killed):
        convert(work, ctx)
    monkeypatch.undo()
    disk = known(work)
    assert disk.path.read_bytes() == content, "the catalog names an image that is whole, whatever the moment"
    if written_meanwhile:
        with disk.path.open("r+b") as file:
            file.write(b"written after the kill")
        content = disk.path.read_bytes()
    convert(work, ctx)
    assert (known(work).path, known(work).type) == (work.final, ImageType.DMG)
    assert work.final.read_bytes() == content
    assert sorted(path.suffix for path in work.final.parent.iterdir() if "catalog" not in path.name) == [".dmg"]
    if not written_meanwhile:
        assert known(work).imported_identity == durable.identity_of(work.final), "converting is not using"


def test_killed_between_the_two_names(work: Exchange, ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    content = work.copy.image.read_bytes()

    def half(partial: Path, final: Path) -> None:
        os.link(partial, final)
        raise Killed

    monkeypatch.setattr(durable, "publish", half)
    with pytest.raises(Killed):
        convert(work, ctx)
    monkeypatch.undo()
    convert(work, ctx)
    assert work.final.read_bytes() == content
    assert not work.copy.image.exists() and not work.copy.partial.exists()


def test_a_copy_that_reads_differently_never_becomes_the_image(work: Exchange, ctx: Context) -> None:
    work.copy.prepare(ctx)
    work.copy.run(ctx)
    with work.copy.partial.open("r+b") as file:
        file.seek(7 * MIB)
        file.write(b"rotten")
    with pytest.raises(Corrupt, match="differs"):
        work.run(ctx)
    assert known(work).path == work.copy.image and not work.final.exists() and not note_of(work.final).exists()
    convert(work, ctx)
    assert known(work).path == work.final


def test_a_strangers_file_or_note_changes_nothing(work: Exchange, ctx: Context) -> None:
    work.copy.prepare(ctx)
    work.copy.run(ctx)
    work.final.write_text("somebody's")
    with pytest.raises(Refused, match="exists"):
        work.run(ctx)
    assert work.final.read_text() == "somebody's"
    for text in ("", "[]", "{}", '{"former": "../x", "partial": "/etc/x", "identity": [1], "made": 3, "uuid": "x"}'):
        note_of(work.final).write_text(text)
        settle(work.catalog, UUID, work.final)
        assert work.final.read_text() == "somebody's" and work.copy.image.exists()


@pytest.mark.parametrize(
    ("name", "was", "now", "made"),
    [
        ("a.vhd", ImageType.VHD, ImageType.QCOW2, "a.qcow2"),
        ("a.vhd", ImageType.VHD, ImageType.VHD_FIXED, "a.fixed.vhd"),
        ("a.fixed.vhd", ImageType.VHD_FIXED, ImageType.VHD, "a.vhd"),
        ("a.vhd", ImageType.VHD_FIXED, ImageType.VHD, "a.dynamic.vhd"),
        ("server", ImageType.IMG, ImageType.VHDX, "server.vhdx"),
    ],
)
def test_names(name: str, was: ImageType, now: ImageType, made: str) -> None:
    assert converted_path(Path("/d") / name, was, now) == Path("/d") / made
