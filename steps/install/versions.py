"""Whether a version that is there is one that was asked for, in each language's own way of asking.

npm: https://docs.npmjs.com/cli/configuring-npm/package-json#dependencies (one range, no ``||``); pip: PEP 440.
"""

from __future__ import annotations

import re
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from portunix_vdisk.steps.install.tool import fits

_RANGE: Final = re.compile(r"(\^|~|>=|<=|>|<|=)?v?(\d+|x|X)(?:\.(\d+|x|X))?(?:\.(\d+|x|X))?([-+].*)?")
_NUMBERS: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)([-+].*)?")


def meets(language: str, version: str, wanted: str) -> bool:
    """Whether a package's version is a wanted one; any is, if nobody wanted another, or wanted it by a tag."""
    if not wanted or not re.search(r"\d", wanted):
        return True
    if language == "pip":
        return _meets_specifier(version, wanted)
    if language == "npm":
        return _meets_range(version, wanted)
    return fits(version.removeprefix("v"), wanted.removeprefix("v"))


def _meets_specifier(version: str, wanted: str) -> bool:
    if wanted[0] not in "<>=~!":
        return fits(version, wanted)
    try:
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False


def _meets_range(version: str, wanted: str) -> bool:
    there, asked = _NUMBERS.fullmatch(version), _RANGE.fullmatch(wanted)
    if there is None or asked is None:
        return version == wanted.lstrip("v=")
    found = tuple(int(one) for one in there.groups()[:3])
    sign, *texts, more = asked.groups()
    numbers = [int(one) for one in texts if one and one not in "xX"]
    if more and more[0] == "-":  # a version before its release is met by itself alone, and by what is later
        return version == wanted.lstrip("v=") if sign in (None, "=") else _later(sign, found, numbers)
    low = (*numbers, 0, 0, 0)[:3]
    if sign in ("^", "~", "=", None):
        return low <= found < _end(sign, numbers)
    return _compared(sign, found, numbers, low)


def _later(sign: str, found: tuple[int, ...], numbers: list[int]) -> bool:
    low = (*numbers, 0, 0, 0)[:3]
    return low <= found < _end(sign, numbers) if sign in ("^", "~") else _compared(sign, found, numbers, low)


def _compared(sign: str, found: tuple[int, ...], numbers: list[int], low: tuple[int, ...]) -> bool:
    """``>1`` means from 2.0.0 on, ``<=1`` everything up to the last 1.x."""
    if sign == ">=":
        return found >= low
    if sign == "<":
        return found < low
    end = _end("=", numbers)
    return found >= end if sign == ">" else found < end


def _end(sign: str | None, numbers: list[int]) -> tuple[int, ...]:
    """The first version behind a range."""
    if not numbers:
        return (1 << 62, 0, 0)
    at = len(numbers) - 1
    if sign == "^":
        at = next((place for place, number in enumerate(numbers) if number), at)
    elif sign == "~":
        at = min(1, at)
    return (*numbers[:at], numbers[at] + 1, 0, 0)[:3]
