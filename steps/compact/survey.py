"""What compacting an image would gain, found out without reading its data."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import FileSystemType, ImageMap, ImageType, Partition, Platform
from portunix_vdisk.platform.errors import Failed, VdiskError
from portunix_vdisk.platform.formats import TYPES
from portunix_vdisk.steps.free_space import Runs, common, find_used
from portunix_vdisk.steps.plain import used_inside
from portunix_vdisk.steps.source import ImageSource

LEAST_GAIN: Final = 4 << 20
LEAST_SHARE: Final = 256
"""A gain of less than LEAST_GAIN bytes, or one part in LEAST_SHARE, is not worth writing everything anew."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """Which image is compacted. ``image`` is the file itself, no symbolic link to it."""

    image: Path
    type: ImageType
    partition: Partition
    file_system: FileSystemType
    secret: bytes = field(default=b"", compare=False, repr=False)
    """The password of an encrypted disk; what is copied stays encrypted."""

    @property
    def partial(self) -> Path:
        """The new image until it takes the place of the old one."""
        return compact_partial_of(self.image)


def compact_partial_of(image: Path) -> Path:
    """Where a compaction of this image writes."""
    return image.with_name(image.name + ".compact.partial")


@dataclass(frozen=True, slots=True)
class Survey:
    """What an image holds and what of it is in use.

    ``kept`` are start and end of the data in use, ``kept_bytes`` their sum; ``gain`` is how many bytes smaller an image
    of only that would be.
    """

    map: ImageMap
    used: Runs
    kept: Runs
    kept_bytes: int
    gain: int

    @property
    def worth_it(self) -> bool:
        """Whether compacting gains enough."""
        return self.gain >= max(LEAST_GAIN, self.kept_bytes // LEAST_SHARE)


def survey(task: Compaction, platform: Platform) -> Survey:
    """Look at an image that nobody uses. Raises ``Doubt`` where its filesystem doesn't say what is in use."""
    image = platform.map_image(task.image, task.type)
    with closing(ImageSource(task.image, image)) as source:
        used = _used(task, platform, source)
        kept = list(common(source.extents, used))
        grain = TYPES[task.type].grain
        gain = (cells(source.extents, grain) - cells(kept, grain)) * grain
    return Survey(image, used, kept, sum(end - start for start, end in kept), gain)


def _used(task: Compaction, platform: Platform, source: ImageSource) -> Runs:
    if not task.secret:
        return find_used(source, task.partition, task.file_system)
    how = (task.image, task.type, task.partition, task.secret)
    with platform.open_encrypted(*how, writable=False) as plain:
        return used_inside(source, task.partition, plain, task.file_system)


def superfluous(there: ImageMap, wanted: Runs, grain: int) -> int:
    """Bytes that an image has room for although nothing of ``wanted`` is there."""
    extents = [(one.start, one.start + one.length) for one in there.extents]
    return (cells(extents, grain) - cells(list(common(extents, _widened(wanted, grain))), grain)) * grain


def cells(runs: Iterable[tuple[int, int]], grain: int) -> int:
    """How many aligned cells of ``grain`` bytes the runs touch."""
    count, last = 0, -1
    for start, end in runs:
        first = max(start // grain, last + 1)
        last = max(last, (end - 1) // grain)
        count += max(0, last + 1 - first)
    return count


def _widened(runs: Runs, grain: int) -> Runs:
    found: Runs = []
    for start, end in runs:
        first, last = start // grain * grain, -(-end // grain) * grain
        if found and found[-1][1] >= first:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def allocated(path: Path) -> int:
    """Bytes that a file takes on the host. Raises ``OSError``."""
    return path.stat().st_blocks * 512


def out_of_room(error: BaseException) -> bool:
    """True for a failure that came from a full filesystem, by whatever way it reached us."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in full
    # A block server passes on only the kind of error, and that as text.
    cause = isinstance(error.__cause__, OSError) and error.__cause__.errno in full
    return cause or (isinstance(error, VdiskError) and any(os.strerror(code) in error.what for code in full))


def no_room(task: Compaction, error: BaseException) -> Failed:
    """The failure to tell a person when the host is full."""
    return Failed(
        f"no space left for the compacted image {task.partial}",
        state="the disk itself was not touched; what was copied so far is kept",
        hint="free some space and run the same command to continue, or delete that file to give up",
    )
