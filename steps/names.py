"""Names of disks: what is allowed, and what a person may have meant."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

from portunix_vdisk.platform.errors import BadUsage

MAX_CHARACTERS = 64
MAX_BYTES = 200
"""In UTF-8: ``NAME.qcow2.partial`` must fit into the 255 bytes of a file name."""

IMAGE_EXTENSIONS = (".vhd", ".vhdx", ".img", ".qcow2", ".dmg", ".loop")

# Device names that Windows finds in every folder, whatever the extension.
_WINDOWS_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_PUNCTUATION = "-_."
_LENGTH_SHOWN = 80


def check_name(name: str) -> None:
    """Raise ``BadUsage`` unless a disk may have this name.

    Allowed are 1 to 64 letters and digits of any script, ``-``, ``_`` and ``.``; not at the start ``-`` or ``.``, not
    at the end ``.``, no extension of an image file (``my-dev.vhd`` names a file), no device name of Windows. What is
    left is safe in file names, doit task names, URLs and shells on every system.
    """
    problem = _problem(name)
    if problem:
        raise BadUsage(
            f"'{_shown(name)}' cannot be the name of a disk: {problem}",
            hint=f"a name that works: {suggest_name(name)}",
        )


def suggest_name(name: str) -> str:
    """A valid name that resembles ``name``."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/").rstrip("/").rpartition("/")[2]
    text = "".join(character if _allowed(character) else "-" for character in text)
    text = re.sub(r"-{2,}", "-", text)[:MAX_CHARACTERS]
    while len(text.encode()) > MAX_BYTES:
        text = text[:-1]
    text = text.lstrip("-.").rstrip(".-")
    while _extension(text):
        text = text[: -len(_extension(text))].rstrip(".-")
    if text and _WINDOWS_DEVICES.fullmatch(text.split(".")[0]):
        text = "disk-" + text[: MAX_CHARACTERS - len("disk-")].rstrip(".-")
    return text if text and not _problem(text) else "my-dev"


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that ``name`` may have been meant to be, the likeliest first."""
    by_folded: dict[str, list[str]] = {}
    for candidate in known:
        by_folded.setdefault(candidate.casefold(), []).append(candidate)
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    return [candidate for folded in close for candidate in sorted(by_folded[folded])][:3]


def _problem(name: str) -> str:
    """What is wrong with a name, or nothing."""
    if not name:
        return "it is empty"
    if len(name) > MAX_CHARACTERS:
        return f"it has {len(name)} characters, {MAX_CHARACTERS} are allowed"
    wrong = next((character for character in name if not _allowed(character)), None)
    if wrong is not None:
        return f"{_described(wrong)} is not allowed; letters, digits, '-', '_' and '.' are"
    if len(name.encode()) > MAX_BYTES:
        return f"it takes {len(name.encode())} bytes in UTF-8, {MAX_BYTES} are allowed"
    if name[0] in "-.":
        return f"it starts with '{name[0]}'"
    if name[-1] == ".":
        return "it ends with '.'"
    if _extension(name):
        return f"it ends with '{_extension(name)}', so that it looks like an image file"
    if _WINDOWS_DEVICES.fullmatch(name.split(".")[0]):
        return f"'{name.split('.')[0]}' is the name of a device on Windows"
    return ""


def _allowed(character: str) -> bool:
    return character.isalnum() or character in _PUNCTUATION


def _extension(name: str) -> str:
    lower = name.lower()
    found = next((extension for extension in IMAGE_EXTENSIONS if lower.endswith(extension)), "")
    return name[len(name) - len(found) :] if found else ""


def _described(character: str) -> str:
    if character.isprintable() and not character.isspace():
        return f"'{character}'"
    if character == " ":
        return "a space"
    if unicodedata.category(character) == "Cs":
        return "a byte that is not UTF-8"
    return f"the character U+{ord(character):04X}"


def _shown(name: str) -> str:
    """A name that may hold anything, fit for a terminal."""
    text = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in name[:_LENGTH_SHOWN]
    )
    return text + "…" if len(name) > _LENGTH_SHOWN else text
