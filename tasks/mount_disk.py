"""mount: attach → mount. unmount: unmount → detach. What is up to date is read off the system, never the journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from portunix_vdisk.platform.base import Attachment, AttachRequest
from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.platform.home import calling_owner
from portunix_vdisk.steps.attaching import (
    AttachImage,
    DetachImage,
    GiveFiles,
    MountImage,
    RepairAttachment,
    UnmountImage,
)
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.keyslots import read_header
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import disk_secret
from portunix_vdisk.tasks.which import attachment_of, find_disk, must_be_ready, only_mounted_disk


def mount_graph(session: Session, disk: Disk, options: Mapping[str, str]) -> Graph:
    """The graph of ``mount:NAME``. Raises ``BadUsage``."""
    wanted = session.absolute(options["mountpoint"]).resolve() if "mountpoint" in options else None
    read_only = options.get("read-only") == "true"
    live = options.get("live") == "true"
    rootless = options.get("rootless") == "true"
    if live and rootless:
        raise BadUsage("--live needs root", hint="leave --live out, or --rootless")
    give = options.get("chown") == "true" and disk.owner != calling_owner()
    if give and (read_only or rootless):
        raise BadUsage("--chown needs root, and to write", hint="leave --chown out, or --read-only and --rootless")

    def place() -> Path:
        return wanted or (session.home.mounts / disk.name).resolve()

    def fits(held: Attachment | None) -> bool:
        if held is None or held.problem or held.read_only != read_only:
            return False
        return (held.live or not live) and (held.rootless or not rootless) and not (held.mapped and give)

    def attached(values: Values) -> bool:
        return fits(attachment_of(session, disk))

    def mounted(values: Values) -> bool:
        held = attachment_of(session, disk)
        if held is None or held.mount_point is None or not fits(held):
            return False
        return wanted is None or held.mount_point == wanted

    def attach(ctx: Context) -> Json:
        must_be_ready(disk)
        held = attachment_of(session, disk)
        if held is not None and held.problem:
            secret = disk_secret(session, disk)
            RepairAttachment(disk.path, disk.type, disk.partition, disk.file_system, secret).run(ctx)
            held = attachment_of(session, disk)
        if held is not None and held.mount_point is not None:
            _must_agree(disk, held, wanted, read_only, live, rootless)
        release_image(disk.path, ctx)
        if disk.encrypted:  # it may come from anybody: not everything that it may say is for QEMU to try
            read_header(ctx, disk.path, disk.type, disk.partition)
        how = (read_only, live, disk_secret(session, disk), disk.file_system, rootless)
        return AttachImage(AttachRequest(disk.path, disk.type, disk.partition, *how)).run(ctx)

    def mount(ctx: Context) -> Json:
        held = attachment_of(session, disk)
        if held is not None and held.mount_point is not None:
            _must_agree(disk, held, wanted, read_only, live, rootless)
        if wanted is None:
            session.home.mounts.mkdir(parents=True, exist_ok=True)
        return MountImage(disk.path, disk.file_system, place(), None if give else disk.owner).run(ctx)

    def chown(ctx: Context) -> Json:
        held = attachment_of(session, disk)
        assert held is not None and held.mount_point is not None
        found = GiveFiles(disk.path, disk.owner, held.mount_point).run(ctx)
        session.writable_catalog().set_owner(disk.uuid, calling_owner())
        return found

    def is_callers(values: Values) -> bool:
        known = session.catalog.by_uuid(disk.uuid)
        return known is not None and known.owner == calling_owner()

    return Graph(
        operation="mount",
        disk=disk.name,
        doc=f"mount {disk.name}",
        locks=(disk.path,),
        members=(
            Member("attach", "show the partition as a block device", attach, attached),
            Member("mount", "make the files visible", mount, mounted),
            *([Member("chown", "give you the files of the disk's owner", chown, is_callers)] if give else []),
        ),
        result=lambda values: {
            "disk": disk_json(session, session.catalog.by_uuid(disk.uuid) or disk),
            "changed": bool(session.ran),
        },
    )


def unmount_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``unmount:NAME``. Raises ``NotFound`` or ``Refused``."""
    disk = find_disk(session, options["disk"]) if "disk" in options else only_mounted_disk(session)

    def unmounted(values: Values) -> bool:
        held = attachment_of(session, disk)
        return held is None or (held.mount_point is None and not held.problem)

    def detached(values: Values) -> bool:
        return attachment_of(session, disk) is None

    def unmount(ctx: Context) -> Json:
        held = attachment_of(session, disk)
        if held is not None and held.mount_point and session.folder.resolve().is_relative_to(held.mount_point):
            raise Refused(
                f"{show_path(held.mount_point)} is busy: your shell's folder is on it", hint="cd away and unmount again"
            )
        if held is not None and held.problem:
            # Nobody should need a password to put a disk away.
            secret = None if disk.encrypted else b""
            RepairAttachment(disk.path, disk.type, disk.partition, disk.file_system, secret).run(ctx)
        return UnmountImage(disk.path).run(ctx)

    def detach(ctx: Context) -> Json:
        return DetachImage(disk.path).run(ctx)

    return Graph(
        operation="unmount",
        disk=disk.name,
        doc=f"unmount {disk.name}",
        locks=(disk.path,),
        members=(
            Member("unmount", "write everything out and take the files away", unmount, unmounted),
            Member("detach", "take the block device away", detach, detached),
        ),
        result=lambda values: {"disk": disk_json(session, disk), "changed": bool(session.ran)},
    )


def must_not_be_attached(session: Session, disk: Disk, operation: str) -> None:
    """Refuse while the disk is mounted or attached. Raises ``Refused``."""
    held = attachment_of(session, disk)
    if held is None:
        return
    where = f"mounted at {show_path(held.mount_point)}" if held.mount_point else f"attached as {held.device}"
    raise Refused(
        f"{disk.name} is {where}: a disk in use cannot be {operation}",
        state="nothing was changed",
        hint=f"portunix vdisk unmount {disk.name}, then run the same command again",
    )


def _must_agree(disk: Disk, held: Attachment, wanted: Path | None, read_only: bool, live: bool, rootless: bool) -> None:
    assert held.mount_point is not None
    if wanted is not None and held.mount_point != wanted:
        raise Refused(
            f"{disk.name} is mounted already, at {show_path(held.mount_point)}",
            hint=f"portunix vdisk unmount {disk.name} first",
        )
    if held.read_only != read_only:
        how = "for reading only" if held.read_only else "for writing"
        raise Refused(f"{disk.name} is mounted already, {how}", hint=f"portunix vdisk unmount {disk.name} first")
    if live and not held.live:
        raise Refused(
            f"{disk.name} is mounted already, and not with --live", hint=f"portunix vdisk unmount {disk.name} first"
        )
    if rootless and not held.rootless:
        raise Refused(f"{disk.name} is mounted already, by root", hint=f"portunix vdisk unmount {disk.name} first")
