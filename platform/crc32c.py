"""CRC-32C (Castagnoli), fast enough in plain Python for the checksums of a whole filesystem's bitmaps.

Source: G. Castagnoli et al., "Optimization of Cyclic Redundancy-Check Codes", 1993; the reflected form of RFC 3720,
section 12.1. Long messages are folded first: a CRC is the remainder of the message, taken as a polynomial over GF(2),
so its first half may be replaced by (first half) · x^distance mod P, added to the second. That is a few shifts and
exclusive ors of whole halves, which Python does a machine word at a time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_POLYNOMIAL: Final = 0x11EDC6F41
_REFLECTED: Final = 0x82F63B78
_SHORT: Final = 512
"""Bits below which folding costs more than it saves."""


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_REFLECTED if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _table()


def crc32c(state: int, data: bytes | bytearray | memoryview) -> int:
    """The register after ``data``, from the register ``state`` before it: no inversion at either end.

    The usual CRC-32C of ``data`` is ``crc32c(0xFFFFFFFF, data) ^ 0xFFFFFFFF``.
    """
    if len(data) * 8 > _SHORT:
        message = int.from_bytes(data, "little") ^ state
        bits = len(data) * 8
        for cut, shifts in _folds(bits):
            head = message & ((1 << cut) - 1)
            message >>= cut
            bits -= cut
            for shift in shifts:
                message ^= head << shift
        data, state = message.to_bytes(bits // 8, "little"), 0
    table = _TABLE
    for byte in data:
        state = (state >> 8) ^ table[(state ^ byte) & 0xFF]
    return state


@lru_cache(maxsize=32)
def _folds(bits: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """How to shorten a message of ``bits`` bits: how much to cut off its head each time, and where to add that."""
    folds = []
    while bits > _SHORT:
        # The product is 31 bits longer than the head, and must not reach before the start of what remains.
        cut = (bits - 32) // 16 * 8
        factor = _power_of_x(bits - cut)
        folds.append((cut, tuple(bits - 2 * cut - power for power in range(32) if factor >> power & 1)))
        bits -= cut
    return tuple(folds)


def _power_of_x(exponent: int) -> int:
    """x^exponent mod P, bit n standing for x^n."""
    power, result = 2, 1
    while exponent:
        if exponent & 1:
            result = _times(result, power)
        power = _times(power, power)
        exponent >>= 1
    return result


def _times(one: int, other: int) -> int:
    product = 0
    while other:
        if other & 1:
            product ^= one
        one <<= 1
        if one >> 32:
            one ^= _POLYNOMIAL
        other >>= 1
    return product
