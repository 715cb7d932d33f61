"""The UDIF parser on trailers and tables that lie, in a property list that is right or bent."""

from __future__ import annotations

import plistlib
from contextlib import suppress

from script import Script

from portunix_vdisk.platform.base import SECTOR
from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.foreign.udif import EMPTY, RUN, TABLE, TRAILER, Kind, check_data, read_udif

_STORED = 3 * SECTOR
_RUNS = (
    (Kind.RAW, 0, 0, 2, 0, 2 * SECTOR),
    (Kind.ZERO, 0, 2, 4, 0, 0),
    (Kind.ZLIB, 0, 6, 2, 2 * SECTOR, 300),
    (Kind.END, 0, 8, 0, _STORED, 0),
)


def run(data: bytes) -> None:
    script = Script(data)
    table = [b"mish", 1, 0, 8, 0, 8, 0, 2, 32, b"", len(_RUNS)]
    runs = [list(each) for each in _RUNS]
    trailer: list[bytes | int] = [b"koly", 4, SECTOR, 1, 0, 0, _STORED, 0, 0, 1, 1, bytes(16), 0, 0, b""]
    trailer += [_STORED, 0, 2, 32, b"", 1, 8]
    twice, bends = False, []
    while script.left:
        match script.below(6):
            case 0 | 1:
                each, at = script.pick(runs), script.below(6)
                each[at] = script.strange(each[at]) & (0xFFFFFFFF if at < 2 else (1 << 64) - 1)
            case 2:
                at = script.pick((2, 3, 4))
                table[at] = script.strange(int(table[at])) & ((1 << 64) - 1)
            case 3:
                at = script.pick((5, 6, 12, 13, 15, 16, 21))
                old = trailer[at]
                assert isinstance(old, int)
                trailer[at] = script.strange(old) & (0xFFFFFFFF if at in (12, 13) else (1 << 64) - 1)
            case 4:
                bends.append((script.number(2), script.take(4)))
            case _:
                twice = not twice
    packed = TABLE.pack(*table) + b"".join(RUN.pack(*each) for each in runs)
    listed = bytearray(plistlib.dumps({"resource-fork": {"blkx": [{"Data": packed}] * (1 + twice)}}))
    for at, piece in bends:
        listed[at % len(listed) : at % len(listed) + len(piece)] = piece
    trailer[16] = trailer[16] or len(listed)
    image = bytes(_STORED) + listed + TRAILER.pack(*trailer)

    def read(offset: int, length: int) -> bytes:
        assert offset >= 0 and length >= 0, "read before the beginning"
        assert offset + length <= len(image), "read behind the end"
        return image[offset : offset + length]

    with suppress(VdiskError):
        found = read_udif(read, len(image))
        here = 0
        for each in found.runs:
            assert each.start == here, "runs that overlap, or leave gaps"
            here += each.count
            inside = each.offset >= 0 and each.offset + each.length <= len(image)
            assert each.kind in EMPTY or inside, "data behind the end of the file"
        assert here * SECTOR == found.size
        check_data(read, found, lambda done, total: None)
