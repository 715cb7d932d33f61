"""Who is shown as whom on a mounted disk, and what a caller cannot get by naming owners."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.base import AttachRequest, FileSystemType, Owner
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Missing
from portunix_vdisk.platform.linux import drivers, mounts, new_mount
from portunix_vdisk.platform.linux.id_maps import HIGHEST_ID, IdMap, id_map, namespace, table
from portunix_vdisk.platform.linux.mount_point import Caller
from portunix_vdisk.platform.linux.mounting import Mounting
from portunix_vdisk.tests.platform.disks import PARTITION, Disk
from portunix_vdisk.tests.platform.restricted import OTHER, PLACE, USER, program

IDS = st.integers(0, HIGHEST_ID) | st.sampled_from([0, 1, 2, 1000, 65534, HIGHEST_ID - 1, HIGHEST_ID])
ALICE = 61000
"""Whose disk it is."""


def lines(one: int, other: int) -> list[tuple[int, int, int]]:
    return [tuple(map(int, line.split())) for line in table(one, other).splitlines()]  # type: ignore[misc]


@given(IDS, IDS, IDS)
def test_two_ids_swap_and_all_others_stay(one: int, other: int, any: int) -> None:
    runs = lines(one, other)
    swapped = {one: other, other: one}
    for id in (one, other, any):
        shown = [start + id - first for first, start, count in runs if first <= id < first + count]
        assert shown == [swapped.get(id, id)]
    assert sum(count for _, _, count in runs) == HIGHEST_ID + 1
    assert all(count > 0 for _, _, count in runs)


@settings(max_examples=5, deadline=None)
@given(IDS, IDS)
def test_the_kernel_takes_every_table(one: int, other: int) -> None:
    with namespace(Commands(), IdMap(Owner(one, other), Owner(other, one))) as found:
        os.fstat(found)


@given(IDS, IDS, IDS, IDS)
def test_roots_numbers_are_never_exchanged(uid: int, gid: int, caller: int, group: int) -> None:
    found = id_map(Owner(uid, gid), Owner(caller, group))
    if uid == 0 or caller == 0:
        assert found is None
    if found is not None:
        assert found.shown == Owner(caller, group)
        assert found.disk.uid == uid
        assert (found.disk.gid == 0) == (found.shown.gid == 0)


@pytest.mark.parametrize("owner", [Owner(0, 0), Owner(0, 5), Owner(HIGHEST_ID + 1, 5), Owner(5, 1 << 62)])
def test_impossible_owners_have_no_map(owner: Owner) -> None:
    assert id_map(owner, Owner(USER, USER)) is None


@pytest.fixture
def image(img_disk: Disk, folder: Path) -> Iterator[Path]:
    """An image that the user of sudo may write to, whose files are Alice's, root's and theirs."""
    point = folder / "made"
    img_disk.attach()
    img_disk.mount(point)
    for name, uid in (("alice", ALICE), ("root", 0), ("user", USER)):
        (point / name).write_text(name)
        (point / name).chmod(0o600)
        os.chown(point / name, uid, uid)
    shutil.copy("/usr/bin/id", point / "id")
    os.chown(point / "id", ALICE, ALICE)
    (point / "id").chmod(0o6755)
    img_disk.platform.detach(img_disk.image)
    path = Path(shutil.move(img_disk.image, folder / img_disk.image.name))
    os.chown(path, USER, USER)
    path.chmod(0o660)
    yield path
    img_disk.platform.detach(path)


def mounted(disk: Disk, image: Path, *words: str) -> dict[str, int]:
    """Attach and mount it for the user of sudo; owners of the files as they are shown."""
    assert program("attach", f"--image={image}", f"--type={disk.type}", *PLACE).status == 0
    answer = program("mount", f"--image={image}", "--fs=ext4", f"--mount-point={image.parent / 'mnt'}", *words)
    assert answer.status == 0, answer.error
    shown = {path.name: path.stat().st_uid for path in (image.parent / "mnt").iterdir()}
    assert answer.out["mapped"] == (shown["alice"] != ALICE)
    return shown


def test_alices_files_are_the_users(img_disk: Disk, image: Path) -> None:
    shown = mounted(img_disk, image, f"--disk-owner={ALICE}:{ALICE}")
    assert shown | {"lost+found": 0} == {"alice": USER, "id": USER, "user": ALICE, "root": 0, "lost+found": 0}
    entry = next(entry for entry in mounts.mounted() if entry.point == image.parent / "mnt")
    flags = next(
        line.split()[5] for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {entry.point} " in line
    )
    assert {"nosuid", "nodev", "idmapped"} <= set(flags.split(","))
    # A program with the set-user-ID bit is nobody's way to be its owner.
    run = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", str(entry.point / "id"), "-u"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == str(OTHER)


@pytest.mark.parametrize("owner", ["0:0", f"0:{ALICE}"])
def test_roots_files_stay_roots(img_disk: Disk, image: Path, owner: str) -> None:
    shown = mounted(img_disk, image, f"--disk-owner={owner}")
    assert (shown["root"], shown["alice"], shown["user"]) == (0, ALICE, USER)


def test_only_who_attached_it_has_its_files_shown_as_theirs(img_disk: Disk, image: Path) -> None:
    """Another may be allowed to write to the image and not to know its password."""
    alice = Mounting(Caller(Owner(ALICE, ALICE), restricted=False), Commands())
    alice.attach(AttachRequest(image, img_disk.type, PARTITION, read_only=False))
    shown = mounted(img_disk, image, f"--disk-owner={ALICE}:{ALICE}")
    assert (shown["alice"], shown["user"]) == (ALICE, USER)


@pytest.mark.parametrize("why", ["kernel", "namespaces"])
def test_where_nothing_can_map_it_is_mounted_as_it_is(
    img_disk: Disk, image: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise new_mount.CannotMap if why == "kernel" else Missing("no namespaces")

    monkeypatch.setattr(*((new_mount, "mount") if why == "kernel" else (drivers, "namespace")), cannot)
    user = Mounting(Caller(Owner(USER, USER), restricted=True), Commands())
    user.attach(AttachRequest(image, img_disk.type, PARTITION, read_only=False))
    held = user.mount(image, FileSystemType.EXT4, image.parent / "mnt", Owner(ALICE, ALICE))
    assert not held.mapped
    assert (image.parent / "mnt" / "alice").stat().st_uid == ALICE
