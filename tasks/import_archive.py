"""import: prepare → unpack, by ranges → prove → register, all on a partial image."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import FileSystemType, ImageType
from portunix_vdisk.platform.errors import BadUsage, Corrupt, Failed, Incomplete, Refused, WrongPassword
from portunix_vdisk.platform.formats import TYPES
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.archive.documents import DiskFacts
from portunix_vdisk.steps.archive.imports import Import, close_imports
from portunix_vdisk.steps.archive.layout import range_count
from portunix_vdisk.steps.archive.mending import is_unreadable
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.storage import whole_path
from portunix_vdisk.steps.archive.unpack import Finish, Prepare, Unpack
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.luks import MAGIC, is_encrypted
from portunix_vdisk.steps.names import check_name
from portunix_vdisk.steps.register import Register
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.adapter import saved_values
from portunix_vdisk.tasks.archives import bases_at, count_of
from portunix_vdisk.tasks.create_disk import (
    declared,
    image_path,
    image_type,
    is_ours,
    is_published,
    known_disk,
    undo_unfinished,
)
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import unlock, unlock_chain

_NAMED: Final = 5
"""Files that an error names; the result has more."""


def import_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``import:NAME``. Raises ``VdiskError`` for an archive that cannot be imported, or not as NAME."""
    archive, bases = _archive(session, options), bases_at(session, options)
    unlock_chain(session, archive, bases)
    generation = count_of(options["generation"], "generation") if "generation" in options else None
    with offering_repair(archive), ArchiveReader(archive, generation, bases=bases) as reader:
        if reader.header.base is not None:
            reader.base()
        facts, root, archive_uuid = reader.index.disk, reader.index.root.hex(), reader.header.archive_uuid
    name = options.get("name") or facts.name
    check_name(name)
    if "type" in options:
        facts = _as_type(facts, image_type(options["type"]))
    salvage = options.get("salvage") == "true"
    disk = _plan(session, name, facts, options.get("path"), archive, archive_uuid, root, salvage)
    task = Import(archive, durable.partial_of(disk.path), disk.type, generation, bases, salvage)
    count = range_count(disk.size)

    def ready() -> bool:
        known = session.catalog.get(name)
        if known is None or known.state is not DiskState.READY:
            return False
        if known.archive_root != root and not (salvage and known.archive_root == salvaged(root)):
            return False
        try:
            return durable.identity_of(known.path) == known.imported_identity
        except OSError:
            return False

    def ready_or_ours(values: Values) -> bool:
        known = session.catalog.get(name)
        return ready() or (known is not None and known.state is DiskState.IMPORTING and is_ours(known, values))

    def stamp(result: Json) -> Json:
        known = session.catalog.by_uuid(disk.uuid)
        inode = known.partial_inode if known else None
        return {"uuid": disk.uuid, "inode": list(inode or ()), "result": result}

    def prepare(ctx: Context) -> Json:
        with declared(session, disk):
            result = Prepare(task).run(ctx)
        stat = task.partial.stat()
        session.catalog.set_partial(disk.uuid, (stat.st_dev, stat.st_ino))
        return stamp(result)

    def stamped(step: Callable[[Context], Json]) -> Callable[[Context], Json]:
        def run(ctx: Context) -> Json:
            session.at_end(close_imports)
            with offering_repair(archive):
                return stamp(step(ctx))

        return run

    def proven(values: Values) -> bool:
        """The proof is made anew unless the image has its name already: reading back is cheap, trust is not."""
        known = session.catalog.get(name)
        return ready() or (known is not None and is_published(known))

    def damage() -> Mapping[str, Json] | None:
        """What salvaging found when the image was proven, in this run or an earlier one."""
        proof = saved_values(f"import:{name}:prove")
        facts = proof.get("result") if proof.get("uuid") == disk.uuid else None
        found = facts.get("damage") if isinstance(facts, Mapping) else None
        return found if isinstance(found, Mapping) else None

    def register(ctx: Context) -> Json:
        # What was salvaged has not the content of the archive, so it must never pass for it.
        session.catalog.set_root(disk.uuid, salvaged(root) if damage() else root)
        # An archive may come from anybody: what is in the partition tells better than what they say about it.
        if task.partial.exists():
            with ctx.platform.open_image(task.partial, disk.type, writable=False) as image:
                if is_encrypted(image.read(disk.partition.start, len(MAGIC))):
                    session.catalog.set_encrypted(disk.uuid)
        return Register(session.home.catalog, disk.uuid, disk.path, imported=True).run(ctx)

    def report(ctx: Context) -> Json:
        found = damage()
        if found is None:
            return {}
        proof = saved_values(f"import:{name}:prove")
        raise incomplete(archive, name, found, {**facts_of({"prove": proof}), "damage": found})

    def unharmed(values: Values) -> bool:
        known = session.catalog.get(name)
        return damage() is None and known is not None and known.archive_root == root

    def facts_of(values: Mapping[str, Values]) -> dict[str, Json]:
        ran = values["prove"].get("result") if f"import:{name}:prove" in session.ran else {}
        assert isinstance(ran, Mapping)
        return {
            "disk": disk_json(session, known_disk(session, name)),
            "archive": show_path(archive),
            "root": root,
            "written_bytes": ran.get("written_bytes", 0),
            "reused_bytes": ran.get("reused_bytes", 0),
            "changed": bool(session.ran),
            "damage": None,
        }

    def clean() -> None:
        undo_unfinished(session, name)

    return Graph(
        operation="import",
        disk=name,
        doc=f"make {name} from {show_path(archive)}",
        locks=(disk.path,),
        members=(
            Member("prepare", "make an empty image, or keep what an earlier run wrote", prepare, ready_or_ours, clean),
            *(
                Member(
                    f"unpack:{number:02}",
                    f"write range {number + 1} of {count}, verified",
                    stamped(Unpack(task, number, count).run),
                    ready_or_ours,
                )
                for number in range(count)
            ),
            Member("prove", "check the whole content against the archive's root", stamped(Finish(task).run), proven),
            Member(
                "register", "give the image its name and enter it into the catalog", register, lambda values: ready()
            ),
            *([Member("report", "tell what is damaged", report, unharmed)] if salvage else []),
        ),
        result=facts_of,
    )


def salvaged(root: str) -> str:
    """What the catalog calls the content of a disk that is an archive's but for damaged places."""
    return f"salvaged-{root}"


def incomplete(archive: Path, name: str, damage: Mapping[str, Json], result: Mapping[str, Json]) -> Incomplete:
    """The end of an import that salvaged."""
    files, structures = damage["files"], damage["structures"]
    assert isinstance(files, list) and isinstance(structures, list)
    told = [str(path) for path in files[:_NAMED]]
    more = int(str(damage["file_count"])) - len(told)
    hurt = ", ".join(told) + (f" and {more} more" if more else "") if told else "no file"
    if damage["unknown"]:
        hurt = f"which files cannot be told ({damage['unknown']})"
    inside = f"; of the filesystem itself: {', '.join(map(str, structures[:_NAMED]))}" if structures else ""
    return Incomplete(
        f"{name} was imported, but {damage['damaged_bytes']} bytes of {show_path(archive)} were damaged and are zeros:"
        f" {hurt}{inside}",
        "everything else is whole and verified",
        f"if a disk or an archive still has it: portunix vdisk archive repair {show_path(archive)} --from DISK-OR-FILE,"
        " then import again under another name",
        result,
    )


@contextmanager
def offering_repair(archive: Path) -> Iterator[None]:
    """Say of a damaged archive what can be done."""
    try:
        yield
    except (Corrupt, Failed) as error:
        # The image's own medium may fail too, which is none of the archive's business.
        unreadable = is_unreadable(error) and str(archive) in error.what
        if isinstance(error, WrongPassword) or not (isinstance(error, Corrupt) or unreadable):
            raise
        path = show_path(archive)
        hint = f"mend it: portunix vdisk archive repair {path} --from DISK-OR-FILE; or import what is whole: --salvage"
        raise Corrupt(error.what, error.state, hint) from error


def disk_name_in(session: Session, options: Mapping[str, str]) -> str:
    """The name that an import without a name gives its disk. Raises what reading the archive raises."""
    archive = _archive(session, options)
    unlock(session, archive)
    with ArchiveReader(archive) as reader:
        return reader.index.disk.name


def _as_type(facts: DiskFacts, type: ImageType) -> DiskFacts:
    """The same disk in another container. Raises ``BadUsage`` where it would be another disk."""
    has_table = facts.partition.start > 0
    if has_table != type.partitioned:
        raise BadUsage(
            f"the archive holds a disk {'with' if has_table else 'without'} a partition table,"
            f" and {type} images are {'without' if has_table else 'with'} one",
            hint=f"import it as another type, such as {'img' if has_table else 'loop'}",
        )
    if facts.size > TYPES[type].largest:
        raise BadUsage(
            f"{TYPES[type].article} holds at most {show_size(TYPES[type].largest)},"
            f" and the archive a disk of {show_size(facts.size)}",
            hint="import it as another type; portunix vdisk formats shows what each holds",
        )
    return replace(facts, type=type)


def _archive(session: Session, options: Mapping[str, str]) -> Path:
    if "archive" in options:
        return whole_path(Path(os.path.normpath(session.absolute(options["archive"]))))
    known = session.catalog.get(options.get("name", ""))
    if known is None or known.archive_path is None:
        raise BadUsage("import needs an archive", hint="portunix vdisk import portable-dev.zip")
    return known.archive_path


def _plan(
    session: Session,
    name: str,
    facts: DiskFacts,
    place: str | None,
    archive: Path,
    archive_uuid: str,
    root: str,
    salvage: bool,
) -> Disk:
    """The disk as an earlier run entered it, or as it would be. Raises ``Refused`` for a name that is taken."""
    known = session.catalog.get(name)
    if known is not None:
        ours = known.archive_root in (root, salvaged(root))
        if ours and known.state is DiskState.IMPORTING:
            return known
        untouched = (ours if salvage else known.archive_root == root) and known.path.exists()
        if untouched and durable.identity_of(known.path) == known.imported_identity:
            return known
        what = "is being created" if known.state is DiskState.CREATING else "exists already"
        if known.state is DiskState.IMPORTING:
            what = "is being imported from another archive"
        raise Refused(
            f"a disk called {name} {what}",
            state="nothing was changed",
            hint=f"portunix vdisk import {show_path(archive)} --name ANOTHER-NAME",
        )
    # A copy beside the original is another disk; on another machine it is the same disk.
    taken = session.catalog.by_uuid(facts.uuid) is not None
    return Disk(
        name=name,
        uuid=str(uuid.uuid4()) if taken else facts.uuid,
        path=image_path(session, name, facts.type, place),
        type=facts.type,
        size=facts.size,
        file_system=FileSystemType(facts.file_system),
        state=DiskState.IMPORTING,
        created_at=facts.created_at,
        partition=facts.partition,
        owner=facts.owner,
        archive_uuid=archive_uuid,
        archive_root=root,
        archive_path=archive,
    )
