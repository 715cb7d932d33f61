"""Hard-link groups follow the source."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from portunix_vdisk.tests.support.syncing import T0, Person, facts, identities, sync, write


def test_hard_link_groups_follow_the_source(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "same")
    os.link(source / "a", source / "b")
    os.link(source / "a", source / "sub_c")
    write(source / "d", "same")
    sync(source, target, disk)
    assert facts(target) == facts(source)

    (source / "b").unlink()
    shutil.copy2(source / "a", source / "b")  # out of the group, in no way else different
    (source / "d").unlink()
    os.link(source / "a", source / "d")  # into it
    sync(source, target, disk)
    assert facts(target) == facts(source)
    before = identities(target)
    sync(source, target, disk)
    assert identities(target) == before

    write(source / "a", "other", mtime_ns=T0 + 5)
    sync(source, target, disk)
    assert facts(target) == facts(source)
    (source / "a").chmod(0o600)
    result = sync(source, target, disk)
    assert result["files_copied"] == 0 and facts(target) == facts(source)


def test_separate_files_that_somebody_linked_in_the_target_are_separated(
    source: Path, target: Path, disk: Path
) -> None:
    write(source / "a", "same")
    write(source / "b", "same")
    sync(source, target, disk)
    (target / "b").unlink()
    os.link(target / "a", target / "b")
    sync(source, target, disk)
    assert facts(target) == facts(source)


def test_a_name_that_is_not_ours_is_not_changed_through_a_hard_link(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1", mode=0o644)
    sync(source, target, disk)
    os.link(target / "a", disk / "backup")
    (source / "a").chmod(0o600)
    sync(source, target, disk)
    assert stat.S_IMODE((disk / "backup").stat().st_mode) == 0o644
    assert facts(target) == facts(source)


def test_where_no_more_hard_links_can_be_made_they_are_copies(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source / "a", "1")
    os.link(source / "a", source / "b")

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(31, "Too many links")

    monkeypatch.setattr(os, "link", refuse)
    person = Person()
    sync(source, target, disk, person)
    assert (target / "b").read_text() == "1" and (target / "b").stat().st_nlink == 1
    assert any("hard links cannot be made" in line for line in person.lines)
