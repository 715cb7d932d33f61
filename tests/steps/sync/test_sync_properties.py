"""Whatever happens on both sides between syncs: nothing of the person's is lost, and the target becomes the source."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.tests.support.syncing import T0, facts, identities, leftovers, sync, write

NAMES = [os.fsdecode(name) for name in (b"a", b"b", b"c\xff", b"D")]
names = st.sampled_from(NAMES)
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join(parts))


@dataclass(frozen=True)
class Change:
    """Something that happens to one path of a tree; what is impossible there is left out."""

    verb: str
    path: str
    other: str
    number: int

    def happen(self, top: Path) -> None:
        path, other = top / self.path, top / self.other
        try:
            if self.verb == "write":
                write(path, "xyz"[self.number % 3] * (self.number % 2 + 1), mtime_ns=T0 + self.number // 2)
            elif self.verb == "touch":
                os.utime(path, ns=(T0, T0 + self.number), follow_symlinks=False)
            elif self.verb == "mode":
                if not path.is_symlink():
                    path.chmod(0o700 | self.number)
            elif self.verb == "folder":
                path.mkdir(parents=True)
            elif self.verb == "symlink":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(NAMES[self.number % 4])
            elif self.verb == "link":
                other.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file() and not path.is_symlink():
                    os.link(path, other)
            elif self.verb == "move":
                path.rename(other)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:
            pass


verbs = st.sampled_from(["write", "write", "touch", "mode", "folder", "symlink", "link", "move", "remove"])
changes = st.lists(st.builds(Change, verbs, paths, paths, st.integers(0, 7)), max_size=7)
rounds = st.lists(st.tuples(changes, changes, st.booleans(), st.booleans()), min_size=1, max_size=4)


@pytest.fixture(autouse=True, scope="module")
def _without_waiting_for_the_disk() -> Iterator[None]:
    with mock.patch("portunix_vdisk.steps.sync.flush.sync_filesystem"):
        yield


def contents(tree: dict[bytes, tuple[object, ...]]) -> dict[bytes, tuple[object, ...]]:
    """What a person would miss: files with content and time, links with their text. Modes may be set back."""
    kept: dict[bytes, tuple[object, ...]] = {}
    for path, fact in tree.items():
        if fact[0] == "file":
            kept[path] = ("file", fact[2], fact[4])
        elif fact[0] == "link":
            kept[path] = ("link", fact[4])
        else:
            kept[path] = (fact[0],)
    return kept


def without_time(tree: dict[bytes, tuple[object, ...]]) -> dict[bytes, tuple[object, ...]]:
    return {path: ("file", fact[2]) if fact[0] == "file" else fact for path, fact in tree.items()}


def play(act: Callable[[Path, Path, Path], None]) -> None:
    with tempfile.TemporaryDirectory(
        prefix="sync-test-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as folder:
        top = Path(folder)
        source, disk = top / "source", top / "disk"
        source.mkdir()
        disk.mkdir()
        act(source, disk / "target", disk)


@settings(max_examples=50, deadline=None)
@given(rounds)
def test_nothing_is_lost_and_the_target_becomes_the_source(
    story: list[tuple[list[Change], list[Change], bool, bool]],
) -> None:
    def act(source: Path, target: Path, disk: Path) -> None:
        ours: dict[bytes, tuple[object, ...]] = {}  # what each path was when we left it
        for here, there, delete, force in story:
            for change in here:
                change.happen(source)
            if target.exists():
                for change in there:
                    change.happen(target)
            before = facts(target) if target.exists() else {}
            wanted = facts(source)
            identity = identities(target) if target.exists() else {}
            old = contents(before)
            theirs = {path for path, fact in old.items() if path and ours.get(path) != fact}
            planned = sync(source, target, disk, delete=delete, force=force, dry_run=True)
            assert (identities(target) if target.exists() else {}) == identity

            try:
                result = sync(source, target, disk, delete=delete, force=force)
            except Refused:
                assert not force and theirs and planned["conflicts"]
                assert identities(target) == identity
                assert (facts(target) if target.exists() else {}) == before
                planned = sync(source, target, disk, delete=delete, force=True, dry_run=True)
                result = sync(source, target, disk, delete=delete, force=True)
            else:
                after = without_time(contents(facts(target)))
                if not force:
                    assert not planned["conflicts"]
                    for path in theirs:  # what the person made is there, with its content
                        assert after[path] == without_time(old)[path]
            assert (result["files_copied"], result["deleted"]) == (planned["files_copied"], planned["deleted"])

            now = facts(target)
            extra = {path for path in now if path not in wanted}
            assert not leftovers(disk)
            if delete:
                assert now == wanted
            else:
                strip = facts(target, folder_times=False)
                assert grouped({p: f for p, f in strip.items() if p not in extra}) == grouped(
                    facts(source, folder_times=False)
                )
                assert all(contents(now)[path] == old[path] for path in extra)
            identity = identities(disk)
            again = sync(source, target, disk, delete=delete)
            assert identities(disk) == identity and again["conflicts"] == []
            ours = {path: fact for path, fact in ours.items() if path in extra} | {
                path: fact for path, fact in contents(now).items() if path in wanted
            }

    play(act)


def grouped(tree: dict[bytes, tuple[object, ...]]) -> dict[bytes, tuple[object, ...]]:
    """The same with groups named by their first member in this tree."""
    first: dict[object, bytes] = {}
    result = {}
    for path in sorted(tree):
        fact = tree[path]
        if fact[0] == "file":
            fact = (*fact[:-1], first.setdefault(fact[-1], path))
        result[path] = fact
    return result


@settings(max_examples=30, deadline=None)
@given(changes, changes)
def test_delete_takes_only_what_was_synced(first: list[Change], second: list[Change]) -> None:
    def act(source: Path, target: Path, disk: Path) -> None:
        write(source / "keep", "1")
        for change in first:
            change.happen(source)
        sync(source, target, disk)
        synced = set(facts(target))
        for change in second:
            change.happen(target)
        before = contents(facts(target))
        shutil.rmtree(source)
        source.mkdir()
        try:
            sync(source, target, disk, delete=True)
        except Refused:
            assert contents(facts(target)) == before
        else:
            assert set(before) <= synced | {b""} and set(facts(target)) == {b""}

    play(act)
