"""Register: the image gets its final name and the catalog calls the disk ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Register:
    """Publish the finished image of disk ``uuid`` and mark it ready.

    Both halves may have happened before: a run killed between them is finished by the next one.
    """

    catalog: Path
    uuid: str
    final: Path
    imported: bool

    def run(self, ctx: Context) -> Json:
        """Result: the image's path. Raises ``Refused`` when something else took the name meanwhile."""
        partial = durable.partial_of(self.final)
        if partial.exists():
            try:
                durable.publish(partial, self.final)
            except FileExistsError:
                raise Refused(
                    f"{self.final} appeared while the disk was being made",
                    state=f"it was not touched; the finished image is {partial}",
                    hint=f"move {self.final} away and run the same command again",
                ) from None
        with Catalog.open(self.catalog, create=True) as catalog:
            identity = durable.identity_of(self.final) if self.imported else None
            catalog.mark_ready(self.uuid, imported_identity=identity)
        return {"path": str(self.final)}
