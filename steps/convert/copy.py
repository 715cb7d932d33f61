"""Copy: all of a disk into an image of any type, verified."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import MIB, ImageType
from portunix_vdisk.platform.errors import Corrupt, Failed, Refused, VdiskError
from portunix_vdisk.steps.compact.copy import Copying
from portunix_vdisk.steps.compact.replace import first_difference, sync_file
from portunix_vdisk.steps.compact.survey import allocated, out_of_room
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.source import ImageSource
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class CopyDisk:
    """Make ``partial`` an image of the type ``wanted`` with the disk that is in ``image``, byte for byte.

    An encrypted disk stays encrypted, by the same key. Nothing is copied for what reads as zeros. What an earlier run
    has written is compared and left alone where it is right. Nobody may write to ``image`` meanwhile.
    """

    image: Path
    type: ImageType
    partial: Path
    wanted: ImageType

    def prepare(self, ctx: Context) -> Json:
        """Make an empty image, or keep the one that an earlier run has begun to fill.

        Result: bytes that will be copied. Raises ``Refused`` where the disk cannot be copied or there is no room.
        """
        found = ctx.platform.map_image(self.image, self.type)
        if found.snapshots:
            raise Refused(
                f"QEMU keeps snapshots in {self.image} ({found.snapshots}), which a copy of the disk would not have",
                state="nothing was changed",
                hint=f"list them with: qemu-img snapshot -l {self.image}; once they are deleted, run it again",
            )
        if found.size % MIB:
            raise Refused(
                f"the disk in {self.image} has {found.size} bytes, and images made here have a whole number of MiB",
                state="nothing was changed",
                hint=f"portunix vdisk import {self.image} --type {self.wanted} --name ANOTHER-NAME makes a larger copy",
            )
        needed = sum(extent.length for extent in found.extents)
        begun = self._begun(found.size, ctx)
        there = allocated(self.partial) if os.path.lexists(self.partial) else 0
        free = ctx.platform.free_space(self.partial.parent) + there
        if free < needed:
            raise Refused(
                f"{show_size(needed)} are needed in {self.partial.parent}, {show_size(free)} are free",
                state="nothing was changed",
                hint="free some space and run the same command again",
            )
        if not begun:
            self._make(found.size, ctx)
        return {"needed_bytes": needed}

    def run(self, ctx: Context) -> Json:
        """Result: bytes written, and bytes found right. Raises ``Failed``; what was written is kept."""
        try:
            found = ctx.platform.map_image(self.image, self.type)
            with closing(ImageSource(self.image, found)) as source:
                there = ctx.platform.map_image(self.partial, self.wanted)
                with ctx.platform.open_image(self.partial, self.wanted, writable=True) as image:
                    written, right = Copying(source, there, image).run(ctx)
                source.check()
        except (VdiskError, OSError) as error:
            if out_of_room(error):
                raise Failed(
                    f"no space left for {self.partial}",
                    state=f"{self.image} was not touched; what was copied so far is kept",
                    hint="free some space and run the same command to continue, or delete that file to give up",
                ) from error
            raise
        return {"written_bytes": written, "reused_bytes": right}

    def prove(self, ctx: Context) -> None:
        """Read all of the new image back. Raises ``Corrupt`` where it is not the disk, ``Failed`` if that changed."""
        sync_file(self.partial)
        ctx.platform.check_image(self.partial, self.wanted)
        found, made = (
            ctx.platform.map_image(self.image, self.type),
            ctx.platform.map_image(self.partial, self.wanted),
        )
        with closing(ImageSource(self.image, found)) as old, closing(ImageSource(self.partial, made)) as new:
            offset = 0 if new.size != old.size else first_difference(old, new, ctx)
            new.check()
            old.check()
        if offset is not None:
            raise Corrupt(
                f"{self.partial}, read back, differs from the disk near byte {offset}",
                state=f"{self.image} was not touched",
                hint="check the medium that holds the images; the same command compares and writes again",
            )

    def _begun(self, size: int, ctx: Context) -> bool:
        """Whether there is an image that is worth going on with."""
        if not os.path.lexists(self.partial):
            return False
        if not stat.S_ISREG(self.partial.lstat().st_mode):
            raise Refused(f"{self.partial} is in the way", state="nothing was changed", hint="move it away")
        try:
            return ctx.platform.map_image(self.partial, self.wanted).size == size
        except VdiskError:
            return False

    def _make(self, size: int, ctx: Context) -> None:
        self.partial.unlink(missing_ok=True)
        # Nobody may read the copy who may not read the original.
        os.close(os.open(self.partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        ctx.platform.create_image(self.partial, self.wanted, size)
        about, made = self.image.stat(), self.partial.stat()
        if (about.st_uid, about.st_gid) != (made.st_uid, made.st_gid):
            os.chown(self.partial, about.st_uid, about.st_gid)
