"""Loop devices, by the kernel's own calls: no path is looked up twice, so nothing can be exchanged between a check and
its use.

Source: ``include/uapi/linux/loop.h`` of Linux 5.8 or later (``LOOP_CONFIGURE``).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Failed, Missing

_CONTROL = "/dev/loop-control"
_BLOCK = Path("/sys/block")

_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
_READ_ONLY = 1

# struct loop_info64: device, inode, rdevice, offset, sizelimit; number, encrypt type, encrypt key size, flags;
# file name, crypt name, key; two words of init.
_INFO = struct.Struct("=QQQQQIIII64s64s32s2Q")
# struct loop_config: fd, block size, loop_info64, eight reserved words.
_CONFIG = struct.Struct(f"=II{_INFO.size}s64x")

_LARGEST_REQUEST = 124
"""KiB that one request to a FUSE export may have: 32 pages are written in one piece, also where none is aligned."""
_STEP = 0.002


@dataclass(frozen=True, slots=True)
class Loop:
    """A bound loop device as ``/sys`` shows it; readable for everybody.

    ``number`` is its device number, ``backing`` the path of its file as the kernel knows it now (it follows renames;
    a file without a name ends in `` (deleted)``), ``offset`` and ``limit`` are bytes.
    """

    name: str
    number: int
    backing: str
    offset: int
    limit: int
    read_only: bool
    direct: bool

    @property
    def device(self) -> str:
        """Path of the device node."""
        return f"/dev/{self.name}"


def loops() -> Iterator[Loop]:
    """All bound loop devices."""
    for folder in _BLOCK.iterdir():
        if folder.name.startswith("loop") and (found := look(folder.name)) is not None:
            yield found


def look(name: str) -> Loop | None:
    """One loop device by its name, if it is bound."""
    folder = _BLOCK / name
    try:
        # The kernel ends the path with one newline; others belong to the name.
        backing = os.fsdecode((folder / "loop/backing_file").read_bytes().removesuffix(b"\n"))
        major, minor = (folder / "dev").read_text().split(":")
        offset = int((folder / "loop/offset").read_text())
        limit = int((folder / "loop/sizelimit").read_text())
        read_only = (folder / "ro").read_text().strip() == "1"
        direct = (folder / "loop/dio").read_text().strip() == "1"
    except (OSError, ValueError):
        return None
    return Loop(name, os.makedev(int(major), int(minor)), backing, offset, limit, read_only, direct)


def backing_identity(name: str) -> tuple[int, int]:
    """Device and inode of the file under a loop device, from the kernel. Needs root. Raises ``OSError``."""
    descriptor = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_INFO.size))
    finally:
        os.close(descriptor)
    encoded, inode = _INFO.unpack(status)[:2]
    # The kernel's "huge" encoding of a device number: minor in bits 0-7 and 20-31, major in bits 8-19.
    return os.makedev((encoded >> 8) & 0xFFF, (encoded & 0xFF) | ((encoded >> 12) & 0xFFF00)), inode


def bind(backing: int, offset: int, length: int, *, read_only: bool) -> Loop:
    """Show ``length`` bytes from ``offset`` of an open file as a block device. Needs root.

    Always buffered: direct I/O over QEMU's FUSE export corrupts data silently.

    Raises:
        Missing: this machine has no loop devices.
        Failed: the kernel refused.
    """
    info = _INFO.pack(0, 0, 0, offset, length, 0, 0, 0, _READ_ONLY if read_only else 0, b"", b"", b"", 0, 0)
    config = _CONFIG.pack(backing, 0, info)
    try:
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Missing(
            f"cannot use loop devices: {_CONTROL}: {error.strerror}", hint="load the kernel module: sudo modprobe loop"
        ) from error
    try:
        while True:
            name = f"loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            if _configure(name, config):
                break
    except OSError as error:
        raise Failed(f"the kernel refused a loop device: {error.strerror}", state="nothing is attached") from error
    finally:
        os.close(control)
    found = look(name)
    if found is None or found.direct or (found.offset, found.limit) != (offset, length):
        release(name)
        raise Failed(f"/dev/{name} did not come up as asked: {found}", state="nothing is attached")
    _limit_requests(name, _LARGEST_REQUEST)
    return found


def _limit_requests(name: str, size: int) -> None:
    """No request of more than so many KiB."""
    # Of a request that is written in several pieces, the kernel (seen with 6.18) calls the whole written as soon as
    # the first piece is: on a full host that loses data without a word to whoever syncs it.
    with suppress(OSError):  # in some containers it cannot be set
        (_BLOCK / name / "queue/max_sectors_kb").write_text(f"{size}\n")


def _configure(name: str, config: bytes) -> bool:
    """False if somebody else took the device first."""
    deadline = time.monotonic() + 2
    while True:
        try:
            device = os.open(f"/dev/{name}", os.O_RDWR | os.O_CLOEXEC)
            break
        except FileNotFoundError:
            # A new device: udev or devtmpfs may need a moment to make the node.
            if time.monotonic() > deadline:
                raise
            time.sleep(_STEP)
    try:
        fcntl.ioctl(device, _LOOP_CONFIGURE, config)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    finally:
        os.close(device)
    return True


def release(name: str, patience: float = 5.0) -> bool:
    """Unbind a loop device and wait until it is gone; False if somebody still holds it after ``patience`` seconds.

    While the device is open anywhere the kernel says yes and only marks it to be unbound later, so the answer of the
    call is no evidence. Needs root. Raises ``Failed``.
    """
    deadline = time.monotonic() + patience
    before = _sequence(name)
    try:
        device = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _LOOP_CLR_FD)
        finally:
            os.close(device)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise Failed(f"cannot release /dev/{name}: {error.strerror}") from error
    # Once free, somebody else may bind it at once: then its sequence number differs.
    while look(name) is not None and _sequence(name) == before:
        if time.monotonic() > deadline:
            return False
        time.sleep(_STEP)
    return True


def _sequence(name: str) -> str:
    try:
        return (_BLOCK / name / "diskseq").read_text()
    except OSError:
        return ""
