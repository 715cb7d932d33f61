"""What a sync copies, and what a second one leaves alone."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from portunix_vdisk.tests.support.syncing import T0, Person, facts, identities, leftovers, raw, sync, write


def test_everything_about_a_tree_arrives(source: Path, target: Path, disk: Path) -> None:
    write(source / "a.txt", "hello", mode=0o640)
    write(source / "sub" / "run.sh", "#!/bin/sh\n", mode=0o755, mtime_ns=T0 + 1)
    write(source / "sub" / "read only", "x", mode=0o444)
    write(source / "empty", b"")
    write(source / "big", os.urandom(3 << 20))
    write(raw(source, b"caf\xe9\xff \n\x01"), "odd name")
    (source / "link").symlink_to("nowhere/at all")
    os.link(source / "a.txt", source / "sub" / "b.txt")
    (source / "hollow").mkdir(mode=0o711)
    (source / "sub").chmod(0o550)
    for folder in ("sub", "hollow", "."):
        os.utime(source / folder, ns=(T0, T0 + 77))
    os.utime(source / "link", ns=(T0, T0 + 5), follow_symlinks=False)

    result = sync(source, target, disk)

    assert facts(target) == facts(source)
    assert result["files_copied"] == 7 and result["linked"] == 1 and result["made_folders"] == 2
    assert result["bytes_copied"] == 5 + 10 + 1 + (3 << 20) + 8
    assert not leftovers(disk)


def test_trailing_slash_means_the_same(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    sync(Path(f"{source}/"), Path(f"{target}/"), disk)
    assert sorted(os.listdir(target)) == ["a"]


@pytest.mark.parametrize("name", [b"n" * 255, "ü".encode() * 127, b"\xff" * 255, b".", b"-rf", b"a:b\\c\"'"], ids=repr)
def test_any_name(source: Path, target: Path, disk: Path, name: bytes) -> None:
    name = name if name != b"." else b"..."
    write(raw(source, name), "content")
    sync(source, target, disk)
    write(raw(source, name), "changed", mtime_ns=T0 + 9)
    assert sync(source, target, disk)["files_copied"] == 1
    assert facts(target) == facts(source)


def test_a_tree_deeper_than_any_path_may_be_long(source: Path, target: Path, disk: Path) -> None:
    descriptor = os.open(source, os.O_RDONLY)
    for _ in range(150):  # 150 parts of 60 bytes: more than twice PATH_MAX
        os.mkdir("d" * 60, dir_fd=descriptor)
        inner = os.open("d" * 60, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    try:
        result = sync(source, target, disk)
        assert (result["files_copied"], result["made_folders"]) == (150, 150)
        again = sync(source, target, disk)
        assert (again["files_copied"], again["unchanged"], again["metadata_updated"]) == (0, 150, 0)
    finally:
        shutil.rmtree(source)
        shutil.rmtree(target)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owners_are_kept_for_root(source: Path, target: Path, disk: Path) -> None:
    write(source / "theirs", "x", mode=0o4755)
    os.chown(source / "theirs", 1234, 2345)
    (source / "theirs").chmod(0o6755)
    (source / "link").symlink_to("x")
    os.chown(source / "link", 77, 78, follow_symlinks=False)
    (source / "folder").mkdir()
    os.chown(source / "folder", 5, 6)
    sync(source, target, disk)
    assert facts(target) == facts(source)
    os.chown(source / "theirs", 1, 1)
    result = sync(source, target, disk)
    assert (result["metadata_updated"], result["files_copied"]) == (1, 0)
    assert facts(target) == facts(source)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user for a while")
def test_an_ordinary_user_owns_the_copies_and_sets_no_foreign_set_user_id(top: Path) -> None:
    top.chmod(0o755)
    source, disk = top / "source", top / "disk"
    for folder in (source, disk):
        folder.mkdir()
        folder.chmod(0o755)
    write(source / "tool", "x", mode=0o6755)
    write(source / "locked" / "module.go", "package m", mode=0o444)
    (source / "locked").chmod(0o555)  # as in Go's module cache: files have to be put into it all the same
    os.chown(disk, 65534, 65534)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        sync(source, disk / "t", disk)
        info = (disk / "t" / "tool").stat()
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (65534, 65534, 0o755)
        assert stat.S_IMODE((disk / "t" / "locked").stat().st_mode) == 0o555
        before = identities(disk)
        result = sync(source, disk / "t", disk)
        assert (result["files_copied"], result["metadata_updated"]) == (0, 0) and identities(disk) == before
    finally:
        os.seteuid(0)
        os.setegid(0)
    write(source / "locked" / "second.go", "package m", mode=0o444)
    os.seteuid(65534)
    try:
        sync(source, disk / "t", disk)
        assert (disk / "t" / "locked" / "second.go").exists()
        assert stat.S_IMODE((disk / "t" / "locked").stat().st_mode) == 0o555
    finally:
        os.seteuid(0)


def test_extended_attributes(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "x")
    (source / "folder").mkdir()
    for path in (source / "a", source / "folder", source):
        os.setxattr(path, "user.note", b"\0binary")
    sync(source, target, disk)
    for path in (target / "a", target / "folder", target):
        assert os.getxattr(path, "user.note") == b"\0binary"
    os.removexattr(source / "a", "user.note")
    os.setxattr(source / "a", "user.other", b"2")
    (source / "a").chmod(0o600)
    os.utime(source / "a", ns=(T0, T0))
    sync(source, target, disk)
    assert os.listxattr(target / "a") == ["user.other"]


def test_attributes_that_cannot_be_set_are_a_warning(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        os.setxattr(write(source / name, name), "user.note", b"1")

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "setxattr", refuse)
    person = Person()
    sync(source, target, disk, person)
    assert (target / "a").read_text() == "a"
    assert [line for line in person.lines if "2 extended attributes could not be copied" in line]


@pytest.mark.parametrize("size", [4096, (5 << 20) + 123, 1 << 30])
def test_sparse_files_stay_sparse(source: Path, target: Path, disk: Path, size: int) -> None:
    with (source / "sparse").open("wb") as file:
        file.truncate(size)
        for position in (0, size // 2, size - 3):
            file.seek(position)
            file.write(b"xyz")
    with (source / "hole").open("wb") as file:
        file.truncate(size)
    sync(source, target, disk)
    if size < 1 << 30:
        assert facts(target) == facts(source)
    with (target / "sparse").open("rb") as file:
        for position in (0, size // 2, size - 3):
            file.seek(position)
            assert file.read(3) == b"xyz"
    assert (target / "sparse").stat().st_size == (target / "hole").stat().st_size == size
    assert (target / "sparse").stat().st_blocks * 512 <= (source / "sparse").stat().st_blocks * 512 + (64 << 10)
    assert (target / "hole").stat().st_blocks == 0


def test_special_files_are_skipped_and_named(source: Path, target: Path, disk: Path) -> None:
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(source, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        write(source / "a", "1")
        write(target / "pipe", "a file of that name in the target")
        result = sync(source, target, disk, delete=True)
    assert sorted(line.partition(":")[0] for line in result["skipped"]) == ["pipe", "socket"]
    assert sorted(os.listdir(target)) == ["a", "pipe"]


def test_second_run_writes_nothing(source: Path, target: Path, disk: Path) -> None:
    write(source / "sub" / "a", "1")
    os.link(source / "sub" / "a", source / "b")
    (source / "link").symlink_to("a")
    sync(source, target, disk)
    before = identities(disk)
    result = sync(source, target, disk, delete=True)
    assert identities(disk) == before
    assert (result["files_copied"], result["linked"], result["unchanged"]) == (0, 0, 3)


def test_second_run_touches_only_what_changed(source: Path, target: Path, disk: Path) -> None:
    for name in ("a", "b", "c/d"):
        write(source / name, name)
    sync(source, target, disk)
    before = identities(target)
    write(source / "b", "bb", mtime_ns=T0 + 1)
    (source / "c" / "d").chmod(0o700)
    result = sync(source, target, disk)
    changed = {path for path, identity in identities(target).items() if before.get(path) != identity}
    assert changed == {os.fsencode(target / "b"), os.fsencode(target / "c" / "d"), os.fsencode(target) + b"/"}
    assert (result["files_copied"], result["metadata_updated"], result["unchanged"]) == (1, 1, 1)
    assert facts(target) == facts(source)


def test_a_changed_symlink_and_changed_times_follow(source: Path, target: Path, disk: Path) -> None:
    (source / "link").symlink_to("one")
    (source / "folder").mkdir()
    sync(source, target, disk)
    (source / "link").unlink()
    (source / "link").symlink_to("two")
    os.utime(source / "folder", ns=(T0, T0))
    sync(source, target, disk)
    assert facts(target) == facts(source)


def test_what_was_deleted_in_the_target_is_copied_again(source: Path, target: Path, disk: Path) -> None:
    write(source / "sub" / "a", "1")
    sync(source, target, disk)
    shutil.rmtree(target / "sub")
    assert sync(source, target, disk)["files_copied"] == 1
    assert facts(target) == facts(source)
