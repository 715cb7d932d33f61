"""check: look → repair. Damage that stays is exit code 5, with everything that was found."""

from __future__ import annotations

from collections.abc import Mapping

from portunix_vdisk.platform.errors import Corrupt, Incomplete, Refused
from portunix_vdisk.steps.attaching import DetachImage
from portunix_vdisk.steps.check import Check
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import disk_json
from portunix_vdisk.tasks.graph import Graph, Member
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import disk_secret
from portunix_vdisk.tasks.which import attachment_of, find_disk, must_be_ready


def check_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``check:NAME``. Raises ``NotFound`` or ``Refused``."""
    disk = find_disk(session, options["disk"])
    must_be_ready(disk)
    found: list[dict[str, Json]] = []
    repaired: list[str] = []

    def step() -> Check:
        secret = disk_secret(session, disk) if disk.encrypted else b""
        return Check(disk.path, disk.type, disk.partition, disk.file_system, secret)

    def result() -> dict[str, Json]:
        return {"disk": disk_json(session, disk), "problems": list(found), "repaired": list(repaired)}

    def look(ctx: Context) -> Json:
        must_not_be_attached(session, disk, "checked")
        release_image(disk.path, ctx)
        found[:] = step().run(ctx)
        if found and "repair" not in options:
            raise _damaged(disk.name, found, result(), f"portunix vdisk check {disk.name} --repair")
        return {}

    def repair(ctx: Context) -> Json:
        text = f"Repair {disk.name} in place? Copy {disk.path} first if you may want to try something else."
        if not ctx.confirm("repair", text):
            raise Refused(f"{disk.name} was not repaired", state="nothing was changed")
        check = step()
        if any(problem["part"] == "partition table" for problem in found):
            repaired.extend(check.mend_table(ctx))
        if any(problem["part"] != "partition table" for problem in found):
            what = (disk.path, disk.type, disk.partition, disk.file_system)
            try:
                repaired.extend(ctx.platform.repair(*what, secret=check.secret))
            except Corrupt as error:
                ctx.warn(error.what)
            if attachment_of(session, disk) is not None:
                DetachImage(disk.path).run(ctx)
        found[:] = check.run(ctx)
        if found:
            raise _damaged(disk.name, found, result(), "copy the image first, then use the filesystem's own tools")
        return {}

    return Graph(
        operation="check",
        disk=disk.name,
        doc=f"check image, partition table and filesystem of {disk.name}",
        locks=(disk.path,),
        members=(
            Member("look", "check everything, without changing anything", look, lambda values: False),
            Member("repair", "repair what can be without loss, and check again", repair, lambda values: not found),
        ),
        result=lambda values: result(),
    )


def _damaged(name: str, found: list[dict[str, Json]], result: Mapping[str, Json], hint: str) -> Incomplete:
    parts = sorted({str(problem["part"]) for problem in found})
    first = next(str(problem["what"]) for problem in found)
    more = f" (and {len(found) - 1} more lines with --json)" if len(found) > 1 else ""
    done = result["repaired"]
    state = f"done: {'; '.join(map(str, done))}" if isinstance(done, list) and done else "nothing was changed"
    return Incomplete(f"{name} is damaged, in its {' and '.join(parts)}: {first}{more}", state, hint, result)
