"""Encrypt: the header of an encrypted partition, in an image that is still partial."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.steps.luks import HEADER_BYTES, parse_luks
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class EncryptPartition:
    """Make a key and lock it with the password ``secret``.

    Whatever is in the partition is lost. The header is made in ``scratch``, a sparse file, so that neither a block
    device nor root is needed.
    """

    partial: Path
    type: ImageType
    partition: Partition
    scratch: Path
    secret: bytes = field(compare=False, repr=False)

    def run(self, ctx: Context) -> Json:
        """Result: bytes before the content. Raises ``BadUsage``, ``Missing``, ``ToolFailed``, ``OSError``."""
        self.scratch.unlink(missing_ok=True)
        try:
            with self.scratch.open("xb") as file:
                file.truncate(self.partition.length)
            ctx.platform.luks.make(self.scratch, self.secret)
            with self.scratch.open("rb") as made:
                payload = parse_luks(made.read(HEADER_BYTES)).payload
                made.seek(0)
                header = made.read(payload)
        finally:
            self.scratch.unlink(missing_ok=True)
        with ctx.platform.open_image(self.partial, self.type, writable=True) as image:
            # The magic last: what a power cut leaves is a whole header, or none.
            image.write(self.partition.start + 512, header[512:])
            image.flush()
            image.write(self.partition.start, header[:512])
            image.flush()
        return {"payload": payload}
