"""Remove: the image file of a disk and its catalog entry. The only step that deletes data."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.steps import durable
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.compact.survey import compact_partial_of
from portunix_vdisk.steps.convert.exchange import remove_unfinished, settle
from portunix_vdisk.steps.resize.filesystem import changes_of
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class RemoveDisk:
    """Delete the image of disk ``uuid``, then forget the disk. Killed between the two, a second run finishes."""

    catalog: Path
    uuid: str
    image: Path

    def run(self, ctx: Context) -> Json:
        """Result: whether there was an image. Raises ``OSError``."""
        with suppress(OSError):
            settle(self.catalog, self.uuid, self.image)
        remove_unfinished(self.image)
        changes_of(self.image).unlink(missing_ok=True)
        there = self.image.exists()
        if there:
            self.image.unlink()
            durable.fsync_folder(self.image.parent)
        compact_partial_of(Path(os.path.realpath(self.image))).unlink(missing_ok=True)
        with Catalog.open(self.catalog, create=True) as catalog:
            catalog.remove(self.uuid)
        return {"image": there}
