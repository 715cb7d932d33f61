"""Copy the disk in an image that others made into one of ours, verified."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import MIB, BlockImage, ForeignType, ImageType, Platform
from portunix_vdisk.platform.errors import Corrupt, Refused
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context, Json

_PIECE: Final = 4 << 20
_ZEROS: Final = bytes(_PIECE)


def opened(platform: Platform, image: Path, kind: ImageType | ForeignType) -> AbstractContextManager[BlockImage]:
    """The disk inside somebody else's image, for reading."""
    if isinstance(kind, ForeignType):
        return platform.open_foreign(image, kind)
    return platform.open_image(image, kind, writable=False)


def rounded(size: int) -> int:
    """Bytes of a disk of ours that holds one of ``size`` bytes."""
    return -(-size // MIB) * MIB


@dataclass(frozen=True, slots=True)
class CopyForeign:
    """Fill the image ``partial`` of a new disk with the content of the disk in ``image``.

    What an earlier run has written is compared and left alone. At the end all is read back: raises ``Corrupt`` where
    it is not what was read from ``image``.
    """

    image: Path
    kind: ImageType | ForeignType
    partial: Path
    type: ImageType

    def prepare(self, ctx: Context) -> None:
        """Make an empty image of the right size. Raises ``Refused`` where there is no room for what the old one has."""
        used = self.image.stat().st_blocks * 512
        free = ctx.platform.free_space(self.partial.parent)
        if free < used:
            raise Refused(
                f"{show_size(used)} are needed in {self.partial.parent}, {show_size(free)} are free",
                state="nothing was changed",
                hint="free some space, choose another place with --path, or use the image where it is: --in-place",
            )
        with opened(ctx.platform, self.image, self.kind) as disk:
            ctx.platform.create_image(self.partial, self.type, rounded(disk.size))

    def run(self, ctx: Context) -> Json:
        """Result: bytes written, and bytes that were there already."""
        written = reused = 0
        digest = hashlib.sha256()
        with opened(ctx.platform, self.image, self.kind) as source:
            size = source.size
            with ctx.platform.open_image(self.partial, self.type, writable=True) as target:
                for offset in range(0, size, _PIECE):
                    ctx.safe_point()
                    length = min(_PIECE, size - offset)
                    data = source.read(offset, length)
                    digest.update(data)
                    if target.read(offset, length) == data:
                        reused += length if data != _ZEROS[:length] else 0
                    else:
                        target.write(offset, data)
                        written += length
                    ctx.update(offset + length, 2 * size)
        self._prove(ctx, size, digest.digest())
        return {"written_bytes": written, "reused_bytes": reused}

    def _prove(self, ctx: Context, size: int, expected: bytes) -> None:
        digest = hashlib.sha256()
        with ctx.platform.open_image(self.partial, self.type, writable=False) as target:
            for offset in range(0, size, _PIECE):
                ctx.safe_point()
                digest.update(target.read(offset, min(_PIECE, size - offset)))
                ctx.update(size + offset, 2 * size)
        if digest.digest() != expected:
            raise Corrupt(
                f"{self.partial} does not hold what was written to it",
                state=f"{self.image} was not changed",
                hint="the medium may be failing; run the same command again, or choose another place with --path",
            )
