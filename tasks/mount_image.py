"""mount of an image file that is no disk of the catalog.

One that can be written to is entered into the catalog, as ``import --in-place`` does, and mounted then: whoever
unmounts it, or finds it damaged after a crash, needs to know where its filesystem lies. Of the other kinds the
filesystem is shown read-only, by a program that reads this file alone, and nothing is kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, ForeignType, ImageType
from portunix_vdisk.platform.errors import BadUsage, NotFound
from portunix_vdisk.steps.attaching import AttachServed, DetachImage
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.foreign.volumes import volumes_of
from portunix_vdisk.steps.names import suggest_name
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.archives import count_of
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.foreign_image import Examined, examine, is_image
from portunix_vdisk.tasks.graph import Graph, Values
from portunix_vdisk.tasks.import_image import adopted, entering
from portunix_vdisk.tasks.mount_disk import mount_graph
from portunix_vdisk.tasks.served import Served
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import find_disk

_OF_IMAGES = ("partition", "image-type")
_OF_DISKS = ("live", "rootless", "chown")


def mount_anything_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``mount``, of a disk or of an image file. Raises ``VdiskError``."""
    try:
        disk = find_disk(session, options["disk"])
    except NotFound:
        image = Path(os.path.realpath(session.absolute(options["disk"])))
        if not image.is_file() or not is_image(image, certain=any(name in options for name in _OF_IMAGES)):
            raise
        return _image_graph(session, image, options)
    _must_agree(session, disk, options)
    return mount_graph(session, disk, options)


def _must_agree(session: Session, disk: Disk, options: Mapping[str, str]) -> None:
    """What was said when an image became a disk may be said again, and nothing else. Raises ``BadUsage``."""
    wrong = options.get("image-type", disk.type) not in (disk.type, "img" if disk.type is ImageType.LOOP else disk.type)
    if "partition" in options:
        read = partial(session.platform.peek, disk.path, disk.type)
        number = count_of(options["partition"], "partition")
        there = {volume.number: volume.partition for volume in volumes_of(read, disk.size)}
        wrong = wrong or there.get(number) != disk.partition
    if wrong:
        raise BadUsage(f"{disk.name} is a disk already, of another type or partition", "nothing was changed")


def _image_graph(session: Session, image: Path, options: Mapping[str, str]) -> Graph:
    found = examine(session, image, options)
    if isinstance(found.kind, ForeignType):
        return _served_graph(session, image, found, options)
    disk = adopted(session, image, options)
    graph = mount_graph(session, disk, options)
    entered = entering(session, disk)

    def enter(ctx: Context) -> Json:
        result = entered.run(ctx)
        ctx.info(f"{show_path(image)} is the disk {disk.name} from now on")
        return result

    return replace(graph, members=(replace(entered, run=enter), *graph.members))


def _served_graph(session: Session, image: Path, found: Examined, options: Mapping[str, str]) -> Graph:
    for name in _OF_DISKS:
        if name in options:
            raise BadUsage(f"--{name} is not for images of the kind {found.kind}", "nothing was changed")
    wanted = session.absolute(options["mountpoint"]).resolve() if "mountpoint" in options else None
    label, file_system = f"partition {found.volume.number}", FileSystemType(found.volume.file_system)
    served = Served(session, image, label, file_system, found.owner, wanted, "unmount")

    def attach(ctx: Context) -> Json:
        held = served.held
        if held is not None and (held.problem or held.mount_point is None):
            DetachImage(held.image).run(ctx)
        server = session.platform.foreign_server(image, ForeignType(found.kind))
        return AttachServed(image, found.volume.partition, tuple(server), label).run(ctx)

    def result(values: Mapping[str, Values]) -> Json:
        return {
            "image": show_path(image),
            "kind": str(found.kind),
            "file_system": found.volume.file_system,
            "partition": found.volume.number,
            **served.where(),
            "changed": bool(session.ran),
        }

    return Graph(
        operation="mount",
        disk=suggest_name(image.name),
        doc=f"mount {show_path(image)} for reading",
        locks=(image,),
        members=served.members(attach, "show the partition as a block device"),
        result=result,
    )
