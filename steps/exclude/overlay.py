"""Making the copy of a disk without what can be made again: an overlay, mounted for a moment, trimmed and taken apart.

The image is only read. The overlay lies in a private folder under a name that tells whose it is, so that the next run
finds what a killed one left. As soon as it is finished it loses its name, and goes with the process.
"""

from __future__ import annotations

import os
import stat
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import (
    FileIdentity,
    FileSystemType,
    ImageMap,
    ImageType,
    OverlayMap,
    Owner,
    Partition,
)
from portunix_vdisk.platform.errors import Corrupt, Failed, Refused, VdiskError
from portunix_vdisk.steps.durable import identity_of
from portunix_vdisk.steps.exclude.remove import LeftOut, Remover
from portunix_vdisk.steps.exclude.rules import Rules
from portunix_vdisk.steps.exclude.view import OverlaySource, used_in_overlay
from portunix_vdisk.steps.free_space import Runs
from portunix_vdisk.steps.resize.filesystem import give_up
from portunix_vdisk.steps.step import Context

_ENOUGH: Final = 1 << 30
"""Bytes: only the filesystem's own tables are written, and those of a disk with a million files are not larger."""
_TIGHT: Final = 1 << 20
"""Bytes: where no more are left, that is why writing failed."""
_PATIENCE: Final = 5.0
"""Seconds in which an indexer that looks into everything that is mounted goes away again."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The disk of which a copy is made, and where temporary files may lie: the first folder with enough room."""

    image: Path
    type: ImageType
    size: int
    partition: Partition
    file_system: FileSystemType
    places: tuple[Path, ...]
    owner: Owner | None = None
    """Whose disk it is: what is theirs is the caller's to leave out."""

    @property
    def folder_name(self) -> str:
        """Name of the private folder in one of the places. Raises ``OSError``."""
        return _folder_name(self.image)


class Cleaned:
    """A finished overlay: the disk as it is without what the rules leave out. Closing it is the end of it."""

    def __init__(self, subject: Subject, image: ImageMap, overlay: OverlayMap, file: int, view: str) -> None:
        self._subject, self._image, self._overlay, self._file = subject, image, overlay, file
        self._view = f"{view}#{uuid.uuid4().hex}"
        self._used: Runs | None = None
        whole = self._open()
        self._used = used_in_overlay(whole, subject.partition, subject.file_system)
        self.identity = whole.identity
        whole.close()

    def open(self) -> OverlaySource:
        """The disk as something to read; it may be opened several times."""
        return self._open()

    def _open(self) -> OverlaySource:
        return OverlaySource(self._subject.image, self._image, self._overlay, self._file, self._view, self._used)

    def holds_for(self, image: FileIdentity) -> bool:
        """Whether it is of the image as it is now."""
        return self.identity.file == image

    def close(self) -> None:
        """Give it up."""
        with suppress(OSError):
            os.close(self._file)


def clean_copy(subject: Subject, rules: Rules, view: str, ctx: Context) -> tuple[Cleaned, LeftOut]:
    """Make the copy. What an earlier run left is taken away first.

    Raises:
        Refused: no folder for temporary files can be used, or something keeps looking into the mounted copy.
        Failed: no room for the overlay, or what it is made of can't be read.
        Missing: no right to mount.
    """
    take_away_leftovers(subject, ctx)
    platform = ctx.platform
    before = identity_of(subject.image)
    image = platform.map_image(subject.image, subject.type)
    if image.size != subject.size:
        raise Corrupt(f"{subject.image} is {image.size} bytes large, but should be {subject.size}")
    folder = _private_folder(subject, ctx)
    try:
        file, left_out = _fill(folder, subject, rules, ctx)
        try:
            cleaned = Cleaned(subject, image, platform.map_overlay(folder / "overlay"), file, view)
            if not cleaned.holds_for(before):
                raise Failed(f"{subject.image} was changed while it was read", hint="run the same command again")
        except BaseException:
            os.close(file)
            raise
    except (Failed, Corrupt) as error:
        if platform.free_space(folder) < _TIGHT:
            raise Failed(
                f"there is no room for temporary files in {folder.parent}",
                state=f"{subject.image} was not changed",
                hint="free some space, or set TMPDIR to a folder with room",
            ) from error
        # What is damaged is the disk's own; but what was said about its device is over.
        otherwise = "export it without --exclude-cache, or check it: mount and unmount it once"
        if isinstance(error, Corrupt):
            raise Corrupt(error.what, f"{subject.image} was not changed", otherwise) from error
        raise Failed(error.what, f"{subject.image} was not changed", error.hint or otherwise) from error
    finally:
        _give_up(folder, ctx)
    return cleaned, left_out


def _fill(folder: Path, subject: Subject, rules: Rules, ctx: Context) -> tuple[int, LeftOut]:
    """Make the overlay in ``folder`` and take it apart again; descriptor of its file, and what was left out."""
    platform, overlay, point = ctx.platform, folder / "overlay", folder / "disk"
    platform.make_overlay(overlay, subject.size)
    platform.attach_overlay(overlay, subject.image, subject.type, subject.partition)
    platform.mount(overlay, subject.file_system, point, owner=subject.owner)
    top = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        left_out = Remover(top, rules, ctx).run()
    finally:
        os.close(top)
    platform.trim(overlay)
    _detach(overlay, ctx)
    return os.open(overlay, os.O_RDONLY | os.O_CLOEXEC), left_out


def take_away_leftovers(subject: Subject, ctx: Context) -> None:
    """Take away what a killed run left: its mount, its block device, its files."""
    release_image(subject.image, ctx)
    for place in subject.places:
        if _is_ours(place / subject.folder_name):
            _remove(place / subject.folder_name)


def release_image(image: Path, ctx: Context) -> None:
    """Take away what a killed run left on an image, for that keeps it open. Whoever calls has the image's lock."""
    give_up(image, ctx)
    try:
        name = _folder_name(image)
    except OSError:
        return
    for held in list(ctx.platform.attachments()):
        folder = held.image.parent
        if held.image.name == "overlay" and folder.name == name and _is_ours(folder):
            ctx.platform.detach(held.image)
            _remove(folder)


def _folder_name(image: Path) -> str:
    about = image.stat()
    return f"portunix-vdisk-overlay-{about.st_dev}-{about.st_ino}"


def _private_folder(subject: Subject, ctx: Context) -> Path:
    """A new folder that only we can look into, where there is most likely enough room."""
    rooms = {place: ctx.platform.free_space(place) for place in subject.places if place.is_dir()}
    spacious = [place for place, room in rooms.items() if room >= _ENOUGH]
    others = sorted((place for place in rooms if place not in spacious), key=lambda place: -rooms[place])
    why = "there is none"
    for place in [*spacious, *others]:
        folder = place / subject.folder_name
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            why = f"{folder}: {(error.strerror or str(error)).lower()}"
            continue
        return folder
    raise Refused(
        f"no folder for temporary files can be used: {why}",
        state="nothing was written",
        hint="free some space, or set TMPDIR to a folder with room",
    )


def _detach(overlay: Path, ctx: Context) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            ctx.platform.detach(overlay)
            return
        except Refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _give_up(folder: Path, ctx: Context) -> None:
    """Take everything away, in whatever state it is."""
    overlay = folder / "overlay"
    # The first attempt may stop at telling that something could not be written, which matters no more.
    for last in (False, True):
        try:
            if ctx.platform.attachment(overlay) is not None:
                _detach(overlay, ctx)
            break
        except VdiskError as error:
            if last:
                ctx.warn(f"the overlay {overlay} could not be taken away; the next export does it: {error.what}")
                return
    _remove(folder)


def _is_ours(folder: Path) -> bool:
    try:
        about = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()


def _remove(folder: Path) -> None:
    """Never anything but what we put there: whatever is in the way of that is not ours."""
    with suppress(OSError):
        (folder / "overlay").unlink(missing_ok=True)
    for one in (folder / "disk", folder):
        with suppress(OSError):
            one.rmdir()
