"""Second opinions: readers of images and filesystems that others wrote, sharing no code with QEMU or a kernel.

Images are read by dissect.hypervisor, libvhdi and libqcow; filesystems by dissect.extfs, dissect.ntfs and dissect.fat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyqcow
import pyvhdi
from dissect.extfs import ExtFS
from dissect.fat import FATFS, ExFAT
from dissect.hypervisor.disk.qcow2 import QCow2
from dissect.hypervisor.disk.vhd import VHD
from dissect.hypervisor.disk.vhdx import VHDX
from dissect.ntfs import NTFS
from dissect.util.stream import AlignedStream, RangeStream, RunlistStream

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.tests.guest.seen import Facts

_STEP = 8 << 20
_Files = Iterator[tuple[str, BinaryIO]]


class _Library(AlignedStream):  # type: ignore[misc]
    """An image that libvhdi or libqcow has open."""

    def __init__(self, opened: Any):
        self._opened = opened
        super().__init__(opened.media_size)

    def _read(self, offset: int, length: int) -> bytes:
        data: bytes = self._opened.read_buffer_at_offset(min(length, self.size - offset), offset)
        return data.ljust(length, b"\0")


@contextmanager
def _opened(library: Any, path: Path) -> Iterator[BinaryIO]:
    image = library.file()
    image.open(str(path))
    try:
        yield _Library(image)
    finally:
        image.close()


@contextmanager
def _dissected(read: Callable[[BinaryIO], BinaryIO], path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        yield read(file)


DISKS: dict[str, list[Callable[[Path], Any]]] = {
    "vhd": [lambda path: _dissected(VHD, path), lambda path: _opened(pyvhdi, path)],
    "vhd-fixed": [lambda path: _dissected(VHD, path), lambda path: _opened(pyvhdi, path)],
    "vhdx": [lambda path: _dissected(lambda file: VHDX(file), path), lambda path: _opened(pyvhdi, path)],
    "qcow2": [lambda path: _dissected(lambda file: QCow2(file).open(), path), lambda path: _opened(pyqcow, path)],
    "img": [lambda path: _dissected(lambda file: file, path)],
    "loop": [lambda path: _dissected(lambda file: file, path)],
    "dmg": [lambda path: _dissected(lambda file: file, path)],
}
"""For each type of image the readers that know it: context managers of the disk in it, as a file."""


def _ext(content: BinaryIO) -> _Files:
    def inside(folder: Any, path: str) -> _Files:
        for node in folder.iterdir():
            if node.filename in (".", "..") or (not path and node.filename == "lost+found"):
                continue
            if node.filetype == 0o040000:
                yield from inside(node, f"{path}{node.filename}/")
            elif node.filetype == 0o100000:
                yield path + node.filename, node.open()

    return inside(ExtFS(content).root, "")


def _ntfs(content: BinaryIO) -> _Files:
    def inside(folder: Any, path: str) -> _Files:
        for entry in folder.iterdir(dereference=True, ignore_dos=True):
            name = entry.filename
            if name == "." or (not path and name.startswith("$")):
                continue
            if entry.is_dir():
                yield from inside(entry, f"{path}{name}/")
            else:
                yield path + name, entry.open()

    return inside(NTFS(content).mft.root, "")


def _fat(content: BinaryIO) -> _Files:
    def inside(folder: Any, path: str) -> _Files:
        for entry in folder.iterdir():
            if entry.name in (".", "..") or entry.is_volume_id():
                continue
            if entry.is_directory():
                yield from inside(entry, f"{path}{entry.name.lower()}/")
            else:
                # The bits that say that a short name is meant in small letters are not looked at there.
                yield path + entry.name.lower(), entry.open()

    return inside(FATFS(content).root, "")


def _exfat(content: BinaryIO) -> _Files:
    disk = ExFAT(content)

    def inside(folder: dict[str, Any], path: str) -> _Files:
        for name, (file, below) in folder.items():
            if below is not None:
                yield from inside(below, f"{path}{name}/")
                continue
            stream = file.stream
            size, together = stream.data_length, bool(stream.flags.not_fragmented)
            # The size counts only where the file is in one piece, else it would be taken for that.
            runs = disk.runlist(stream.location, together, size if together else None) if size else []
            yield path + name, RunlistStream(content, runs, stream.data_length, disk.sector_size)

    return inside(next(iter(disk.files.values()))[1], "")


FILES: dict[str, Callable[[BinaryIO], _Files]] = {"ext4": _ext, "ntfs": _ntfs, "fat32": _fat, "exfat": _exfat}
"""For each filesystem the reader that knows it: path and content of every file."""


def confirm(path: Path, type: ImageType, fs: str, partition: Partition, facts: Facts) -> int:
    """How many readers saw the disk in an image that we see, and on it the files with the content that ``facts`` say.

    Fails where one saw something else.
    """
    expected = {name.decode(errors="surrogateescape"): fact.content for name, fact in facts.items() if fact.is_file}
    with LinuxPlatform().open_image(path, type, writable=False) as ours:
        for opened in DISKS[type]:
            with opened(path) as disk:
                assert disk.seek(0, 2) == ours.size
                for offset in range(0, ours.size, _STEP):
                    disk.seek(offset)
                    length = min(_STEP, ours.size - offset)
                    assert disk.read(length) == ours.read(offset, length), f"{path} at {offset}"
                if fs in FILES:
                    content = RangeStream(disk, partition.start, partition.length)
                    found = {name: _sha256(file) for name, file in FILES[fs](content)}
                    assert {name: found[name] for name in found if not name.startswith(".vdisk/")} == expected
    return len(DISKS[type])


def _sha256(file: BinaryIO) -> str:
    return hashlib.sha256(file.read()).hexdigest()
