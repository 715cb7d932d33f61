"""convert: prepare → copy → exchange. The disk stays what it is; only the kind of its image is another."""

from __future__ import annotations

from collections.abc import Mapping

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.steps.allocate import check_size
from portunix_vdisk.steps.compact.copy import refuse_irreplaceable
from portunix_vdisk.steps.compact.survey import compact_partial_of
from portunix_vdisk.steps.convert.copy import CopyDisk
from portunix_vdisk.steps.convert.exchange import (
    Exchange,
    convert_partial_of,
    converted_path,
    in_the_way,
    note_of,
    remove_unfinished,
    settle,
)
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.compressed_copy import compressed_copy_graph, is_wanted
from portunix_vdisk.tasks.create_disk import image_type, known_disk
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import find_disk, must_be_ready


def convert_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``convert:NAME``. Raises ``NotFound``, ``Refused``, or ``BadUsage`` for what there is not."""
    disk, wanted = find_disk(session, options["disk"]), image_type(options["to"])
    must_be_ready(disk)
    _check(disk, wanted)
    if is_wanted(options):
        return compressed_copy_graph(session, disk, wanted, options["output"])
    final = disk.path if disk.type is wanted else converted_path(disk.path, disk.type, wanted)
    copy = CopyDisk(disk.path, disk.type, convert_partial_of(disk.path, wanted), wanted)

    def done(values: Values) -> bool:
        known = session.catalog.by_uuid(disk.uuid)
        return known is not None and known.type is wanted and not note_of(known.path).exists()

    def prepare(ctx: Context) -> Json:
        for noted in (disk.path, final):
            settle(session.home.catalog, disk.uuid, noted)
        if done({}):
            return {}
        must_not_be_attached(session, disk, "converted")
        if disk.path.is_symlink():
            raise Refused(
                f"{show_path(disk.path)} is a symbolic link to the image",
                state="nothing was changed",
                hint=f"put the image there itself: mv {show_path(disk.path.resolve())} {show_path(disk.path)}",
            )
        refuse_irreplaceable(disk.path, disk.path.lstat())
        if final.exists() or final.is_symlink():
            raise in_the_way(final)
        release_image(disk.path, ctx)
        # Nobody else may have it open, for what is written while it is copied would be lost.
        with ctx.platform.open_image(disk.path, disk.type, writable=True):
            pass
        remove_unfinished(disk.path, but=wanted)
        compact_partial_of(disk.path).unlink(missing_ok=True)
        result = copy.prepare(ctx)
        # The new file gets a lock of its own before it becomes the image.
        session.lock(copy.partial, f"convert:{disk.name}")
        return result

    def exchange(ctx: Context) -> Json:
        return Exchange(copy, final, session.home.catalog, disk.uuid).run(ctx)

    def clean() -> None:
        remove_unfinished(disk.path)

    return Graph(
        operation="convert",
        disk=disk.name,
        doc=f"make the image of {disk.name} a {wanted}",
        locks=(disk.path, final),
        members=(
            Member("prepare", "make an empty image beside the present one", prepare, done, clean),
            Member("copy", "copy the disk, as it is", copy.run, done),
            Member("exchange", "prove the new image and let it be the disk's", exchange, done),
        ),
        result=lambda values: {
            "disk": disk_json(session, known_disk(session, disk.name)),
            "former_path": show_path(disk.path),
            "copy": None,
            "changed": bool(session.ran),
        },
    )


def _check(disk: Disk, wanted: ImageType) -> None:
    """Refuse what the table of formats refuses. Raises ``BadUsage``."""
    if disk.type is wanted:
        return
    if not wanted.partitioned or not disk.type.partitioned:
        raise BadUsage(
            f"{disk.name} is a {disk.type} and cannot become a {wanted}: only one of the two has a partition table",
            hint=f"make another disk and copy the files: portunix vdisk create --name NEW --type {wanted}",
        )
    check_size(disk.size, wanted, disk.file_system, encrypted=disk.encrypted)
