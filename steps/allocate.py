"""Allocate: an empty image file under its partial name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, ImageType
from portunix_vdisk.platform.errors import BadUsage, NotFound, Refused
from portunix_vdisk.platform.formats import cell
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context, Json

SEE_FORMATS = "portunix vdisk formats shows what there is"


def check_size(size: int, type: ImageType, file_system: FileSystemType, *, encrypted: bool = False) -> None:
    """Refuse a size that this image type with this filesystem cannot have. Raises ``BadUsage``."""
    both = cell(type, file_system, encrypted=encrypted)
    if both.refused:
        how = "encrypted " if encrypted else ""
        raise BadUsage(f"there are no {how}{type} images with {file_system}: {both.refused}", hint=SEE_FORMATS)
    if size < both.smallest:
        raise BadUsage(
            f"{show_size(size)} is too small for a disk with {file_system}",
            hint=f"the smallest is {show_size(both.smallest)}",
        )
    if size > both.largest:
        raise BadUsage(
            f"{show_size(size)} is too large for a {type} image with {file_system}",
            hint=f"the largest is {show_size(both.largest)}",
        )


@dataclass(frozen=True, slots=True)
class Allocate:
    """Make an empty image of ``size`` guest bytes at ``partial``, which only we have written so far."""

    partial: Path
    type: ImageType
    size: int

    def run(self, ctx: Context) -> Json:
        """Result: device and inode of the new file. Raises ``NotFound``, ``Refused``, ``ToolFailed``."""
        folder = self.partial.parent
        if not folder.is_dir():
            raise NotFound(f"the folder {folder} does not exist", hint=f"mkdir -p {folder}")
        free = ctx.platform.free_space(folder)
        if self.size > free:
            raise Refused(
                f"no room for a disk of {show_size(self.size)}: {folder} has {show_size(free)} free",
                state="nothing was created",
                hint="choose a smaller --size, or another place with --path",
            )
        self.partial.unlink(missing_ok=True)
        ctx.platform.create_image(self.partial, self.type, self.size)
        stat = self.partial.stat()
        return {"device": stat.st_dev, "inode": stat.st_ino}
