"""A disk of one user is another's to work on, and stays the first one's by the numbers on it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from person import Person, person

from portunix_vdisk.platform.linux.machine import LinuxPlatform

THIRD = 54000
"""A user id that is neither of the two people's."""


def uid_of(user: Person) -> int:
    return pwd.getpwnam(user.name).pw_uid


@contextmanager
def two_people() -> Iterator[tuple[Person, Person]]:
    with person(sudo=True) as first, person(sudo=True) as second:
        assert uid_of(first) != uid_of(second)
        yield first, second
        for user in (first, second):
            user.run("portunix", "plugin", "stop", "vdisk", check=0)


def hand_over(archive: Path, user: Person) -> None:
    shutil.copy(archive, user.folder / archive.name)
    shutil.chown(user.folder / archive.name, user.name, user.name)


def on_disk(user: Person, name: str) -> dict[str, tuple[int, int]]:
    """The numbers of owner and group that really are on a disk, by path."""
    disk = user.vdisk("info", name, "--json").result["disk"]
    with tempfile.TemporaryDirectory() as place:
        options = f"loop,ro,offset={disk['partition']['start']},sizelimit={disk['partition']['length']}"
        subprocess.run(["mount", "-o", options, user.disk(name), place], check=True)
        try:
            found = {str(path.relative_to(place)): path.lstat() for path in [Path(place), *Path(place).rglob("*")]}
        finally:
            subprocess.run(["umount", place], check=True)
    return {path: (about.st_uid, about.st_gid) for path, about in found.items() if path != "lost+found"}


def travel(first: Person, second: Person, fs: str) -> None:
    """Made by the first, written by the second, back to the first."""
    mine, theirs = uid_of(first), uid_of(second)
    first.vdisk("create", "--name", "my-dev", "--size", "400MB", "--type", "img", "--fs", fs)
    first.vdisk("mount", "my-dev", "mnt")
    first.run("sh", "-c", "umask 077; mkdir mnt/sub; echo one > mnt/sub/first; ln -s nowhere mnt/link", check=0)
    (first.folder / "mnt" / "third").write_text("whose?")
    os.chown(first.folder / "mnt" / "third", THIRD, THIRD)
    (first.folder / "mnt" / "root").write_text("root's")
    first.vdisk("unmount", "mnt")
    first.vdisk("export", "--disk", "my-dev", "--output", "there.zip")

    hand_over(first.folder / "there.zip", second)
    second.vdisk("import", "there.zip")
    assert second.vdisk("info", "my-dev", "--json").result["disk"]["owner"] == {"uid": mine, "gid": mine}
    said = second.vdisk("mount", "my-dev", "mnt")
    assert "not to you" not in said.err
    point = second.folder / "mnt"
    assert f"user {mine}, group {mine}, whose files are shown as yours" in second.vdisk("info", "my-dev").out
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in (point, *(point / "sub").iterdir())} == {
        (theirs, theirs)
    }
    assert ((point / "third").stat().st_uid, (point / "root").stat().st_uid) == (THIRD, 0)
    # Private folders and files of the first can be read and written.
    second.run("sh", "-c", "echo two >> mnt/sub/first; echo new > mnt/sub/second; mkdir mnt/made", check=0)
    (second.folder / "src").mkdir()
    (second.folder / "src" / "file").write_text("hello")
    subprocess.run(["chown", "-R", second.name, second.folder / "src"], check=True)
    second.vdisk("sync", "--source", "src", "--target", "mnt/in")
    if fs != "ext4":
        assert "1 unchanged" in second.vdisk("sync", "--source", "src", "--target", "mnt/in").out
    assert second.run("sh", "-c", "echo > mnt/root").code != 0
    second.vdisk("unmount", "mnt")

    ids = on_disk(second, "my-dev")
    assert {path: owner for path, owner in ids.items() if owner != (mine, mine)} == {
        "third": (THIRD, THIRD),
        "root": (0, 0),
    }
    assert {"sub/second", "made", "in/file", "link"} <= set(ids)
    second.vdisk("export", "--disk", "my-dev", "--output", "back.zip")
    hand_over(second.folder / "back.zip", first)
    first.vdisk("import", "back.zip", "--name", "back")
    first.vdisk("mount", "back", "mnt")
    assert first.run("cat", "mnt/sub/first", "mnt/sub/second", "mnt/in/file", check=0).out == "one\ntwo\nnew\nhello"
    first.run("sh", "-c", "echo three >> mnt/in/file", check=0)
    assert not first.vdisk("info", "back", "--json").result["disk"]["shown_as_yours"]
    first.vdisk("unmount", "mnt")
    assert on_disk(first, "back") == ids


def test_a_disk_of_another_user() -> None:
    with two_people() as (first, second):
        travel(first, second, "ext4")


@pytest.mark.full
@pytest.mark.parametrize("fs", ["xfs", "btrfs"])
def test_a_disk_of_another_user_with_another_filesystem(fs: str) -> None:
    with two_people() as (first, second):
        travel(first, second, fs)


@pytest.mark.full
@pytest.mark.parametrize("fs", ["ntfs", "ext4"])
def test_the_files_of_another_user_become_ones_own(fs: str) -> None:
    with two_people() as (first, second):
        mine, theirs = uid_of(first), uid_of(second)
        first.vdisk("create", "--name", "my-dev", "--size", "64MB", "--fs", fs)
        first.vdisk("mount", "my-dev", "mnt")
        first.run("sh", "-c", "umask 077; mkdir mnt/sub; echo one > mnt/sub/first; ln -s first mnt/sub/link", check=0)
        (first.folder / "mnt" / "root").touch()
        first.vdisk("unmount", "mnt")
        first.vdisk("export", "--disk", "my-dev", "--output", "there.zip")
        hand_over(first.folder / "there.zip", second)
        second.vdisk("import", "there.zip")
        point = second.folder / "mnt"
        said = second.vdisk("mount", "my-dev", "mnt")
        if fs == "ntfs":
            assert f"belong to user {mine}, and not to you" in said.err
            assert "--chown" in said.err
            assert (point / "sub").stat().st_uid == mine
        else:
            assert "--chown" not in said.err
            assert "unmount it first" in second.vdisk("mount", "my-dev", "mnt", "--chown", check=4).err
        second.vdisk("unmount", "my-dev")
        second.vdisk("mount", "my-dev", "--chown", "--read-only", check=2)
        second.vdisk("mount", "my-dev", "mnt", "--chown")
        disk = second.vdisk("info", "my-dev", "--json").result["disk"]
        assert (disk["owner"]["uid"], disk["shown_as_yours"]) == (theirs, False)
        assert {path.lstat().st_uid for path in (point / "sub", *(point / "sub").iterdir())} == {theirs}
        assert (point / "root").stat().st_uid == 0
        second.run("sh", "-c", "echo two >> mnt/sub/first", check=0)
        assert "already mounted" in second.vdisk("mount", "my-dev", "mnt", "--chown").out
        second.vdisk("unmount", "my-dev")
        said = second.vdisk("mount", "my-dev", "mnt")
        assert "--chown" not in said.err
        assert (point / "sub" / "first").read_text() == "one\ntwo\n"
        second.vdisk("unmount", "my-dev")


@pytest.mark.full
def test_work_on_a_disk_that_is_mounted_for_another_user() -> None:
    """Compacting, repairing and exporting it while it is mounted keep the numbers, and show them as before."""
    with two_people() as (first, second):
        mine, theirs = uid_of(first), uid_of(second)
        first.vdisk("create", "--name", "my-dev", "--size", "128MB", "--type", "vhd")
        first.vdisk("mount", "my-dev", "mnt")
        first.run("sh", "-c", "mkdir -m 700 mnt/sub; echo one > mnt/sub/first", check=0)
        first.vdisk("unmount", "mnt")
        first.vdisk("export", "--disk", "my-dev", "--output", "there.zip")
        hand_over(first.folder / "there.zip", second)
        # The image itself tells, too, if it comes without an archive.
        hand_over(first.disk("my-dev"), second)
        second.vdisk("import", "my-dev.vhd", "--in-place", "--name", "adopted")
        assert second.vdisk("info", "adopted", "--json").result["disk"]["owner"] == {"uid": mine, "gid": mine}
        second.vdisk("delete", "adopted", "--yes")
        second.vdisk("archive", "mount", "there.zip", "look")
        assert second.run("cat", "look/sub/first", check=0).out == "one\n"
        second.vdisk("unmount", "look")
        second.vdisk("import", "there.zip")
        second.vdisk("mount", "my-dev", "mnt")
        gone, point = second.folder / "mnt" / "sub" / "gone", second.folder / "mnt"

        def still_shown() -> None:
            assert second.vdisk("info", "my-dev", "--json").result["disk"]["shown_as_yours"]
            assert {(point / name).stat().st_uid for name in (".", "sub", "sub/first")} == {theirs}

        second.run("sh", "-c", "head -c 32M /dev/urandom > mnt/sub/gone; sync -f mnt; rm mnt/sub/gone", check=0)
        assert not gone.exists()
        assert "mounted again" in second.vdisk("compact", "my-dev").out
        still_shown()
        second.run("sh", "-c", "echo two > mnt/sub/second", check=0)
        second.vdisk("export", "--disk", "my-dev", "--output", "live.zip")
        still_shown()
        held = LinuxPlatform().attachment(second.disk("my-dev"))
        assert held is not None and held.daemon_pid
        os.kill(held.daemon_pid, signal.SIGKILL)
        assert f"mounted again at {point}" in second.vdisk("repair", "my-dev").out
        still_shown()
        second.vdisk("unmount", "my-dev")
        # The archive was made while the disk was mounted.
        second.vdisk("import", "live.zip", "--name", "copy", "--type", "img")
        assert second.vdisk("info", "copy", "--json").result["disk"]["owner"]["uid"] == mine
        found = on_disk(second, "copy")
        assert {"sub/first", "sub/second"} <= set(found)
        assert set(found.values()) == {(mine, mine)}
        second.vdisk("convert", "my-dev", "--to", "img")
        assert set(on_disk(second, "my-dev").values()) == {(mine, mine)}
