"""Check: the image's own structures, both copies of the partition table, the filesystem. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, ImageType, Partition
from portunix_vdisk.platform.errors import Corrupt, NotFound
from portunix_vdisk.steps.gpt_copies import copies_of, mended
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Check:
    """Look at a disk that nobody uses."""

    image: Path
    type: ImageType
    partition: Partition
    file_system: FileSystemType
    secret: bytes = field(default=b"", compare=False, repr=False)

    def run(self, ctx: Context) -> list[dict[str, Json]]:
        """Problems, each with the part that has it and what it is; none if all is well. Raises ``Refused``."""
        try:
            ctx.platform.check_image(self.image, self.type)
        except Corrupt as error:
            # What is in a damaged image may be anything; looking at it would tell nothing.
            return [{"part": "image", "what": error.what}]
        problems: list[dict[str, Json]] = []
        ctx.safe_point()
        if self.type.partitioned:
            problems += [{"part": "partition table", "what": what} for what in self._table(ctx)]
        ctx.safe_point()
        what = (self.image, self.type, self.partition, self.file_system)
        said = ctx.platform.check_filesystem(*what, secret=self.secret)
        return problems + [{"part": "filesystem", "what": line} for line in said]

    def mend_table(self, ctx: Context) -> list[str]:
        """Write a damaged copy of the partition table again, from the other one; says what was done."""
        with ctx.platform.open_image(self.image, self.type, writable=True) as disk:
            changes = mended(disk.read, disk.size)
            for offset, data in changes:
                disk.write(offset, data)
            disk.flush()
        return ["wrote the damaged copy of the partition table again"] if changes else []

    def _table(self, ctx: Context) -> list[str]:
        with ctx.platform.open_image(self.image, self.type, writable=False) as disk:
            copies = copies_of(disk.read, disk.size)
        if all(isinstance(copy, NotFound) for copy in copies):
            return []  # an MBR, or none: an image that others made
        problems = []
        for copy, name in zip(copies, ("the partition table", "its backup"), strict=True):
            if isinstance(copy, Corrupt | NotFound):
                problems.append(f"{name} is damaged: {copy.what}")
            elif self.partition not in [found.partition for found in copy]:
                problems.append(f"{name} has no partition where the disk's filesystem is")
        return problems
