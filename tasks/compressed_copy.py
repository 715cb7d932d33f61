"""convert --compressed: a compressed, read-only copy of a disk in a file of its own. The disk stays as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.dmg import WriteUdzo, in_the_way
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.export_output import refuse_on_itself
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session


def is_wanted(options: Mapping[str, str]) -> bool:
    """Whether a copy is asked for, and not another image for the disk. Raises ``BadUsage`` for half a request."""
    if ("compressed" in options) != ("output" in options):
        raise BadUsage(
            "--compressed writes a copy to a file of its own, which --output names",
            hint="give both, or neither to make the disk's own image another one",
        )
    return "compressed" in options


def compressed_copy_graph(session: Session, disk: Disk, wanted: ImageType, given: str) -> Graph:
    """The graph of ``convert:NAME`` for a copy at ``given``. Raises ``BadUsage`` for what there is not."""
    if wanted is not ImageType.DMG:
        raise BadUsage(
            f"a compressed {wanted} is not written here", hint="--to dmg --compressed; or: portunix vdisk export"
        )
    output = Path(os.path.normpath(session.absolute(given)))
    if given.endswith("/") or output.is_dir():
        output /= f"{disk.name}.dmg"
    step = WriteUdzo(disk.path, disk.type, output)

    def clean() -> None:
        durable.partial_of(output).unlink(missing_ok=True)

    def done(values: Values) -> bool:
        present = _files(disk.path, output)
        return present is not None and values.get("files") == present

    def copy(ctx: Context) -> Json:
        must_not_be_attached(session, disk, "copied")
        refuse_on_itself(session, disk, output)
        if os.path.lexists(output):
            raise in_the_way(output)
        if not output.parent.is_dir():
            raise Refused(f"there is no folder {show_path(output.parent)}", state="nothing was written")
        release_image(disk.path, ctx)
        # Nobody else may have it open, for what is written while it is copied would be missing.
        with ctx.platform.open_image(disk.path, disk.type, writable=True):
            pass
        step.run(ctx)
        return {"files": _files(disk.path, output)}

    return Graph(
        operation="convert",
        disk=disk.name,
        doc=f"copy {disk.name} to {show_path(output)}",
        locks=(disk.path, output),
        members=(Member("compress", "write a compressed copy, and read it back", copy, done, clean),),
        result=lambda values: {
            "disk": disk_json(session, disk),
            "former_path": show_path(disk.path),
            "copy": {"path": show_path(output), "bytes": output.stat().st_size},
            "changed": bool(session.ran),
        },
    )


def _files(*paths: Path) -> Json:
    """What tells that the disk and its copy are what they were, or None where one is missing."""
    try:
        return [list(astuple(durable.identity_of(path))) for path in paths]
    except OSError:
        return None
