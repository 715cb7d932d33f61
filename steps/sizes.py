"""Sizes as people write and read them."""

from __future__ import annotations

import re
from fractions import Fraction

from portunix_vdisk.platform.base import MIB
from portunix_vdisk.platform.errors import BadUsage

LARGEST = 64 << 40
"""64 TiB: no image type allows more (VHDX; VHD stops at 2 TiB)."""

_HINT = "write a number and a unit, for example 20GB (20 x 10^9 bytes) or 20GiB or 20G (20 x 2^30 bytes)"
_SIZE = re.compile(
    r"\s*([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})\s*(?:([KMGTP])(IB|I|B)?|B|BYTES?)?\s*", re.I | re.A
)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def parse_size(text: str) -> int:
    """Bytes that a text means, rounded up to a whole MiB.

    ``GB`` is 10^9, ``GiB`` and ``G`` are 2^30 (``K``, ``M``, ``T``, ``P`` likewise), ``B`` or nothing is bytes; upper
    and lower case are equal, decimals are allowed. Raises ``BadUsage``.
    """
    shown = text[:40].encode("ascii", "backslashreplace").decode("ascii")
    if re.match(r"\s*-\s*[0-9.]", text):
        raise BadUsage(f"the size '{shown}' is negative", hint=_HINT)
    if re.fullmatch(r"\s*[0-9]+,[0-9]+\s*[A-Za-z]*\s*", text):
        raise BadUsage(f"'{shown}' is not a size: decimals are written with a point", hint=_HINT)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise BadUsage(f"'{shown}' is not a size" if text.strip() else "the size is empty", hint=_HINT)
    number, letter, rest = match.groups()
    factor = 1
    if letter:
        factor = (1000 if (rest or "").upper() == "B" else 1024) ** _POWERS[letter.upper()]
    exact = Fraction("0" + number.rstrip(".")) * factor
    if exact <= 0:
        raise BadUsage(f"the size '{shown}' is zero", hint=_HINT)
    if exact > LARGEST:
        raise BadUsage(f"the size '{shown}' is larger than any disk can be ({LARGEST >> 40} TiB)", hint=_HINT)
    return -(-exact // MIB) * MIB


def show_size(size: float) -> str:
    """Bytes for people, in decimal units: ``512 B``, ``1.5 MB``, ``20.0 GB``."""
    if size < 0:
        return "-" + show_size(-size)
    if size < 999.5:
        return f"{round(size)} B"
    value = float(size)
    for unit in _UNITS:
        value /= 1000
        if value < 999.95:  # anything above would be shown as 1000.0
            return f"{value:.1f} {unit}"
    return f"{value:.1f} {_UNITS[-1]}"


def show_rate(bytes_per_second: float) -> str:
    """A throughput for people: ``118.2 MB/s``."""
    return f"{show_size(bytes_per_second)}/s"
