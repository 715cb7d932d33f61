"""Writing to a disk whose image stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import Extent, FileIdentity, FileSystemType, ImageType
from portunix_vdisk.platform.errors import Corrupt, Failed, Refused
from portunix_vdisk.platform.linux import facts, state
from portunix_vdisk.platform.linux.overlays import parse_overlay_map
from portunix_vdisk.steps.durable import identity_of
from portunix_vdisk.tests.platform.disks import PARTITION, SIZE, Disk


def print_of(image: Path) -> tuple[FileIdentity, str]:
    return identity_of(image), hashlib.sha256(image.read_bytes()).hexdigest()


@pytest.fixture
def overlay(disk: Disk, tmp_path: Path) -> Path:
    made = tmp_path / "over,lay\n\udcff"
    disk.platform.make_overlay(made, SIZE)
    return made


def attach(disk: Disk, overlay: Path) -> None:
    disk.platform.attach_overlay(overlay, disk.image, disk.type, PARTITION)


def test_writes_go_into_the_overlay_and_the_image_stays(disk: Disk, overlay: Path, tmp_path: Path) -> None:
    before = print_of(disk.image)
    attach(disk, overlay)
    disk.platform.mount(overlay, FileSystemType.EXT4, tmp_path / "point")
    content = os.urandom(3 << 20)
    (tmp_path / "point" / "file").write_bytes(content)
    if disk.type is ImageType.VHD:
        with pytest.raises(Refused):
            disk.attach()  # it's in use
    assert disk.platform.trim(overlay) > SIZE // 2
    disk.platform.detach(overlay)
    assert print_of(disk.image) == before
    held = disk.platform.map_overlay(overlay)
    assert held.size == SIZE and sum(extent.length for extent in held.extents) >= 3 << 20
    assert sum(end - start for start, end in held.decided) > SIZE // 2, "what was trimmed reads as zeros"
    attach(disk, overlay)
    disk.platform.mount(overlay, FileSystemType.EXT4, tmp_path / "point")
    assert (tmp_path / "point" / "file").read_bytes() == content
    disk.platform.detach(overlay)
    assert not (tmp_path / "point").exists() and print_of(disk.image) == before


def test_an_overlay_is_no_archive_and_not_its_disk(disk: Disk, overlay: Path) -> None:
    attach(disk, overlay)
    held = disk.platform.attachment(overlay)
    assert held is not None and held.server_pid is None and not held.read_only and not held.problem
    assert disk.platform.attachment(disk.image) is None
    disk.platform.detach(overlay)


def killed_server(disk: Disk, overlay: Path) -> None:
    note = state.read(state.ROOT / state.key_of(overlay.stat()))
    assert note is not None and note.server_pid
    os.kill(note.server_pid, signal.SIGKILL)


def killed_daemon(disk: Disk, overlay: Path) -> None:
    held = disk.platform.attachment(overlay)
    assert held is not None and held.daemon_pid
    os.kill(held.daemon_pid, signal.SIGKILL)


@pytest.mark.parametrize("kill", [killed_server, killed_daemon])
def test_whoever_dies_is_noticed_and_cleared_away(
    disk: Disk, overlay: Path, tmp_path: Path, kill: Callable[[Disk, Path], None]
) -> None:
    before = print_of(disk.image)
    attach(disk, overlay)
    disk.platform.mount(overlay, FileSystemType.EXT4, tmp_path / "point")
    (tmp_path / "point" / "file").write_bytes(os.urandom(1 << 20))
    os.sync()
    kill(disk, overlay)
    deadline = time.monotonic() + 10
    while (found := facts.find(state.ROOT, overlay)) and "has died" not in found.problem:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    disk.platform.detach(overlay)
    assert disk.platform.attachment(overlay) is None and print_of(disk.image) == before
    if kill is killed_server:
        with pytest.raises(Failed, match="not closed in order"):
            disk.platform.map_overlay(overlay)


def test_a_damaged_image_is_refused(vhd_disk: Disk, tmp_path: Path) -> None:
    disk, overlay = vhd_disk, tmp_path / "overlay"
    disk.platform.make_overlay(overlay, SIZE)
    disk.image.write_bytes(b"")
    with pytest.raises((Failed, Corrupt)):
        attach(disk, overlay)
    assert disk.platform.attachment(overlay) is None


def entry(start: int, length: int, **more: object) -> dict[str, object]:
    return {"start": start, "length": length, "depth": 0, "present": True, "zero": False, "data": True, **more}


def test_the_map_tells_data_from_zeros_and_both_from_the_image() -> None:
    text = [
        entry(0, 10, offset=100),
        entry(10, 10, zero=True, data=False),
        entry(20, 5, present=False, zero=True, data=False),
        entry(25, 5, offset=0),
    ]
    held = parse_overlay_map(json.dumps(text).encode(), 110)
    assert (held.size, held.decided) == (30, ((0, 20), (25, 30)))
    assert held.extents == (Extent(0, 10, 100), Extent(25, 5, 0))


@pytest.mark.parametrize(
    "entries",
    [
        [entry(1, 10, offset=0)],
        [entry(0, 10, offset=100), entry(5, 10, offset=0)],
        [entry(0, 0, offset=0)],
        [entry(0, 10, offset=101)],
        [entry(0, 10, offset=-1)],
        [entry(0, 10)],
        [{"start": 0, "length": 10}],
        {"start": 0},
        ["text"],
    ],
)
def test_a_map_that_makes_no_sense_is_refused(entries: object) -> None:
    with pytest.raises(Corrupt):
        parse_overlay_map(json.dumps(entries).encode(), 110)
