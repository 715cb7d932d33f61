"""Exporting a disk that is mounted: what forbids it, and the snapshot that is read in its place."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.live import SnapshotSource
from portunix_vdisk.steps.source import Source
from portunix_vdisk.steps.step import Context
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import attachment_of


@dataclass(slots=True)
class LiveExport:
    """An export of a disk that may be in use.

    ``waited``: seconds that programs which wrote to it had to wait, when a snapshot was taken.
    """

    session: Session
    disk: Disk
    output: Path
    waited: float | None = None

    def check(self) -> None:
        """Refuse where it cannot be exported as it is attached now. Raises ``Refused``."""
        held = attachment_of(self.session, self.disk)
        if held is None:
            return
        if held.problem:
            raise Refused(
                f"{self.disk.name} cannot be exported: {held.problem}",
                state="what was exported so far is kept",
                hint=f"portunix vdisk unmount {self.disk.name}, which also repairs it, then run the same command again",
            )
        if held.mount_point is None:
            must_not_be_attached(self.session, self.disk, "exported")
        elif not held.read_only:
            self._refuse_own(held.mount_point)

    def source(self, ctx: Context) -> Source | None:
        """The snapshot to read; None for a disk that nobody can write to: its image is read."""
        held = attachment_of(self.session, self.disk)
        if held is None or held.read_only:
            return None
        self.check()
        rooms = (self.disk.path.parent, self.session.home.vdisk, Path("/var/tmp"))
        source = SnapshotSource(ctx, self.disk.path, self.disk.size, rooms)
        try:
            source.narrow(self.disk.partition, self.disk.file_system)
        except BaseException:
            source.close()
            raise
        self.waited = max(source.waited, self.waited or 0)
        ctx.info(
            f"{self.disk.name} is mounted and stays so: exporting it as it is now "
            f"(programs that write to it waited {source.waited * 1000:.0f} ms)"
        )
        return source

    def _refuse_own(self, point: Path) -> None:
        """What we write ourselves must not lie on the disk: it would wait for itself while the disk is held still."""
        home = self.session.home
        places = {
            "the archive": self.output.parent,
            "our own state": home.vdisk,
            "our own log": home.logs,
            "the folder for temporary files": Path(tempfile.gettempdir()),
        }
        device = point.stat().st_dev
        for what, place in places.items():
            # Btrfs gives each of its subvolumes a number of its own.
            if _device_of(place) == device or Path(os.path.realpath(place)).is_relative_to(point):
                raise Refused(
                    f"{what} ({show_path(place)}) lies on {self.disk.name} itself, which has to be held still",
                    state="nothing was changed",
                    hint=f"portunix vdisk unmount {self.disk.name}, or let it lie elsewhere",
                )


def _device_of(place: Path) -> int | None:
    """The filesystem on which ``place`` lies, or would."""
    real = Path(os.path.realpath(place))
    for folder in (real, *real.parents):
        try:
            return folder.stat().st_dev
        except OSError:
            continue
    return None
