"""Copy the disk in an image that others made into one of ours, verified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import MIB, SECTOR, BlockImage, ForeignType, ImageType, Platform
from portunix_vdisk.platform.errors import Corrupt, Refused, VdiskError
from portunix_vdisk.steps.foreign.backing import Layer
from portunix_vdisk.steps.foreign.filesystems import Read
from portunix_vdisk.steps.foreign.udif import ALWAYS_READ, Udif, check_data, read_udif
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context, Json

_PIECE: Final = 4 << 20
_ZEROS: Final = bytes(_PIECE)


@contextmanager
def opened(
    platform: Platform, image: Path, kind: ImageType | ForeignType, layers: Sequence[Layer] = ()
) -> Iterator[BlockImage]:
    """The disk inside somebody else's image, for reading; ``layers`` are the files below it.

    Raises ``Corrupt`` or ``Refused`` where it makes no sense.
    """
    if kind is ForeignType.UDIF:
        with _bytes_of(image) as (read, length):
            udif = read_udif(read, length)
        with platform.open_foreign(image, kind) as disk:
            _must_be_readable(disk, udif)
            yield disk
    elif isinstance(kind, ForeignType):
        with platform.open_foreign(image, kind, below=[(layer.path, layer.type) for layer in layers]) as disk:
            yield disk
    else:
        with platform.open_image(image, kind, writable=False) as disk:
            yield disk


def _must_be_readable(disk: BlockImage, udif: Udif) -> None:
    """Look whether this machine's QEMU knows how the image is compressed: it says so only where it is read."""
    if disk.size != udif.size:
        raise Corrupt(f"this UDIF is damaged: QEMU finds {disk.size} bytes in it, its tables {udif.size}")
    rare = {run.kind: run for run in udif.runs if run.kind not in ALWAYS_READ}
    for kind, run in rare.items():
        try:
            disk.read(run.start * SECTOR, SECTOR)
        except VdiskError as error:
            raise Refused(
                f"the QEMU of this machine cannot read images that are compressed by {kind.name}",
                state="nothing was changed",
                hint="dmg2img FILE NEW-FILE.img may; or on a Mac: hdiutil convert FILE -format UDZO -o NEW-FILE",
            ) from error


@contextmanager
def _bytes_of(image: Path) -> Iterator[tuple[Read, int]]:
    with image.open("rb") as file:
        descriptor = file.fileno()
        yield (lambda offset, length: os.pread(descriptor, length, offset)), os.fstat(descriptor).st_size


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
    layers: tuple[Layer, ...] = ()
    """The files below ``image``, where it only holds changes to them."""

    def prepare(self, ctx: Context) -> None:
        """Make an empty image of the right size. Raises ``Refused`` where there is no room for what the old one has."""
        used = sum(path.stat().st_blocks * 512 for path in (self.image, *(layer.path for layer in self.layers)))
        free = ctx.platform.free_space(self.partial.parent)
        if free < used:
            raise Refused(
                f"{show_size(used)} are needed in {self.partial.parent}, {show_size(free)} are free",
                state="nothing was changed",
                hint="free some space, choose another place with --path, or use the image where it is: --in-place",
            )
        with opened(ctx.platform, self.image, self.kind, self.layers) as disk:
            ctx.platform.create_image(self.partial, self.type, rounded(disk.size))

    def run(self, ctx: Context) -> Json:
        """Result: bytes written, and bytes that were there already."""
        if self.kind is ForeignType.UDIF:
            # QEMU does not look at it, and runs that are not compressed have no other.
            with _bytes_of(self.image) as (read, length):
                check_data(read, read_udif(read, length), lambda done, total: ctx.safe_point())
        written = reused = 0
        digest = hashlib.sha256()
        with opened(ctx.platform, self.image, self.kind, self.layers) as source:
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
