"""Where a sync may read and write."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import BadUsage, Failed, NotFound, Refused
from portunix_vdisk.tests.support.syncing import T0, Person, facts, identities, sync, write


def test_places_that_make_no_sense(source: Path, target: Path, disk: Path, top: Path) -> None:
    write(source / "a", "1")
    cases: list[tuple[type[Exception], Path, Path, Path]] = [
        (NotFound, top / "nothing", target, disk),
        (NotFound, source, target, top / "nothing"),
        (BadUsage, source / "a", target, disk),
        (BadUsage, disk, disk, disk),
        (BadUsage, disk, disk / "x" / "y", disk),
        (BadUsage, disk / "in", disk, disk),
        (Refused, source, top / "elsewhere", disk),
        (Refused, source, disk / ".." / "elsewhere", disk),
        (Refused, source, disk / ".vdisk" / "x", disk),
        (Refused, source, disk / "file", disk),
        (Refused, source, disk / "file" / "below", disk),
    ]
    write(disk / "file", "1")
    (disk / "in").mkdir()
    before = identities(top)
    for error, here, there, root in cases:
        with pytest.raises(error):
            sync(here, there, root)
    assert identities(top) == before


def test_containment_is_seen_through_symbolic_links(disk: Path, top: Path) -> None:
    write(disk / "a" / "x", "1")
    (top / "way").symlink_to(disk / "a")
    with pytest.raises(BadUsage, match="inside"):
        sync(top / "way", disk / "a" / "b", disk)
    with pytest.raises(BadUsage, match="same"):
        sync(top / "way", disk / "a", disk)


def test_a_target_that_leads_off_the_disk_is_refused(source: Path, disk: Path, top: Path) -> None:
    write(source / "a", "1")
    outside = top / "outside"
    outside.mkdir()
    (disk / "way").symlink_to(outside)
    for target in (disk / "way", disk / "way" / "deeper"):
        with pytest.raises(Refused, match="not below"):
            sync(source, target, disk)
    assert os.listdir(outside) == []


def test_a_link_in_the_target_where_the_source_has_a_folder_is_not_followed(
    source: Path, target: Path, disk: Path, top: Path
) -> None:
    outside = top / "outside"
    write(outside / "conf", "theirs")
    write(source / "etc" / "conf", "ours", mtime_ns=T0 + 1)
    sync(source, target, disk)
    shutil.rmtree(target / "etc")
    (target / "etc").symlink_to(outside)
    with pytest.raises(Refused, match="etc: changed since the last sync"):
        sync(source, target, disk)
    sync(source, target, disk, force=True)
    assert (outside / "conf").read_text() == "theirs" and facts(target) == facts(source)


def test_a_folder_that_becomes_a_link_while_we_write_is_not_followed(
    source: Path, target: Path, disk: Path, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = top / "outside"
    outside.mkdir()
    write(source / "etc" / "conf", "ours")
    (source / "etc").chmod(0o700)
    real = os.mkdir

    def mkdir(name: str, *arguments: int, **options: int) -> None:
        real(name, *arguments, **options)
        if name == "etc":
            os.rename(target / "etc", target / "moved")
            (target / "etc").symlink_to(outside)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(Failed):
        sync(source, target, disk)
    assert os.listdir(outside) == []


def test_the_disks_own_folder_is_never_part_of_a_sync(source: Path, disk: Path) -> None:
    write(source / ".vdisk" / "sync.db", "not a database")
    write(source / "a", "1")
    person = Person()
    sync(source, disk, disk, person)
    assert any(".vdisk" in line for line in person.lines)
    assert (disk / ".vdisk" / "sync.db").read_bytes().startswith(b"SQLite format 3")
    before = identities(disk)
    assert sync(source, disk, disk, delete=True)["deleted"] == 0
    assert identities(disk) == before and facts(disk)[b""] == facts(source)[b""]


def test_a_folder_of_that_name_further_down_is_an_ordinary_one(source: Path, target: Path, disk: Path) -> None:
    write(source / ".vdisk" / "notes", "1")
    sync(source, target, disk)
    assert (target / ".vdisk" / "notes").read_text() == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_another_filesystem_below_the_target_is_left_alone(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    write(source / "kept" / "x", "1")
    sync(source, target, disk)
    shutil.rmtree(source / "kept")
    write(source / "inner" / "y", "1")
    for name in ("inner", "kept/mounted"):
        (target / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", target / name], check=True)
    try:
        write(target / "kept" / "mounted" / "z", "1")
        with pytest.raises(Failed, match="inner: another filesystem is mounted there"):
            sync(source, target, disk, delete=True)
        assert (target / "kept" / "mounted" / "z").exists() and not (target / "kept" / "x").exists()
        assert os.listdir(target / "inner") == []
    finally:
        for name in ("inner", "kept/mounted"):
            subprocess.run(["umount", target / name], check=True)
