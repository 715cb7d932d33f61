"""Disks that are attached through a storage daemon which takes commands."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import AttachRequest, ImageType
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux import state
from portunix_vdisk.platform.linux.storage_daemon import DISK, PARTITION, StorageDaemon
from portunix_vdisk.tests.platform import disks
from portunix_vdisk.tests.platform.disks import Disk
from portunix_vdisk.tests.platform.restricted import PLACE, USER, program


def attach(disk: Disk, *, read_only: bool = False) -> None:
    disk.platform.attach(AttachRequest(disk.image, disk.type, disks.PARTITION, read_only=read_only, live=True))


@pytest.mark.parametrize("read_only", [False, True])
def test_the_daemon_takes_commands_from_root_alone(disk: Disk, read_only: bool) -> None:
    attach(disk, read_only=read_only)
    held = disk.platform.attachment(disk.image)
    assert held is not None and held.live and held.daemon_pid and not held.problem
    folder = state.ROOT / state.key_of(disk.image.stat())
    assert (folder / "monitor").stat().st_mode & 0o777 == 0o700
    with StorageDaemon(folder, Commands()).talk() as monitor:
        nodes = monitor.execute("query-named-block-nodes", {"flat": True})
    assert isinstance(nodes, list)
    drivers = {node["node-name"]: node["drv"] for node in nodes}
    named = {ImageType.IMG: "file", ImageType.VHDX: "vhdx", ImageType.QCOW2: "qcow2"}
    assert (drivers[DISK], drivers[PARTITION]) == (named.get(disk.type, "vpc"), "raw")
    disk.platform.detach(disk.image)
    assert not folder.exists()


def test_an_img_through_the_daemon_keeps_its_files(img_disk: Disk, tmp_path: Path) -> None:
    contents = {f"file{number}": random.Random(number).randbytes(100_000) for number in range(20)}
    attach(img_disk)
    img_disk.mount(tmp_path / "mnt")
    for name, data in contents.items():
        (tmp_path / "mnt" / name).write_bytes(data)
    with pytest.raises(Refused, match="in use"), (tmp_path / "mnt/file1").open():
        img_disk.platform.unmount(img_disk.image)
    img_disk.platform.detach(img_disk.image)
    assert any("clean" in line for line in img_disk.repair())
    img_disk.attach()
    held = img_disk.platform.attachment(img_disk.image)
    assert held is not None and not held.live and held.daemon_pid is None
    with pytest.raises(Refused, match="--live"):
        attach(img_disk)
    img_disk.mount(tmp_path / "mnt")
    assert {path.name: path.read_bytes() for path in (tmp_path / "mnt").glob("file*")} == contents
    img_disk.platform.detach(img_disk.image)


def test_what_an_older_version_attached_is_not_taken_for_live(img_disk: Disk, vhd_disk: Disk) -> None:
    vhd_disk.attach()
    folder = state.ROOT / state.key_of(vhd_disk.image.stat())
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace(', "live": true', ""))
    held = vhd_disk.platform.attachment(vhd_disk.image)
    assert held is not None and not held.live and not held.problem
    vhd_disk.platform.detach(vhd_disk.image)


def test_a_disk_attached_through_the_daemon(img_disk: Disk, folder: Path) -> None:
    image = Path(shutil.move(img_disk.image, folder / "live.img"))
    os.chown(image, USER, USER)
    attach = ("attach", f"--image={image}", "--type=img", *PLACE)
    attached = program(*attach, "--live")
    assert attached.out["live"] and attached.out["daemon_pid"]
    assert program(*attach).status == 0  # it can do more than was asked for
    assert program("detach", f"--image={image}").status == 0
    assert not program(*attach).out["live"]
    refused = program(*attach, "--live")
    assert refused.status == 4 and "--live" in str(refused.error["hint"])
    assert program("detach", f"--image={image}").status == 0
