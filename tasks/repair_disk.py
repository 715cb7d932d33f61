"""repair: clear away → check → mount again. For a disk whose daemon died, or that was not taken away in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portunix_vdisk.platform.base import Attachment, AttachRequest
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.attaching import AttachImage, MountImage, RepairAttachment
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.keyslots import read_header
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import disk_secret
from portunix_vdisk.tasks.which import attachment_of, find_disk, must_be_ready


@dataclass(slots=True)
class _Repairing:
    """One repair in this process, and how the disk was mounted before."""

    session: Session
    disk: Disk
    before: Attachment | None = None

    def sound(self) -> bool:
        """Whether the disk is in use and all is well: then it must be left alone."""
        held = attachment_of(self.session, self.disk)
        return held is not None and not held.problem

    def restored(self) -> bool:
        """Whether it is mounted again, if it was."""
        held = attachment_of(self.session, self.disk)
        return self.before is None or (held is not None and held.mount_point is not None and not held.problem)

    def repair(self, ctx: Context) -> Json:
        """Clear away what is left and check image and filesystem."""
        disk = self.disk
        held = attachment_of(self.session, disk)
        self._must_be_there(held)
        must_be_ready(disk)
        release_image(disk.path, ctx)
        # Before anything is taken away that could not be brought back without it.
        secret = self._secret(ctx)
        RepairAttachment(disk.path, disk.type, disk.partition, disk.file_system, secret).run(ctx)
        self.before = held if held is not None and held.mount_point is not None else None
        return {}

    def mount(self, ctx: Context) -> Json:
        """Mount it where it was, as it was."""
        before, disk = self.before, self.disk
        assert before is not None and before.mount_point is not None
        secret = self._secret(ctx)
        live = before.live and not before.rootless
        how = (before.read_only, live, secret, disk.file_system, before.rootless)
        AttachImage(AttachRequest(disk.path, disk.type, disk.partition, *how)).run(ctx)
        return MountImage(disk.path, disk.file_system, before.mount_point, disk.owner).run(ctx)

    def _secret(self, ctx: Context) -> bytes:
        disk = self.disk
        if disk.encrypted:  # it may come from anybody: not everything that it may say is for QEMU to try
            read_header(ctx, disk.path, disk.type, disk.partition)
        return disk_secret(self.session, disk)

    def _must_be_there(self, held: Attachment | None) -> None:
        """What is mounted may be all that is left of a file without a name: it must not be taken away for nothing."""
        if held is None or held.mount_point is None or self.disk.path.exists():
            return
        raise Refused(
            f"{self.disk.name} cannot be repaired: {held.problem}",
            state=f"it stays mounted at {show_path(held.mount_point)}, where what it holds can still be read",
            hint=f"move the file back; if it was deleted, copy what you need from {show_path(held.mount_point)} first",
        )


def repair_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``repair:NAME``. Raises ``NotFound`` or ``Refused``."""
    disk = find_disk(session, options["disk"])
    work = _Repairing(session, disk)

    def sound(values: Values) -> bool:
        return work.sound()

    def restored(values: Values) -> bool:
        return work.restored()

    return Graph(
        operation="repair",
        disk=disk.name,
        doc=f"repair {disk.name}",
        locks=(disk.path,),
        members=(
            Member("check", "clear away what is left of it, check image and filesystem", work.repair, sound),
            Member("mount", "mount it again where it was", work.mount, restored),
        ),
        result=lambda values: {"disk": disk_json(session, disk), "changed": bool(session.ran)},
    )
