"""compact: release → prepare → copy → replace → mount. At the end the disk is mounted as it was before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from portunix_vdisk.platform.base import Attachment, AttachRequest, FileSystemType
from portunix_vdisk.platform.errors import Missing, Refused, VdiskError
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.attaching import (
    AttachImage,
    DetachImage,
    MountImage,
    RepairAttachment,
    TrimImage,
    UnmountImage,
)
from portunix_vdisk.steps.compact.copy import CopyUsed, PrepareCopy, cannot_tell
from portunix_vdisk.steps.compact.replace import Replace, is_pending
from portunix_vdisk.steps.compact.survey import Compaction, allocated, survey
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.keyslots import check_password
from portunix_vdisk.steps.source import SourceIdentity
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import disk_secret
from portunix_vdisk.tasks.which import attachment_of, find_disk, must_be_ready, only_mounted_disk


@dataclass(slots=True)
class _Compacting:
    """One compaction in this process: how the disk was mounted before, and why nothing was done."""

    session: Session
    disk: Disk
    task: Compaction
    mounted: Attachment | None = None
    skipped: str = ""
    trimmed: int = 0
    seen: dict[SourceIdentity, bool] = field(default_factory=dict)

    # what is the case -----------------------------------------------------------------------------------

    def released(self) -> bool:
        """Whether the disk may be worked on, or won't be."""
        return bool(self.skipped) or attachment_of(self.session, self.disk) is None

    def settled(self) -> bool:
        """Whether there is nothing to gain. Looks again only when the image has changed."""
        if self.skipped:
            return True
        if self.disk.encrypted and not self.task.secret:
            return False
        try:
            if attachment_of(self.session, self.disk) is not None:
                return False
            must_be_ready(self.disk)
            state = SourceIdentity(durable.identity_of(self.task.image))
            if state not in self.seen:
                self.seen[state] = not survey(self.task, self.session.platform).worth_it
        except (VdiskError, OSError, Doubt):
            return False
        return self.seen[state]

    def recorded(self) -> bool:
        """Whether the catalog knows of every swap."""
        known = self.session.catalog.by_uuid(self.disk.uuid)
        return known is None or not is_pending(known)

    def restored(self) -> bool:
        """Whether the disk is mounted again, if it was."""
        held = attachment_of(self.session, self.disk) if self.mounted is not None else None
        return self.mounted is None or (held is not None and held.mount_point is not None)

    # what is done ---------------------------------------------------------------------------------------

    def release(self, ctx: Context) -> Json:
        """Unmount and detach. A disk in use stays mounted, and gives back what it can."""
        self._refuse_other()
        release_image(self.disk.path, ctx)
        held = attachment_of(self.session, self.disk)
        if held is None:
            return {}
        # Before anything is taken away that could not be brought back without it.
        self._unlock(ctx)
        self.session.at_end(self._restore)
        if held.problem:
            self._repair(ctx)
            self.mounted = held if held.mount_point is not None else None
            return {}
        if held.mount_point is not None:
            folder = self.session.folder.resolve()
            try:
                if folder.is_relative_to(held.mount_point):
                    raise Refused(f"{show_path(held.mount_point)} is in use by your shell, whose folder is on it")
                UnmountImage(self.disk.path).run(ctx)
            except Refused as busy:
                return self._leave(busy, ctx)
            self.mounted = held
        DetachImage(self.disk.path).run(ctx)
        return {}

    def prepare(self, ctx: Context) -> Json:
        """See :class:`PrepareCopy`; a journal that waits to be replayed is replayed before."""
        self._refuse_other()
        if self.disk.encrypted:
            self._unlock(ctx)
            if self.settled():
                return {}
        try:
            survey(self.task, ctx.platform)
        except Doubt as doubt:
            if not doubt.unclean:
                raise cannot_tell(self.task.image, doubt) from doubt
            ctx.info(f"{doubt.why}; doing that first")
            try:
                self._repair(ctx)
            except Missing as missing:
                raise cannot_tell(self.task.image, doubt) from missing
            if self.settled():
                return {}
        result = PrepareCopy(self.task).run(ctx)
        # The new file gets a lock of its own before it becomes the image.
        self.session.lock(self.task.partial, f"compact:{self.disk.name}")
        return result

    def mount(self, ctx: Context) -> Json:
        """Mount the disk as it was mounted before."""
        held, disk = self.mounted, self.disk
        assert held is not None
        assert held.mount_point is not None
        fs = disk.file_system if held.rootless else None
        how = (held.read_only, held.live, self.task.secret, fs, held.rootless)
        AttachImage(AttachRequest(disk.path, disk.type, disk.partition, *how)).run(ctx)
        return MountImage(disk.path, disk.file_system, held.mount_point, disk.owner).run(ctx)

    def _unlock(self, ctx: Context) -> None:
        """Get the password of an encrypted disk. Raises ``WrongPassword``, and ``Refused`` if nobody can be asked."""
        if not self.disk.encrypted or self.task.secret:
            return
        disk, secret = self.disk, disk_secret(self.session, self.disk)
        scratch = self.session.home.run / f"{disk.uuid}.header"
        check_password(ctx, disk.path, disk.type, disk.partition, scratch, secret)
        self.task = replace(self.task, secret=secret)

    def _repair(self, ctx: Context) -> None:
        disk = self.disk
        RepairAttachment(disk.path, disk.type, disk.partition, disk.file_system, self.task.secret).run(ctx)

    def _leave(self, busy: Refused, ctx: Context) -> Json:
        try:
            before = _allocated(self.task.image)
            TrimImage(self.disk.path).run(ctx)
            # The kernel counts all that is free, also what the image had no room for anyway.
            self.trimmed = max(0, before - _allocated(self.task.image))
        except VdiskError as error:
            ctx.warn(error.what)
        self.skipped = busy.what
        return {"skipped": self.skipped, "trimmed_bytes": self.trimmed}

    def _refuse_other(self) -> None:
        must_be_ready(self.disk)
        if self.disk.file_system is not FileSystemType.EXT4:
            raise Refused(
                f"{self.disk.name} has {self.disk.file_system}, and compact understands only ext4 so far",
                state="nothing was changed",
            )

    def _restore(self) -> None:
        """After a failure: the disk is mounted again where it was."""
        if self.restored():
            return
        try:
            self.mount(self.session.context(f"compact:{self.disk.name}:mount"))
        except VdiskError as error:
            self.session.log("warning", f"{self.disk.name} could not be mounted again: {error.what}")


def compact_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``compact:NAME``. Raises ``NotFound`` or ``Refused``."""
    disk = find_disk(session, options["disk"]) if "disk" in options else only_mounted_disk(session)
    work = _Compacting(session, disk, Compaction(disk.path.resolve(), disk.type, disk.partition, disk.file_system))

    def settled(values: Values) -> bool:
        return work.settled()

    def clean() -> None:
        work.task.partial.unlink(missing_ok=True)

    def result(values: Mapping[str, Values]) -> Json:
        sizes = values.get("replace", {}) if f"compact:{disk.name}:replace" in session.ran else {}
        before, after = sizes.get("before_bytes"), sizes.get("after_bytes")
        now = _allocated(work.task.image)
        was = before if isinstance(before, int) else now
        now = after if isinstance(after, int) else now
        return {
            "disk": disk_json(session, disk),
            "before_bytes": was,
            "after_bytes": now,
            "saved_bytes": max(0, was - now),
            "trimmed_bytes": work.trimmed,
            "skipped": work.skipped or None,
            "changed": isinstance(before, int) or work.trimmed > 0,
        }

    return Graph(
        operation="compact",
        disk=disk.name,
        doc=f"make the image of {disk.name} as small as what is on it",
        locks=(disk.path,),
        members=(
            Member("release", "unmount, to mount again at the end", work.release, lambda values: work.released()),
            Member("prepare", "find out what is in use, make an empty image", work.prepare, settled, clean),
            Member("copy", "copy what is in use", lambda ctx: CopyUsed(work.task).run(ctx), settled),
            Member(
                "replace",
                "prove the new image and put it in the place of the old one",
                lambda ctx: Replace(work.task, session.home.catalog, disk.uuid).run(ctx),
                lambda values: work.settled() and work.recorded(),
            ),
            Member("mount", "mount it again where it was", work.mount, lambda values: work.restored()),
        ),
        result=result,
    )


def _allocated(image: Path) -> int:
    try:
        return allocated(image)
    except OSError:
        return 0
