"""Looking after archives: list, verify, archive prune, archive rekey."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.steps.archive.layout import MIN_VOLUME
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.rekey import Rekey
from portunix_vdisk.steps.archive.rewrite import Rewrite, space_of
from portunix_vdisk.steps.archive.storage import volumes_of, whole_path
from portunix_vdisk.steps.archive.verify import VerifyArchive
from portunix_vdisk.steps.exclude.view import is_cleaned
from portunix_vdisk.steps.names import suggest_name
from portunix_vdisk.steps.sizes import parse_size
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import set_password, unlock, unlock_chain


def archive_at(session: Session, text: str) -> Path:
    """An archive as the person names it; of volumes the name without number."""
    return whole_path(session.absolute(text))


def bases_at(session: Session, options: Mapping[str, str]) -> tuple[Path, ...]:
    """The archives that ``--base`` names, separated by commas."""
    return tuple(archive_at(session, text) for text in options.get("base", "").split(",") if text)


def count_of(text: str, name: str, least: int = 1) -> int:
    """A whole number from an option. Raises ``BadUsage``."""
    if not text.isdecimal() or not least <= int(text) <= 0xFFFF:
        raise BadUsage(f"--{name} takes a number from {least} on, not {text!r}")
    return int(text)


def volume_size(session: Session, output: Path, options: Mapping[str, str]) -> int | None:
    """Size of the volumes of a new archive: ``--split``, else as the filesystem demands. Raises ``BadUsage``."""
    if "split" in options:
        split = parse_size(options["split"])
        if split < MIN_VOLUME:
            raise BadUsage("--split takes at least 1 MiB")
        return split
    # Where whole archives may not fit into one file, a little less than such a file can have.
    largest = session.platform.largest_file(output.parent)
    return None if largest is None else min(largest, 4_000_000_000)


def list_archive(session: Session, options: Mapping[str, str]) -> Json:
    """The generations of an archive, newest first. Sizes in bytes. Raises what reading the archive raises."""
    archive = archive_at(session, options["archive"])
    unlock(session, archive)
    with ArchiveReader(archive) as reader:
        header, disk = reader.header, reader.index.disk
        space = space_of(reader, reader.generations)
        seen: set[str] = set()
        generations: list[Json] = []
        for number in reader.generations:
            index = reader.read_index(number)
            members = dict(index.members())
            generations.append(
                {
                    "generation": number,
                    "finished_at": index.finished,
                    "root": index.root.hex(),
                    "data_bytes": index.data_bytes,
                    "added_bytes": sum(stored for name, stored in members.items() if name not in seen),
                    "without_caches": is_cleaned(index.source),
                }
            )
            seen |= members.keys()
        return {
            "archive": show_path(archive),
            "archive_uuid": header.archive_uuid,
            "disk": disk.name,
            "disk_uuid": header.disk_uuid,
            "type": str(disk.type),
            "size_bytes": disk.size,
            "encrypted": header.encrypted,
            "base": header.base.name if header.base else None,
            "volumes": len(volumes_of(archive)) if header.volume_size else 0,
            "archive_bytes": space.size,
            "dead_bytes": space.dead,
            "cut_off_bytes": reader.cut_off,
            "generations": generations[::-1],
        }


def verify_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``verify:NAME``: it reads the archive anew each time, since only reading tells."""
    archive, bases = archive_at(session, options["archive"]), bases_at(session, options)
    quick = options.get("quick") == "true"

    def verify(ctx: Context) -> Json:
        unlock_chain(session, archive, bases) if not quick else unlock(session, archive)
        return VerifyArchive(archive, quick, bases).run(ctx)

    return archive_graph(
        session, "verify", archive, "read every chunk and compare it with its digest", verify, locks=()
    )


def prune_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``archive-prune:NAME``."""
    archive, keep = archive_at(session, options["archive"]), count_of(options.get("keep", "1"), "keep")

    def pruned(ctx: Context) -> Json:
        unlock(session, archive)
        with ArchiveReader(archive) as reader:
            kept = tuple(reader.generations[-keep:])
            dropped = reader.generations[:-keep]
            if not dropped and space_of(reader, kept).dead < 1 << 16:
                return {"archive_bytes": reader.size, "saved_bytes": 0, "generations": list(kept), "dropped": []}
        result = Rewrite(archive, kept).run(ctx)
        assert isinstance(result, Mapping)
        return {**result, "dropped": list(dropped)}

    return archive_graph(session, "archive prune", archive, "write the archive anew with fewer generations", pruned)


def rekey_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``archive-rekey:NAME``."""
    archive = archive_at(session, options["archive"])

    def rekeyed(ctx: Context) -> Json:
        unlock(session, archive)
        set_password(session, archive, "new-password")
        return Rekey(archive).run(ctx)

    return archive_graph(session, "archive rekey", archive, "give the archive another password", rekeyed)


def archive_graph(
    session: Session,
    operation: str,
    archive: Path,
    doc: str,
    run: Callable[[Context], Json],
    *,
    locks: tuple[Path, ...] | None = None,
) -> Graph:
    """A graph of one member that is never up to date by itself."""

    def never(values: Values) -> bool:
        return False

    name = operation.rpartition(" ")[2]

    def result(values: Mapping[str, Values]) -> Json:
        return {"archive": show_path(archive), **values[name]}

    return Graph(
        operation=operation,
        disk=suggest_name(archive.stem),
        doc=f"{doc}: {show_path(archive)}",
        locks=(archive,) if locks is None else locks,
        members=(Member(name, doc, run, never),),
        result=result,
    )
