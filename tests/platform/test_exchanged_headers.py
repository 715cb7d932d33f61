"""The header of an image is exchanged between our look at it and the start of root's storage daemon."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import AttachRequest, ImageType
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux import opened_files, state, storage_daemon
from portunix_vdisk.platform.linux.image_map import map_served
from portunix_vdisk.tests.platform.disks import PARTITION, SIZE, Disk, leftovers

SECRET = b"only root may read this\n".ljust(512) * (SIZE // 512)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A file that the caller of sudo could not read."""
    path = tmp_path / "foreign"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


def header(folder: Path, foreign: Path, kind: str) -> bytes:
    """The whole of a QCOW2 that names another file: as backing file, or as the one that its data lies in."""
    made = folder / f"{kind}.qcow2"
    if kind == "backing":
        options = ["-b", str(foreign), "-F", "raw"]
    else:
        options = ["-o", f"data_file={foreign},data_file_raw=on"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(made), str(SIZE)], check=True)
    if kind == "data":
        foreign.write_bytes(SECRET)  # qemu-img has emptied it
    return made.read_bytes()


def exchange(disk: Disk, by: bytes, monkeypatch: pytest.MonkeyPatch, seen: Callable[[], None] = lambda: None) -> None:
    """Write it over the image when the daemon is about to be started: everything was checked by then."""
    launch = Commands.launch

    def late(commands: Commands, program: str, *arguments: str, **more: object) -> None:
        with disk.image.open("r+b") as file:
            file.write(by)
        launch(commands, program, *arguments, **more)  # type: ignore[arg-type]
        seen()

    monkeypatch.setattr(Commands, "launch", late)


@pytest.mark.parametrize("kind", ["backing", "data"])
def test_another_file_is_never_shown(
    qcow2_disk: Disk, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    bound: list[object] = []
    monkeypatch.setattr("portunix_vdisk.platform.linux.loop.bind", lambda *_, **__: bound.append(1))
    exchange(qcow2_disk, header(tmp_path, foreign, kind), monkeypatch)
    with pytest.raises(Refused, match="names another file") as caught:
        qcow2_disk.attach()
    assert caught.value.state and caught.value.hint
    assert bound == []  # nobody could use the export before it was refused
    assert leftovers(tmp_path) == []
    assert foreign.read_bytes() == SECRET


@pytest.mark.parametrize("kind", ["backing", "data"])
def test_without_the_question_it_would_be_shown(
    qcow2_disk: Disk, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What the refusal is for; if QEMU once opens nothing else by itself, this says so."""
    shown: list[bytes] = []
    folder = state.ROOT / state.key_of(qcow2_disk.image.stat())

    def look() -> None:
        with (folder / "export").open("rb") as file:
            shown.append(file.read(512))

    monkeypatch.setattr(storage_daemon, "refuse_other_files", lambda *_: None)
    monkeypatch.setattr(opened_files, "_nothing_else", lambda _: {})
    exchange(qcow2_disk, header(tmp_path, foreign, kind), monkeypatch, look)
    qcow2_disk.attach()
    qcow2_disk.platform.detach(qcow2_disk.image)
    assert shown == [SECRET[:512]]


def test_a_backing_file_is_not_even_opened(
    qcow2_disk: Disk, tmp_path: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = header(tmp_path, foreign, "backing")
    foreign.unlink()
    os.mkfifo(foreign)  # opening it would fail in another way
    exchange(qcow2_disk, by, monkeypatch)
    with pytest.raises(Refused, match="names another file"):
        qcow2_disk.attach()


def test_nor_by_the_programs_that_look_at_an_image(qcow2_disk: Disk, tmp_path: Path, foreign: Path) -> None:
    qcow2_disk.image.write_bytes(header(tmp_path, foreign, "backing"))
    with qcow2_disk.image.open("rb") as file:
        found = map_served(Commands(), file.fileno(), ImageType.QCOW2)
    assert found.size == SIZE
    assert found.extents == ()  # the other file's data is none of this disk


@pytest.mark.parametrize("live", [False, True])
def test_whole_images_are_attached_as_before(qcow2_disk: Disk, disk: Disk, tmp_path: Path, live: bool) -> None:
    for each in (qcow2_disk, disk):
        each.platform.attach(AttachRequest(each.image, each.type, PARTITION, read_only=False, live=live))
        each.mount(tmp_path / "here")
        (tmp_path / "here/file").write_text("content")
        each.platform.detach(each.image)
        assert any("clean" in line for line in each.repair())
