"""Real images in a private folder; every test must leave the machine as it found it."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kinds import EACH, MORE, USUAL

from portunix_vdisk.platform.base import FileSystemType, ImageType, Owner
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.tests.platform.disks import PARTITION, SIZE, Disk, leftovers
from portunix_vdisk.tests.platform.restricted import USER


def settle(platform: LinuxPlatform, folder: Path) -> None:
    """Take away what a failed test left, so that only that test fails."""
    for each in list(platform.attachments()):
        if str(each.image).startswith(str(folder)):
            platform.detach(each.image)


@pytest.fixture
def platform() -> LinuxPlatform:
    assert os.geteuid() == 0, "these tests attach and mount: run them as root"
    return LinuxPlatform()


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Other tests run at the same time; and the name is short, since sockets lie in it.
    temporary = tempfile.mkdtemp(prefix="pv-")
    os.chmod(temporary, 0o1777)  # other users have files there in some tests
    monkeypatch.setattr(tempfile, "tempdir", temporary)
    monkeypatch.setenv("TMPDIR", temporary)
    assert leftovers(tmp_path) == []
    yield
    found = leftovers(tmp_path)
    settle(LinuxPlatform(), tmp_path)
    shutil.rmtree(temporary, ignore_errors=True)
    assert found == []


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[ImageType, bytes]:
    """The bytes of one image of each type, with an empty filesystem: made once, copied by each test."""
    platform = LinuxPlatform()
    folder = tmp_path_factory.mktemp("originals")
    scratch = folder / "filesystem"
    with scratch.open("wb") as file:
        file.truncate(PARTITION.length)
    owner = Owner(0, 0)
    platform.make_filesystem(scratch, FileSystemType.EXT4, label="test", uuid=str(uuid.uuid4()), owner=owner)
    made = {}
    for type in (*USUAL, *MORE):
        image = folder / f"disk.{type}"
        platform.create_image(image, type, SIZE)
        with platform.open_image(image, type, writable=True) as disk:
            for extent in platform.map_image(scratch, ImageType.IMG).extents:
                data = scratch.read_bytes()[extent.start : extent.start + extent.length]
                disk.write(PARTITION.start + extent.start, data)
        made[type] = image.read_bytes()
    return made


def _laid(platform: LinuxPlatform, originals: dict[ImageType, bytes], image: Path, type: ImageType) -> Disk:
    image.write_bytes(originals[type])
    return Disk(platform, image, type)


@pytest.fixture(params=EACH)
def disk(
    request: pytest.FixtureRequest, platform: LinuxPlatform, originals: dict[ImageType, bytes], tmp_path: Path
) -> Disk:
    type: ImageType = request.param
    return _laid(platform, originals, tmp_path / f"di sk,\udcff\n.{type}", type)


@pytest.fixture
def qcow2_disk(platform: LinuxPlatform, originals: dict[ImageType, bytes], tmp_path: Path) -> Disk:
    return _laid(platform, originals, tmp_path / "disk.qcow2", ImageType.QCOW2)


@pytest.fixture
def vhd_disk(platform: LinuxPlatform, originals: dict[ImageType, bytes], tmp_path: Path) -> Disk:
    return _laid(platform, originals, tmp_path / "disk.vhd", ImageType.VHD)


@pytest.fixture
def img_disk(platform: LinuxPlatform, originals: dict[ImageType, bytes], tmp_path: Path) -> Disk:
    return _laid(platform, originals, tmp_path / "disk.img", ImageType.IMG)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the user. Not below pytest's own, which lets nobody else through."""
    above = Path(tempfile.mkdtemp(prefix="pv-test-"))
    above.chmod(0o755)
    made = above / "theirs"
    made.mkdir()
    os.chown(made, USER, USER)
    yield made
    found = leftovers(above)
    shutil.rmtree(above)
    assert found == []
