"""The VHD parser on files whose structures lie, with their checksums made right again."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

from script import Script

from portunix_vdisk.platform import vhd
from portunix_vdisk.platform.errors import VdiskError

_BLOCK = 2 << 20
_HEADER_AT, _TABLE_AT = 512, 1536
_ENTRIES = 6


def _footer(kind: int, size: int) -> bytearray:
    fixed = (b"conectix", 2, 0x10000, 512 if kind == 3 else (1 << 64) - 1, 0, b"qemu", 5, b"Wi2k", size, size, 0)
    return bytearray(struct.pack(">8sIIQI4sI4sQQIII16s", *fixed, kind, 0, bytes(16)).ljust(512, b"\0"))


def _dynamic() -> bytearray:
    header = struct.pack(">8sQQIIII", b"cxsparse", (1 << 64) - 1, _TABLE_AT, 0x10000, _ENTRIES, _BLOCK, 0)
    table = struct.pack(f">{_ENTRIES}I", 4, 0xFFFFFFFF, 4 + 4097, *[0xFFFFFFFF] * 3).ljust(512, b"\xff")
    return _footer(3, _ENTRIES * _BLOCK) + header.ljust(1024, b"\0") + table


def _fix(data: bytearray, start: int, length: int, at: int) -> None:
    """Make a checksum right: the complement of the sum of all bytes."""
    if len(data) >= start + length:
        data[start + at : start + at + 4] = bytes(4)
        total = ~sum(data[start : start + length]) & 0xFFFFFFFF
        data[start + at : start + at + 4] = total.to_bytes(4, "big")


def run(data: bytes) -> None:
    script = Script(data)
    dynamic = script.below(4) != 3
    made = _dynamic() if dynamic else _footer(2, 4 << 20)
    blocks = 2 * (_BLOCK + 512) if dynamic else 4 << 20
    tail = bytearray(made[:512])
    raw, sparse = bool(script.below(8) == 7), 0
    fields = [(8, 4), (12, 4), (16, 8), (48, 8), (60, 4)]
    if dynamic:
        fields += [(512 + 16, 8), (512 + 24, 4), (512 + 28, 4), (512 + 32, 4)]
        fields += [(_TABLE_AT + 4 * number, 4) for number in range(_ENTRIES)]
    while script.left:
        match script.below(5):
            case 0 | 1:
                at, size = script.pick(fields)
                near = int.from_bytes(made[at : at + size], "big")
                made[at : at + size] = (script.strange(near) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
            case 2:
                at = script.below(len(made))
                made[at : at + 1] = script.take(1)
            case 3:
                blocks = script.pick((0, 1, 512, blocks - 1, blocks + 1, blocks + 512))
            case _:
                sparse = script.pick((0, 1 << 20, 1 << 30, 1 << 35, 1 << 40))
    if not raw:
        if dynamic:
            _fix(made, _HEADER_AT, 1024, 36)
        _fix(made, 0, 512, 64)
        tail = bytearray(made[:512])
    descriptor = os.memfd_create("vhd")
    try:
        if dynamic:
            os.pwrite(descriptor, made, 0)
        os.ftruncate(descriptor, max(0, (len(made) if dynamic else 0) + blocks + sparse))
        os.pwrite(descriptor, tail, os.fstat(descriptor).st_size)
        with suppress(VdiskError):
            layout = vhd.inspect(descriptor)
            runs = vhd.data_of(descriptor)
            assert all(0 <= start < end <= layout.size for start, end in runs), "data outside the disk"
            assert list(runs) == sorted(runs), "data that is not in order"
            assert layout.end <= os.fstat(descriptor).st_size, "the file ends before the disk"
    finally:
        os.close(descriptor)
