"""What the damaged places of an imported disk mean for its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import FileSystemType, ImageType, Platform
from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.archive.documents import DiskFacts
from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.ext4_files import Findings, files_on
from portunix_vdisk.steps.step import Json

_LISTED: Final = 1000
"""Files that are named one by one."""


def damaged_files(
    platform: Platform,
    image: Path,
    type: ImageType,
    disk: DiskFacts,
    places: Sequence[tuple[int, int]],
    poll: Callable[[], None],
) -> dict[str, Json]:
    """Which files lie on these places (start and end on the disk, ascending), as an import reports it.

    Where that can't be told, ``unknown`` says why. Never raises for what is on the disk.
    """
    found, unknown = Findings(), ""
    try:
        found = _find(platform, image, type, disk, places, poll)
    except Doubt as doubt:
        unknown = doubt.why
    except VdiskError as error:
        unknown = error.what
    first, end = disk.partition.start, disk.partition.start + disk.partition.length
    if any(start < first or stop > end for start, stop in places):
        found.structures.insert(0, "partition table")
    return {
        "damaged_bytes": sum(stop - start for start, stop in places),
        "files": [os.fsdecode(path) for path in found.files[:_LISTED]],
        "file_count": found.file_count,
        "structures": list(found.structures[:_LISTED]),
        "unknown": unknown or None,
    }


def _find(
    platform: Platform,
    image: Path,
    type: ImageType,
    disk: DiskFacts,
    places: Sequence[tuple[int, int]],
    poll: Callable[[], None],
) -> Findings:
    if disk.file_system != FileSystemType.EXT4:
        raise Doubt(f"files of {disk.file_system} cannot be told yet")
    start, length = disk.partition.start, disk.partition.length
    inside = [(max(0, first - start), min(length, end - start)) for first, end in places]
    with platform.open_image(image, type, writable=False) as opened:

        def read(offset: int, size: int) -> bytearray:
            return bytearray(opened.read(start + offset, size))

        return files_on(read, length, [run for run in inside if run[0] < run[1]], poll)
