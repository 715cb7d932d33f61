"""Partition: a GUID partition table with one aligned partition."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

from portunix_vdisk.platform.base import FileSystemType, ImageType, Partition
from portunix_vdisk.platform.formats import FILE_SYSTEMS, LUKS
from portunix_vdisk.steps.gpt import build_gpt
from portunix_vdisk.steps.step import Context, Json


def part_uuid(disk: str, part: str) -> str:
    """The UUID of a part of a disk ("partition", "filesystem"), always the same for the same disk."""
    return str(uuid5(UUID(disk), part))


def plan_partition(size: int, type: ImageType) -> Partition:
    """Where the partition of a disk of ``size`` bytes lies; the whole disk, where there is no table."""
    if not type.partitioned:
        return Partition(0, size)
    return build_gpt(size, "0" * 32, "0" * 32, "0" * 32, "").partition


@dataclass(frozen=True, slots=True)
class PartitionImage:
    """Write the partition table of disk ``uuid`` into an image that is still partial; nothing where it has none."""

    partial: Path
    type: ImageType
    size: int
    file_system: FileSystemType
    uuid: str
    label: str
    encrypted: bool = False

    def run(self, ctx: Context) -> Json:
        """Result: start and length of the partition in bytes. Raises ``ToolFailed``, ``OSError``."""
        if not self.type.partitioned:
            return {"start": 0, "length": self.size}
        kind = LUKS if self.encrypted else FILE_SYSTEMS[self.file_system].partition_type
        table = build_gpt(self.size, self.uuid, part_uuid(self.uuid, "partition"), kind, self.label)
        with ctx.platform.open_image(self.partial, self.type, writable=True) as image:
            image.write(0, table.primary)
            image.write(table.backup_offset, table.backup)
            image.flush()
        return {"start": table.partition.start, "length": table.partition.length}
