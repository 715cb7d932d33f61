"""What kind of file a disk image is, by its content; never by QEMU's guess.

A raw disk belongs to whoever used it, first bytes and last bytes included: it may begin like a QCOW2 that names any
file of this machine as its backing file. So a file that can be read in two ways is not guessed at: the person says
which it is. What was said or found is kept in the catalog and never looked for again.

Sources: QEMU's docs/interop/qcow2.txt; Microsoft's specifications of VHD 1.0 and [MS-VHDX]; VMware's "Virtual Disk
Format 5.0"; VirtualBox' VDICore.h; Apple's UDIF trailer as described in dmg2img; PKWARE's APPNOTE.TXT.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from pathlib import PurePath

from portunix_vdisk.platform.base import SECTOR
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.foreign.filesystems import Read, content_of


class Container(StrEnum):
    """Kind of an image file."""

    VHD = "vhd"
    VHD_FIXED = "vhd-fixed"
    VHDX = "vhdx"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VDI = "vdi"
    UDIF = "udif"
    RAW = "raw"


_AT_START = (
    (0, b"QFI\xfb", Container.QCOW2),
    (0, b"vhdxfile", Container.VHDX),
    (0, b"conectix", Container.VHD),
    (0, b"KDMV", Container.VMDK),
    (64, b"\x7f\x10\xda\xbe", Container.VDI),
)
_ELSEWHERE = (
    (b"# Disk DescriptorFile", "a VMDK that is only a list of other files"),
    (b"COWD", "a VMDK of an old kind"),
)
_RAW_NAMES = {".img", ".raw", ".dd", ".iso", ".bin", ".ima"}
_OF_NAME = {
    ".qcow2": Container.QCOW2,
    ".vhdx": Container.VHDX,
    ".vmdk": Container.VMDK,
    ".vdi": Container.VDI,
} | dict.fromkeys(_RAW_NAMES, Container.RAW)
_VHD_KINDS = {2: Container.VHD_FIXED, 3: Container.VHD}
_VHD_KIND_AT = 60
_VMDK = struct.Struct("<4sIIQQQQ")
# magic, version, flags, sectors of the disk (none: other files hold it) and of a grain, offset and length of the
# description in sectors
_LONGEST_DESCRIPTION = 128
_SIGNATURE_AT, _SIGNATURE = 510, b"\x55\xaa"
_GPT = b"EFI PART"


def is_archive(read: Read) -> bool:
    """Whether the file begins as archives do, whole ones and first volumes."""
    return read(0, 4) == b"PK\x03\x04"


def container_of(read: Read, length: int, name: str, stated: str = "") -> Container:
    """What the file ``name`` of ``length`` bytes is.

    ``stated`` is what the person says that it is: ``img`` (raw bytes), ``vhd``, ``qcow2`` … Raises ``Refused`` where
    nobody says it and the file can be read in two ways, where it is something else, or of a kind that is not read.
    """
    if stated == "img":
        return Container.RAW
    stated = "udif" if stated == "dmg" else stated
    found = _candidates(read, length)
    if stated:
        fitting = [kind for kind in found if kind == stated or (kind is Container.VHD_FIXED and stated == "vhd")]
        if not fitting:
            raise Refused(f"{name} is no {stated}", state="nothing was changed")
        return fitting[0]
    named = _OF_NAME.get(PurePath(name).suffix.lower())
    if named is not None and found and named not in found:
        found.append(named)
    if len(found) > 1:
        kinds = sorted({"img" if kind is Container.RAW else str(kind) for kind in found})
        raise Refused(
            f"{name} can be read as {' and as '.join(kinds)}: a guess could be wrong, and opening it dangerous",
            state="nothing was changed",
            hint=f"if you know what it is, say it: --image-type {' or --image-type '.join(kinds)} (img: raw bytes)",
        )
    return found[0] if found else Container.RAW


def _candidates(read: Read, length: int) -> list[Container]:
    """Everything that the file can be read as; empty if it has no sign of anything."""
    start = read(0, 2 * SECTOR)
    for magic, what in _ELSEWHERE:
        if start.startswith(magic):
            raise Refused(
                f"this is {what}",
                state="nothing was opened",
                hint="convert it on the machine that made it: qemu-img convert -O qcow2 FILE NEW-FILE",
            )
    if start.startswith(b"KDMV"):
        _refuse_part(read, start)
    end = read(length - SECTOR, SECTOR) if length >= SECTOR else b""
    found = [kind for offset, magic, kind in _AT_START if start[offset:].startswith(magic)]
    if end.startswith(b"conectix"):
        # A dynamic one has the same footer at both ends.
        found = [kind for kind in found if kind is not Container.VHD] + [_vhd(end)]
    if end.startswith(b"koly"):
        found.append(Container.UDIF)
    partitioned = start[_SIGNATURE_AT:].startswith(_SIGNATURE) or start[SECTOR:].startswith(_GPT)
    # These may be a raw disk with something behind it, and the disk in it may have any beginning.
    if (partitioned or content_of(read, 0, length)) and found not in ([Container.VHD_FIXED], [Container.UDIF]):
        found.append(Container.RAW)
    return found


def _refuse_part(read: Read, start: bytes) -> None:
    """Refuse a VMDK that is not the whole disk."""
    _, _, _, capacity, _, offset, length = _VMDK.unpack_from(start.ljust(_VMDK.size, b"\0"))
    description = read(offset * SECTOR, min(length, _LONGEST_DESCRIPTION) * SECTOR) if offset < 1 << 48 else b""
    if not capacity or length > _LONGEST_DESCRIPTION or b"parentFileNameHint" in description:
        raise Refused(
            "this VMDK does not hold its disk alone: it names other files",
            state="none of them was opened",
            hint="make it one file: qemu-img convert -f vmdk -O qcow2 FILE NEW-FILE",
        )


def _vhd(footer: bytes) -> Container:
    kind = int.from_bytes(footer[_VHD_KIND_AT : _VHD_KIND_AT + 4], "big")
    if kind not in _VHD_KINDS:
        raise Refused(
            "this VHD only holds changes to another file",
            state="neither was opened",
            hint="make it one file where it comes from, then bring that",
        )
    return _VHD_KINDS[kind]
