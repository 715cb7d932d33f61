"""The header of a QCOW2 file, checked as the hostile input that it may be.

Source: QEMU's ``docs/interop/qcow2.txt``. Numbers are big-endian.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from portunix_vdisk.platform.base import SECTOR
from portunix_vdisk.platform.errors import Corrupt, Refused

_MAGIC = b"QFI\xfb"
# magic, version, offset and length of the backing file's name, bits of a cluster, bytes of the disk, encryption,
# entries and offset of the first-level table, offset and clusters of the reference counts, number and offset of
# snapshots; from version 3 on: incompatible, compatible and autoclear features, order of counts, length of the header
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_FEATURES = struct.Struct(">QQQII")
_DIRTY, _CORRUPT, _EXTERNAL, _COMPRESSION, _EXTENDED = (1 << bit for bit in range(5))
_ENTRY = 8
_SMALLEST_CLUSTER, _LARGEST_CLUSTER = 9, 21


@dataclass(frozen=True, slots=True)
class Qcow2Layout:
    """What a QCOW2 file says about itself: bytes of the disk, of a cluster, kind of encryption (0: none), snapshots."""

    size: int
    cluster: int
    encryption: int
    snapshots: int


def inspect(descriptor: int, *, alone: bool = True) -> Qcow2Layout:
    """Check the header of an open QCOW2 file; it may have a backing file where it need not stand ``alone``.

    Raises:
        Corrupt: it makes no sense, or QEMU has marked the file as damaged.
        Refused: the disk lies in other files too (a backing file or an external data file), which nobody asked for.
    """
    header = os.pread(descriptor, _HEADER.size + _FEATURES.size, 0)
    length = os.fstat(descriptor).st_size
    if len(header) < _HEADER.size or header[:4] != _MAGIC:
        raise Corrupt("this is no QCOW2 file, or its header is damaged", hint="restore it from a copy or an export")
    (_, version, backing, _, bits, size, encryption, entries, table, *_, snapshots, _) = _HEADER.unpack_from(header)
    if version not in (2, 3):
        raise Refused(f"this is a QCOW2 file of version {version}; 2 and 3 are known")
    if backing and alone:
        raise Refused(
            "this QCOW2 file only holds changes to another file, its backing file",
            state="neither was opened",
            hint="if you trust it, import FILE --allow-backing makes one disk of both; or make it one file: "
            "qemu-img convert -O qcow2 FILE NEW-FILE",
        )
    if version == 3:
        if len(header) < _HEADER.size + _FEATURES.size:
            raise Corrupt("the header of the QCOW2 file is cut off")
        _check_features(_FEATURES.unpack_from(header, _HEADER.size)[0])
    if not _SMALLEST_CLUSTER <= bits <= _LARGEST_CLUSTER:
        raise Corrupt(f"the header of the QCOW2 file makes no sense: clusters of 2^{bits} bytes")
    cluster = 1 << bits
    if not size or size % SECTOR or entries * (cluster // _ENTRY) * cluster < size:
        raise Corrupt(f"the header of the QCOW2 file makes no sense: {entries} tables for a disk of {size} bytes")
    if table % cluster or table < cluster or table + entries * _ENTRY > length:
        raise Corrupt("the table of the QCOW2 file lies outside of it: it is truncated or damaged")
    return Qcow2Layout(size, cluster, encryption, snapshots)


def _check_features(incompatible: int) -> None:
    if incompatible & _CORRUPT:
        raise Corrupt(
            "QEMU has marked the QCOW2 file as damaged",
            hint="copy it first, then: qemu-img check -r all FILE; or restore it from a copy or an export",
        )
    if incompatible & _EXTERNAL:
        raise Refused("the data of this QCOW2 file lies in another file", state="neither was opened")
    if incompatible & ~(_DIRTY | _CORRUPT | _EXTERNAL | _COMPRESSION | _EXTENDED):
        raise Refused(f"this QCOW2 file needs features that nobody here knows (0x{incompatible:x})")
