"""export: scan → pack, by ranges → seal → verify → publish. What is done is read off the archive, not the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from shlex import quote

from portunix_vdisk.platform.base import FileIdentity
from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.archive import storage
from portunix_vdisk.steps.archive.commit import finish_update, next_of
from portunix_vdisk.steps.archive.documents import DiskFacts
from portunix_vdisk.steps.archive.export import close_exports
from portunix_vdisk.steps.archive.layout import range_count
from portunix_vdisk.steps.archive.move import MoveUnfinished
from portunix_vdisk.steps.archive.pack import Pack, Scan, pack_is_done
from portunix_vdisk.steps.archive.packing import STORE
from portunix_vdisk.steps.archive.partial import never_begun
from portunix_vdisk.steps.archive.plan import Export
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.rewrite import Rewrite, space_of
from portunix_vdisk.steps.archive.seal import Publish, Seal, Verify
from portunix_vdisk.steps.archive.status import ArchiveState, archive_status
from portunix_vdisk.steps.archive.unlock import read_header
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.source import SourceIdentity
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.archives import archive_at, count_of, volume_size
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.excluding import Excluding
from portunix_vdisk.tasks.export_output import output_of, refuse_on_itself, refuse_other_content
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.live_source import LiveExport
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import set_password, unlock, unlock_chain
from portunix_vdisk.tasks.which import find_disk, must_be_ready, only_mounted_disk


@dataclass(frozen=True, slots=True)
class _Finished:
    """Tells whether the archive is whole and of the image as it is now; looks again only when a file has changed."""

    image: Path
    output: Path
    disk_uuid: str
    seen: dict[tuple[FileIdentity, FileIdentity], bool]
    view: str = ""

    def __call__(self) -> bool:
        try:
            source, there = durable.identity_of(self.image), durable.identity_of(storage.volumes_of(self.output)[-1])
        except (OSError, IndexError):
            return False
        if storage.exists(next_of(self.output)):
            return False
        if (source, there) not in self.seen:
            status = archive_status(self.output, self.disk_uuid)
            if status.state is ArchiveState.LOCKED:
                return False  # not for ever: its password may come
            wanted = SourceIdentity(source, self.view)
            self.seen[source, there] = status.state is ArchiveState.SEALED and status.source == wanted
        return self.seen[source, there]


def export_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``export:NAME``. Raises ``BadUsage``, ``NotFound`` or ``Refused``."""
    disk = find_disk(session, options["disk"]) if "disk" in options else only_mounted_disk(session)
    former = output_of(session, disk, options.get("output"))
    output = former if "move-to" not in options else session.absolute(options["move-to"]).resolve() / former.name
    move = MoveUnfinished(former, output, volume_size(session, output, options))
    live = LiveExport(session, disk, output)
    excluding = Excluding(session, disk) if options.get("exclude-cache") == "true" else None
    origin = excluding or live
    check = cache(origin.check)  # nobody can attach or detach the disk while it is locked
    elsewhere = f"portunix vdisk export --disk {disk.name} --output {quote(show_path(output))} --move-to DIR"
    export = replace(_export(session, disk, output, options), source=origin.source, elsewhere=elsewhere)
    count = range_count(disk.size)
    verify = Verify(export, _reads_back(session, output, options))
    finished = _Finished(disk.path, output, disk.uuid, {}, excluding.view if excluding else "")

    def moved(ctx: Context) -> Json:
        refuse_on_itself(session, disk, output)
        session.lock(former, f"export:{disk.name}")
        return move.run(ctx)

    def note(root: str) -> None:
        session.catalog.finish_export(disk.uuid, output, root, datetime.now(UTC).isoformat(timespec="seconds"))

    def scan(ctx: Context) -> Json:
        must_be_ready(disk)
        if options.get("output", "").endswith("/"):
            output.parent.mkdir(parents=True, exist_ok=True)
        refuse_on_itself(session, disk, output)
        check()
        refuse_other_content(output, disk)
        session.at_end(close_exports)
        _unlock(session, export)
        if export.is_update and finish_update(output, ctx.safe_point):
            ctx.info(f"the generation that an earlier run had prepared is part of {show_path(output)} now")
            with ArchiveReader(output) as reader:
                note(reader.index.root.hex())
        if finished():
            return {}
        result = Scan(export).run(ctx)
        session.catalog.start_export(disk.uuid, output)
        return {**result, "excluded": excluding.report()} if excluding and isinstance(result, Mapping) else result

    def publish(ctx: Context) -> Json:
        _unlock(session, export)
        facts = Publish(export).run(ctx)
        assert isinstance(facts, Mapping)
        note(str(facts["root"]))
        return {**facts, **_make_room(output, ctx)}

    def guarded(step: Callable[[Context], Json]) -> Callable[[Context], Json]:
        def run(ctx: Context) -> Json:
            check()
            session.at_end(close_exports)
            _unlock(session, export)
            return step(ctx)

        return run

    def pack(number: int) -> Member:
        def done(values: Values) -> bool:
            if finished():
                return True
            try:
                source = excluding.identity() if excluding else SourceIdentity(durable.identity_of(disk.path))
                return pack_is_done(output, values, source)
            except OSError:
                return False

        title = f"compress range {number + 1} of {count}"
        return Member(f"pack:{number:02}", title, guarded(Pack(export, number, count).run), done)

    def done(values: Values) -> bool:
        return finished()

    def clean() -> None:
        unfinished = archive_status(output, disk.uuid).state is ArchiveState.PARTIAL or export.is_update
        for path in reversed(storage.volumes_of(export.unfinished) if unfinished else []):
            path.unlink()

    def result(values: Mapping[str, Values]) -> Json:
        changed = f"export:{disk.name}:publish" in session.ran
        ran = values.get("publish", {}) if changed else {}
        with ArchiveReader(output) as reader:
            return {
                "disk": disk.name,
                "output": show_path(output),
                "archive_uuid": reader.header.archive_uuid,
                "root": reader.index.root.hex(),
                "archive_bytes": reader.size,
                "disk_bytes": reader.index.disk.size,
                "data_bytes": reader.index.data_bytes,
                "generation": reader.index.generation,
                "generations": list(reader.generations),
                "encrypted": reader.header.encrypted,
                "base": reader.header.base.name if reader.header.base else None,
                "added_bytes": ran.get("added_bytes", 0),
                "saved_bytes": ran.get("saved_bytes", 0),
                "written_bytes": ran.get("written_bytes", 0),
                "reused_bytes": ran.get("reused_bytes", 0),
                "waited_seconds": live.waited,
                "excluded": excluding.reported(values.get("scan", {})) if excluding else None,
                "changed": changed,
            }

    return Graph(
        operation="export",
        disk=disk.name,
        doc=f"pack {disk.name} into {show_path(output)}",
        locks=(disk.path, output),
        members=(
            *(
                [Member("move", f"move what is unfinished of {former.name} there", moved, lambda values: move.is_done)]
                if "move-to" in options
                else []
            ),
            Member("scan", "find out what is in the image and in the partial archive", scan, done, clean),
            *(pack(number) for number in range(count)),
            Member("seal", "write index and directory", guarded(Seal(export).run), done),
            Member("verify", "read the archive as an importer would", guarded(verify.run), done),
            Member("publish", "give the archive its name", publish, done),
        ),
        result=result,
    )


def _export(session: Session, disk: Disk, output: Path, options: Mapping[str, str]) -> Export:
    """What the options ask for. Raises ``BadUsage``."""
    base = options.get("base")
    return Export(
        disk.path,
        output,
        _facts(disk),
        encrypted=options.get("encrypted") == "true",
        level=_level(options.get("level", "auto")),
        volume_size=volume_size(session, output, options),
        keep=count_of(options.get("keep", "2"), "keep"),
        base=archive_at(session, base) if base else None,
        blocks=session.home.blocks / disk.uuid,
    )


def _level(text: str) -> int | None:
    if text == "auto":
        return None
    if text == "store":
        return STORE
    if text.isdecimal() and 1 <= int(text) <= 19:
        return int(text)
    raise BadUsage(f"--level takes auto, store, or a number from 1 to 19, not {text!r}")


def _reads_back(session: Session, output: Path, options: Mapping[str, str]) -> bool:
    return options.get("verify") == "true" or session.platform.is_removable(output.parent)


def _unlock(session: Session, export: Export) -> None:
    """Get the keys of what is there, or a password for what is made. Raises ``Refused``, ``WrongPassword``."""
    output, unfinished = export.output, export.unfinished
    if export.base is not None:
        unlock_chain(session, export.base)
    begun = output if export.is_update else unfinished if _has_begun(unfinished) else None
    if begun is None:
        if export.encrypted:
            set_password(session, output)
        return
    header = read_header(begun)
    if export.encrypted and not header.encrypted:
        raise Refused(f"{show_path(begun)} is not encrypted", state="it was not touched", hint="export to another file")
    if export.base is not None and header.base is None:
        raise Refused(f"{show_path(begun)} is no delta", state="it was not touched", hint="export to another file")
    bases = (export.base,) if export.base else ()
    unlock_chain(session, begun, bases) if header.base else unlock(session, begun)


def _has_begun(unfinished: Path) -> bool:
    if not storage.exists(unfinished):
        return False
    with storage.ArchiveFile(unfinished) as file:
        return not never_begun(file)


def _make_room(output: Path, ctx: Context) -> dict[str, Json]:
    """Write the archive anew if much of it is dead and there is room; what that saved."""
    with ArchiveReader(output) as reader:
        space, generations = space_of(reader, reader.generations), tuple(reader.generations)
    if not space.worth_rewriting:
        return {}
    try:
        result = Rewrite(output, generations).run(ctx)
    except Refused as error:
        ctx.info(f"{show_size(space.dead)} of {show_path(output)} are no longer needed: {error.what}")
        return {}
    assert isinstance(result, Mapping)
    return {"saved_bytes": result["saved_bytes"]}


def _facts(disk: Disk) -> DiskFacts:
    return DiskFacts(
        name=disk.name,
        uuid=disk.uuid,
        type=disk.type,
        size=disk.size,
        file_system=str(disk.file_system),
        partition=disk.partition,
        created_at=disk.created_at,
        owner=disk.owner,
    )
