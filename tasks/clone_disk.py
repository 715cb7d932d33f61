"""clone: copy → renew → register. Another disk with the same content, with a name and GUIDs of its own."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.convert.copy import CopyDisk
from portunix_vdisk.steps.convert.identity import LONELY, Renew
from portunix_vdisk.steps.disk import CLONE, Disk, DiskState
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.names import check_name
from portunix_vdisk.steps.register import Register
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.create_disk import declared, image_path, is_ours, known_disk
from portunix_vdisk.tasks.describe import disk_json
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import find_disk, must_be_ready


def clone_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``clone:NEW-NAME``. Raises ``VdiskError`` for what cannot be cloned or is there already."""
    source, name = find_disk(session, options["disk"]), options["name"]
    check_name(name)
    must_be_ready(source)
    if source.file_system in LONELY:
        raise Refused(
            f"{source.name} has {source.file_system}, of which two with the same UUID cannot be mounted at once",
            state="nothing was changed",
            hint=f"portunix vdisk create --name {name} --fs {source.file_system}, mount both, and sync",
        )
    about = durable.identity_of(source.path)
    root = f"{CLONE}{source.uuid}-{about.device}-{about.inode}-{about.size}-{about.mtime_ns}"
    disk = _known(session, source, name, root) or replace(
        source,
        name=name,
        uuid=str(uuid.uuid4()),
        path=image_path(session, name, source.type, options.get("path")),
        state=DiskState.IMPORTING,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        partial_inode=None,
        archive_uuid=None,
        archive_root=root,
        archive_path=source.path,
        imported_identity=None,
    )
    partial = durable.partial_of(disk.path)
    step = CopyDisk(source.path, source.type, partial, source.type)

    def ready() -> bool:
        known = session.catalog.by_uuid(disk.uuid)
        return known is not None and known.state is DiskState.READY

    def done(values: Values) -> bool:
        known = session.catalog.by_uuid(disk.uuid)
        return ready() or (known is not None and is_ours(known, values) and values.get("root") == root)

    def stamped(**result: Json) -> Json:
        inode = known_disk(session, name).partial_inode
        return {"uuid": disk.uuid, "inode": list(inode or ()), "root": root, **result}

    def copy(ctx: Context) -> Json:
        must_not_be_attached(session, source, "cloned")
        release_image(source.path, ctx)
        with ctx.platform.open_image(source.path, source.type, writable=True):
            pass
        shared = False
        with declared(session, disk):
            known = known_disk(session, name)
            if known.partial_inode is None or not durable.has_inode(partial, known.partial_inode):
                partial.unlink(missing_ok=True)
                shared = ctx.platform.share_blocks(source.path, partial)
                if not shared:
                    step.prepare(ctx)
                made = partial.stat()
                session.catalog.set_partial(disk.uuid, (made.st_dev, made.st_ino))
        session.catalog.set_root(disk.uuid, root)
        if not shared:
            step.run(ctx)
            step.prove(ctx)
        return stamped(shared=shared)

    def renew(ctx: Context) -> Json:
        shutil.copymode(source.path, partial)
        Renew(partial, disk.type, disk.uuid).run(ctx)
        return stamped()

    def register(ctx: Context) -> Json:
        return Register(session.home.catalog, disk.uuid, disk.path, imported=True).run(ctx)

    return Graph(
        operation="clone",
        disk=name,
        doc=f"make {name}, a copy of {source.name}",
        locks=(disk.path, source.path),
        members=(
            Member("copy", "share the image's blocks where the host can, else copy and compare", copy, done),
            Member("renew", "give the copy GUIDs of its own", renew, done),
            Member("register", "give the image its name and enter it into the catalog", register, lambda _: ready()),
        ),
        result=lambda values: {
            "disk": disk_json(session, known_disk(session, name)),
            "source": source.name,
            "shared": values.get("copy", {}).get("shared") is True,
            "changed": bool(session.ran),
        },
    )


def _known(session: Session, source: Disk, name: str, root: str) -> Disk | None:
    """The clone of that name, unfinished, or unused since and of this very state. Raises ``Refused`` for others."""
    known = session.catalog.get(name)
    if known is None:
        return None
    begun = known.state is DiskState.IMPORTING and (known.archive_root or "").startswith(f"{CLONE}{source.uuid}-")
    if begun and (known.type, known.size) == (source.type, source.size):
        return known
    untouched = known.path.exists() and durable.identity_of(known.path) == known.imported_identity
    if known.archive_root == root and untouched:
        return known
    raise Refused(
        f"a disk called {name} exists already",
        state="nothing was changed",
        hint=f"portunix vdisk clone {source.name} --name ANOTHER-NAME",
    )
