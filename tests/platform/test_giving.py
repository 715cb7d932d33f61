"""Giving a former owner's files on a mounted disk to the caller: all of these, and nothing else, whatever links say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import AttachRequest, FileSystemType, Owner
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux import giving, mounts, privilege
from portunix_vdisk.platform.linux.giving import give_files
from portunix_vdisk.platform.linux.mount_point import Caller
from portunix_vdisk.platform.linux.mounting import Mounting
from portunix_vdisk.tests.platform.disks import PARTITION, Disk
from portunix_vdisk.tests.platform.restricted import OTHER, USER, program

ALICE = Owner(61000, 61001)
DEEP = 300
_BIND = 4096


def mounting() -> Mounting:
    return Mounting(Caller(Owner(USER, USER), restricted=False), Commands())


def own(path: Path, owner: Owner = ALICE) -> Path:
    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    return path


def ids(path: Path) -> tuple[int, int]:
    about = path.lstat()
    return about.st_uid, about.st_gid


@pytest.fixture
def image(img_disk: Disk, folder: Path) -> Iterator[Path]:
    """An image of the user, mounted for them, with files of Alice, of root and of another."""
    path = Path(shutil.move(img_disk.image, folder / img_disk.image.name))
    os.chown(path, USER, USER)
    user, point = mounting(), folder / "mnt"
    user.attach(AttachRequest(path, img_disk.type, PARTITION, read_only=False))
    user.mount(path, FileSystemType.EXT4, point)
    own(point)
    for name in ("file", "program", "twice"):
        (point / name).write_text(name)
        own(point / name)
    (point / "program").chmod(0o6755)
    (point / "again").hardlink_to(point / "twice")
    for name, owner in (("root", Owner(0, 0)), ("other", Owner(OTHER, OTHER)), ("group", Owner(OTHER, ALICE.gid))):
        (point / name).write_text(name)
        own(point / name, owner)
    (folder / "outside").touch()
    own(folder / "outside")
    (point / "link").symlink_to(folder / "outside")
    own(point / "link")
    (point / "up").symlink_to(folder)
    below = point / "deep"
    for _ in range(DEEP + 1):
        below.mkdir()
        below = own(below) / "d"
    yield path
    img_disk.platform.detach(path)


def check(point: Path) -> None:
    for name in (".", "file", "program", "twice", "again", "link", "deep", "deep" + "/d" * DEEP):
        assert ids(point / name) == (USER, USER), name
    assert ids(point / "root") == ids(point / "up") == ids(point / "lost+found") == (0, 0)
    assert (ids(point / "other"), ids(point / "group")) == ((OTHER, OTHER), (OTHER, USER))
    assert ids(point.parent / "outside") == (ALICE.uid, ALICE.gid)
    assert not (point / "program").stat().st_mode & 0o6000


def test_all_of_alices_files_become_the_callers(image: Path) -> None:
    give = ("chown", f"--image={image}", f"--disk-owner={ALICE.uid}:{ALICE.gid}")
    command = [os.fsencode(word) for word in (*privilege.attach_command(), *give)]
    environment = {"PATH": "/nowhere", "SUDO_UID": str(USER), "SUDO_GID": str(USER)}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    *progress, result = [json.loads(line) for line in done.stdout.splitlines()]
    # The top, three files of which one has two names, the link, the other's of Alice's group, the folders.
    assert result == {"given": 1 + 3 + 1 + 1 + 1 + DEEP}
    assert progress and all(line["seen"] > 0 for line in progress)
    check(image.parent / "mnt")
    again = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert json.loads(again.stdout.splitlines()[-1]) == {"given": 0}


def test_an_end_in_the_middle_is_made_good_by_the_next_run(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "_TELL", 0)

    class Stopped(Exception):
        pass

    def stop(seen: int) -> None:
        if seen > DEEP // 2:
            raise Stopped

    with pytest.raises(Stopped):
        give_files(mounting(), image, ALICE, stop)
    point = image.parent / "mnt"
    assert ids(point) == (USER, USER)
    assert ids(point / ("deep" + "/d" * DEEP)) == (ALICE.uid, ALICE.gid)
    give_files(mounting(), image, ALICE, lambda _: None)
    check(point)


def test_what_lies_on_another_filesystem_is_left_alone(image: Path) -> None:
    point = image.parent / "mnt"
    below, one = point / "deep" / "below", point / "deep" / "one"
    below.mkdir()
    one.touch()
    mounts.mount("room", str(below), "tmpfs", 0, "")
    try:
        own(below)
        (below / "file").touch()
        own(below / "file")
        mounts.mount(str(below / "file"), str(one), "", _BIND, "")
        try:
            give_files(mounting(), image, ALICE, lambda _: None)
            assert ids(below / "file") == ids(below) == ids(one) == (ALICE.uid, ALICE.gid)
        finally:
            mounts.unmount(one)
    finally:
        mounts.unmount(below)


def test_what_cannot_be_given_is_named(image: Path) -> None:
    point = image.parent / "mnt"
    subprocess.run(["chattr", "+i", point / "file"], check=True)
    with pytest.raises(Failed, match=r"1 files could not .*\./file \(Operation not permitted\)"):
        give_files(mounting(), image, ALICE, lambda _: None)
    assert ids(point / "twice") == (USER, USER)
    subprocess.run(["chattr", "-i", point / "file"], check=True)
    assert give_files(mounting(), image, ALICE, lambda _: None) == 1


def test_what_is_roots_is_never_given(image: Path) -> None:
    point = image.parent / "mnt"
    for owner in ("0:0", f"0:{ALICE.gid}"):
        assert program("chown", f"--image={image}", f"--disk-owner={owner}").status == 4
    assert ids(point / "file") == (ALICE.uid, ALICE.gid)
    # Nor root's group.
    give_files(mounting(), image, Owner(ALICE.uid, 0), lambda _: None)
    assert ids(point / "root") == (0, 0)
    assert ids(point / "file") == (USER, ALICE.gid)


def test_who_did_not_attach_it_is_given_nothing(image: Path) -> None:
    image.chmod(0o666)
    refused = program("chown", f"--image={image}", f"--disk-owner={ALICE.uid}:{ALICE.gid}", user=OTHER)
    assert refused.status == 4
    assert ids(image.parent / "mnt" / "file") == (ALICE.uid, ALICE.gid)


def test_only_what_is_mounted_as_it_is(img_disk: Disk, image: Path) -> None:
    user, point = mounting(), image.parent / "mnt"
    user.unmount(image)
    with pytest.raises(Refused, match="is not mounted"):
        give_files(user, image, ALICE, lambda _: None)
    user.mount(image, FileSystemType.EXT4, point, ALICE)
    with pytest.raises(Refused, match="cannot be changed"):
        give_files(user, image, ALICE, lambda _: None)
    user.detach(image)
    user.attach(AttachRequest(image, img_disk.type, PARTITION, read_only=True))
    user.mount(image, FileSystemType.EXT4, point)
    with pytest.raises(Refused, match="read-only"):
        give_files(user, image, ALICE, lambda _: None)
