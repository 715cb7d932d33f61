"""What kind of medium a folder lies on."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from portunix_vdisk.platform.linux.mounts import MountEntry, mounted

_FAT = frozenset({"vfat", "msdos", "fuse.fusefat", "fusefat"})
FAT_LARGEST = (4 << 30) - 1
"""Largest file on FAT, in bytes: its length has 32 bits."""
_SYS = Path("/sys/dev/block")


def largest_file(folder: Path) -> int | None:
    """Largest file that can be made at ``folder``, in bytes; None where there is no limit that matters."""
    entry = _entry(folder)
    return FAT_LARGEST if entry is not None and entry.kind in _FAT else None


def is_removable(folder: Path) -> bool:
    """Whether ``folder`` lies on a medium that can be taken out: a stick, a card, a disk on USB."""
    entry = _entry(folder)
    if entry is None:
        return False
    device = entry.device
    try:
        status = Path(entry.source).stat()
        if stat.S_ISBLK(status.st_mode):  # of FUSE the device number means nothing, its source does
            device = status.st_rdev
        place = (_SYS / f"{os.major(device)}:{os.minor(device)}").resolve(strict=True)
    except OSError:
        return False
    if "/usb" in str(place):
        return True
    whole = place.parent if (place / "partition").exists() else place
    try:
        return (whole / "removable").read_text().strip() == "1"
    except OSError:
        return False


def _entry(folder: Path) -> MountEntry | None:
    try:
        device = folder.stat().st_dev
    except OSError:
        return None
    return next((entry for entry in reversed(mounted()) if entry.device == device), None)
