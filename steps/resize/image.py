"""The image file of a disk that becomes larger or smaller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class ResizeImage:
    """Make the disk in an image one of ``size`` bytes. What is cut off is lost."""

    image: Path
    type: ImageType
    size: int

    def run(self, ctx: Context) -> Json:
        """Result: the size. Raises ``Refused``, ``Corrupt``, ``ToolFailed``."""
        ctx.platform.sizing.image(self.image, self.type, self.size)
        return {"size": self.size}
