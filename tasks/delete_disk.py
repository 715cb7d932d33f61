"""delete: asks, then removes the image and the catalog entry."""

from __future__ import annotations

from collections.abc import Mapping

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.disk import DiskState
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.remove import RemoveDisk
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.create_disk import undo_unfinished
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import find_disk


def delete_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``delete:NAME``. Raises ``NotFound``."""
    disk = find_disk(session, options["disk"])

    def gone(values: Values) -> bool:
        return session.catalog.by_uuid(disk.uuid) is None

    def remove(ctx: Context) -> Json:
        must_not_be_attached(session, disk, "deleted")
        text = f"Delete {disk.name} and its image {show_path(disk.path)} ({show_size(disk.size)}) for ever?"
        if not ctx.confirm("delete", text):
            raise Refused(f"{disk.name} was not deleted", state="nothing was changed")
        release_image(disk.path, ctx)
        (session.home.blocks / disk.uuid).unlink(missing_ok=True)
        if disk.state is DiskState.READY:
            return RemoveDisk(session.home.catalog, disk.uuid, disk.path).run(ctx)
        return {"image": undo_unfinished(session, disk.name)}

    return Graph(
        operation="delete",
        disk=disk.name,
        doc=f"delete {disk.name} and its image; asks first",
        locks=(disk.path,),
        members=(Member("remove", "delete the image and forget the disk", remove, gone),),
        result=lambda values: {"name": disk.name, "path": show_path(disk.path), "deleted": True},
    )
