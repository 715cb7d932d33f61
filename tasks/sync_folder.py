"""sync: one member, which plans by looking and does only what is missing."""

from __future__ import annotations

from collections.abc import Mapping

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.steps.sync.mirror import Mirror
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import disk_at


def sync_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``sync:NAME``, NAME being the disk on which the target lies. Raises ``Refused``."""
    target = session.absolute(options["target"])
    there = disk_at(session, target)
    if there is None or there[1].mount_point is None:
        raise Refused(
            f"{show_path(target)} is not on a mounted disk",
            state="nothing was written",
            hint="mount the disk first: portunix vdisk mount NAME; portunix vdisk list shows where disks are mounted",
        )
    disk, held = there
    if held.problem:
        raise Refused(f"{disk.name}: {held.problem}", hint=f"portunix vdisk mount {disk.name} repairs it")
    if held.read_only:
        raise Refused(f"{disk.name} is mounted for reading only", hint=f"portunix vdisk unmount {disk.name} first")
    step = Mirror(
        source=session.absolute(options["source"]),
        target=target,
        root=there[1].mount_point,
        delete=options.get("delete") == "true",
        dry_run=options.get("dry-run") == "true",
        force=options.get("force") == "true",
        file_system=disk.file_system,
    )

    def mirror(ctx: Context) -> Json:
        result = step.run(ctx)
        assert isinstance(result, Mapping)
        return {"disk": disk.name, **result}

    def never(values: Values) -> bool:
        return False

    return Graph(
        operation="sync",
        disk=disk.name,
        doc=f"mirror {show_path(step.source)} to {show_path(target)}",
        locks=(disk.path,),
        members=(Member("mirror", "copy what changed", mirror, never),),
        result=lambda values: dict(values["mirror"]),
    )
