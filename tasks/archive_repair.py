"""archive repair: mend a damaged archive from a disk, a copy, or any other archive that holds what it lost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from portunix_vdisk.platform.errors import Corrupt, Incomplete, NotFound, Refused, WrongPassword
from portunix_vdisk.steps.archive.directory import last_whole_directory
from portunix_vdisk.steps.archive.donors import ArchiveSource, DiskSource
from portunix_vdisk.steps.archive.frame import RepairFrame
from portunix_vdisk.steps.archive.layout import HEADER_NAME, NotAnArchive
from portunix_vdisk.steps.archive.members import numbered, read_first
from portunix_vdisk.steps.archive.repair import RepairChunks
from portunix_vdisk.steps.archive.storage import ArchiveFile, exists, volumes_of
from portunix_vdisk.steps.archive.unlock import read_header
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.archives import archive_at, archive_graph, bases_at
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Graph
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import unlock, unlock_chain
from portunix_vdisk.tasks.which import find_disk, must_be_ready


def archive_repair_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``archive-repair:NAME``: it reads the archive anew each time, since only reading tells."""
    archive, bases = archive_at(session, options["archive"]), bases_at(session, options)
    named = [text for text in options.get("from", "").split(",") if text]

    def repaired(ctx: Context) -> Json:
        if not exists(archive):
            raise NotFound(f"{show_path(archive)}: no such file")
        donors = tuple(_donor(session, archive, text, bases) for text in named)
        copies = tuple(donor.archive for donor in donors if isinstance(donor, ArchiveSource))
        _unlock_if_possible(session, archive)
        frame = RepairFrame(archive, copies).run(ctx)
        assert isinstance(frame, Mapping)
        _must_hold(archive, frame)
        unlock_chain(session, archive, bases)
        for donor in donors:
            if isinstance(donor, ArchiveSource):
                _unlock_if_possible(session, donor.archive)
        result = RepairChunks(archive, donors, bases).run(ctx)
        assert isinstance(result, Mapping)
        result = {
            **result,
            "mended_documents": frame["mended"],
            "damaged_documents": frame["lost"],
            "written_bytes": _bytes(result) + _bytes(frame),
        }
        if result["damaged_generations"] or result["damaged_documents"]:
            raise _incomplete(archive, named, {"archive": show_path(archive), **result})
        return result

    return archive_graph(session, "archive repair", archive, "find what is damaged and write it again", repaired)


def _unlock_if_possible(session: Session, archive: Path) -> None:
    """Get the key of a damaged archive, if it still gives one. Raises ``WrongPassword``, ``Refused``."""
    try:
        unlock(session, archive)
    except WrongPassword:
        raise
    except (Corrupt, NotAnArchive):
        return  # mended first, if that is possible


def _donor(session: Session, archive: Path, text: str, bases: tuple[Path, ...]) -> DiskSource | ArchiveSource:
    """What ``--from`` names. Raises ``NotFound``, ``Refused``."""
    path = archive_at(session, text)
    there = volumes_of(path)
    if there and there[0].is_file():
        try:
            read_header(path)
        except NotAnArchive:
            pass  # then it is the image of a disk, or nothing that could help
        else:
            if there[0].samefile(volumes_of(archive)[0]):
                raise Refused(
                    f"{show_path(path)} is the damaged archive itself",
                    state="nothing was changed",
                    hint="name a disk or another archive with --from",
                )
            return ArchiveSource(path, bases)
    disk = find_disk(session, text)
    must_be_ready(disk)
    must_not_be_attached(session, disk, "read for a repair")
    return DiskSource(disk.path, disk.type, disk.partition, str(disk.file_system))


def _must_hold(archive: Path, frame: Mapping[str, Json]) -> None:
    """Refuse to go on without what everything else hangs on. Raises ``Corrupt``."""
    lost = frame["lost"]
    assert isinstance(lost, list)
    wanted = [name for name in lost if name == HEADER_NAME or name.startswith("keys-")]
    if not wanted:
        with ArchiveFile(archive) as file:
            entries = last_whole_directory(file).entries
            newest = numbered(entries, "index")[-1][1]
            encrypted = read_first(file)[1].encrypted
        wanted = [name for name in lost if name == newest or (encrypted and name.startswith("session-"))]
    if wanted:
        raise Corrupt(
            f"{show_path(archive)} has lost {', '.join(wanted)}, which only another copy of it has",
            f"{_bytes(frame)} bytes of other damage were mended",
            "name a copy with --from FILE; an older generation may still be imported with --generation N",
        )


def _bytes(result: Mapping[str, Json]) -> int:
    written = result["written_bytes"]
    assert isinstance(written, int)
    return written


def _incomplete(archive: Path, named: list[str], result: Mapping[str, Json]) -> Incomplete:
    lost, whole = result["lost_chunks"], result["whole_generations"]
    mended = f"{result['mended_in_place']} were mended in place, {result['appended_chunks']} appended"
    assert isinstance(whole, list)
    kept = f"; generations {', '.join(map(str, whole))} are whole" if whole else ""
    where = f"{', '.join(named)} does not have" if len(named) == 1 else "none of the others has"
    documents = result["damaged_documents"]
    assert isinstance(documents, list)
    other = " or ".join([f"the content of {lost} damaged chunks"] * bool(lost) + [str(name) for name in documents])
    return Incomplete(
        f"{show_path(archive)} is still damaged: {where if named else 'it cannot mend by itself'} {other}",
        f"of {result['damaged_chunks']} damaged chunks {mended}{kept}",
        "name more places that may have it: --from DISK,FILE",
        result,
    )
