"""What is exported to where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.commit import is_update, next_of
from portunix_vdisk.steps.archive.documents import DiskFacts
from portunix_vdisk.steps.archive.packing import LEVEL
from portunix_vdisk.steps.durable import partial_of
from portunix_vdisk.steps.free_space import used_extents
from portunix_vdisk.steps.source import ImageSource, Source
from portunix_vdisk.steps.step import Context


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported to where, and how.

    Args:
        image: the image file; ``source`` may open something else in its place: a snapshot, an overlay.
        encrypted: whether a new archive is; its password is on the keyring.
        level: zstd's level; None to find it by measuring how fast the output takes what is written.
        volume_size: size of the volumes of a new archive in bytes; None for one file.
        keep: how many generations an updated archive keeps.
        base: a new archive holds only what this one doesn't.
        blocks: file in which this machine remembers the blocks of the disk's chunks; None to do without.
        elsewhere: the command that goes on with it on another medium, where this one turns out to be too small.
    """

    image: Path
    output: Path
    disk: DiskFacts
    encrypted: bool = False
    level: int | None = LEVEL
    volume_size: int | None = None
    keep: int = 2
    base: Path | None = None
    blocks: Path | None = field(default=None, compare=False)
    elsewhere: str = field(default="", compare=False)
    source: Callable[[Context], Source | None] | None = field(default=None, compare=False, repr=False)

    @property
    def is_update(self) -> bool:
        """Whether this adds a generation to an archive that exists."""
        return is_update(self.output)

    @property
    def unfinished(self) -> Path:
        """The file that is written until the archive, or its new generation, is whole."""
        return next_of(self.output) if self.is_update else partial_of(self.output)

    def open_source(self, ctx: Context) -> Source:
        """What is read: of a filesystem that tells, only what is in use. Raises ``Failed``, ``Corrupt``."""
        if self.source is not None and (found := self.source(ctx)) is not None:
            return found
        image = ctx.platform.map_image(self.image, self.disk.type)
        if image.size != self.disk.size:
            raise Corrupt(f"{self.image} is {image.size} bytes large, but should be {self.disk.size}")
        whole = ImageSource(self.image, image)
        used = used_extents(whole, self.disk.partition, self.disk.file_system)
        if used is None:
            return whole
        whole.close()
        return ImageSource(self.image, image, used)
