"""What a program of ours reads for the kernel: a disk in an archive, or in an image that others made. Read-only.

Such a thing is in no catalog: what is up to date is read off the system, where its file plays the part of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import Attachment, FileSystemType, Owner
from portunix_vdisk.platform.errors import Refused, VdiskError
from portunix_vdisk.steps.attaching import DetachImage, MountImage
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Member, Values
from portunix_vdisk.tasks.session import Session


@dataclass(frozen=True, slots=True)
class Served:
    """A disk that is shown out of ``file``.

    Args:
        session: the operation.
        file: what it is found by.
        label: which of the disks in it; another is another attachment.
        file_system: of its partition.
        owner: whose files are shown as the caller's, if that is known.
        wanted: the mount point; None for the usual place.
        unmount: the operation that takes it away.
    """

    session: Session
    file: Path
    label: str
    file_system: FileSystemType
    owner: Owner | None
    wanted: Path | None
    unmount: str

    @property
    def held(self) -> Attachment | None:
        """How it is attached now."""
        return self.session.platform.attachment(self.file)

    def members(self, attach: Callable[[Context], Json], what: str) -> tuple[Member, ...]:
        """Attach it, which is said as ``what``, and mount it."""
        return (
            Member("attach", what, attach, self._attached),
            Member("mount", "make the files visible", self._mount, self._mounted),
        )

    def where(self) -> dict[str, Json]:
        """Of a result: where it is now."""
        held = self.held
        return {
            "mount_point": show_path(held.mount_point) if held and held.mount_point else None,
            "device": held.device if held else None,
        }

    def _attached(self, values: Values) -> bool:
        held = self.held
        return held is not None and held.server_pid is not None and not held.problem and held.label == self.label

    def _mounted(self, values: Values) -> bool:
        held = self.held
        fits = self._attached(values) and held is not None and held.mount_point is not None
        return fits and held is not None and self.wanted in (None, held.mount_point)

    def _mount(self, ctx: Context) -> Json:
        held, mounts = self.held, self.session.home.mounts
        if held is not None and held.mount_point is not None:
            raise Refused(
                f"{show_path(self.file)} is mounted already, at {show_path(held.mount_point)}",
                hint=f"portunix vdisk {self.unmount} {show_path(held.mount_point)} first",
            )
        if self.wanted is None:
            mounts.mkdir(parents=True, exist_ok=True)
        try:
            place = self.wanted or (mounts / self.file.name).resolve()
            return MountImage(self.file, self.file_system, place, self.owner).run(ctx)
        except VdiskError as error:
            with suppress(VdiskError):
                DetachImage(self.file).run(ctx)
                error.state = "nothing is mounted"
            raise
