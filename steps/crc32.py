"""CRC-32 of long data out of those of its parts, and of zeros that nobody reads.

Source: zlib's ``crc32_combine``; the polynomial is that of ISO 3309, bits reversed.
"""

from __future__ import annotations

from functools import cache
from typing import Final

_POLYNOMIAL: Final = 0xEDB88320


def joined(first: int, second: int, length: int) -> int:
    """The CRC-32 of some bytes and ``length`` more behind them, out of that of each."""
    return _product(first, _power(length)) ^ second


def of_zeros(length: int) -> int:
    """The CRC-32 of so many zeros, without looking at any."""
    return _product(0xFFFFFFFF, _power(length)) ^ 0xFFFFFFFF


@cache
def _power(length: int) -> int:
    """x to the power of 8 times ``length``, modulo the polynomial of CRC-32."""
    result, square = 1 << 31, 1 << 23
    while length:
        if length & 1:
            result = _product(result, square)
        square = _product(square, square)
        length >>= 1
    return result


def _product(one: int, other: int) -> int:
    """The product of two polynomials modulo that of CRC-32."""
    result = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            result ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return result
