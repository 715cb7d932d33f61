"""Mending a damaged archive: only what is damaged is written again, from wherever its content is found."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from portunix_vdisk.steps.archive.commit import finish_update
from portunix_vdisk.steps.archive.damage import Damaged, Need, find_damage, generations_of, needs_of, readable_indexes
from portunix_vdisk.steps.archive.donors import ArchiveSource, DiskSource, Donors
from portunix_vdisk.steps.archive.mending import Lenient, Overlay, write_mended
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.remake import Remaker
from portunix_vdisk.steps.archive.replace import Replacement
from portunix_vdisk.steps.archive.storage import ArchiveFile, whole_path
from portunix_vdisk.steps.step import Context, Json

_HELD: Final = 64 << 20
"""Bytes of mended members that are held before they are written."""
_LISTED: Final = 64
"""Chunks that a result names one by one."""


@dataclass(frozen=True, slots=True)
class RepairChunks:
    """Read every chunk of every generation; write those that are damaged again, from what donors hold.

    A chunk that can be made again byte for byte, as most can, is written to its place: an archive on a full stick is
    mended too. The others are appended like an update. A crash leaves the archive as it was, or more whole.

    The result counts members and bytes, and lists what nobody had: it is not an error here. Raises ``Refused`` (an
    export is unfinished, no room to append), ``Corrupt`` (directory or newest index), ``Failed``.
    """

    archive: Path
    donors: tuple[DiskSource | ArchiveSource, ...] = ()
    bases: tuple[Path, ...] = ()

    def run(self, ctx: Context) -> Json:
        archive = whole_path(self.archive)
        finish_update(archive, ctx.safe_point)
        with ExitStack() as stack:
            file = stack.enter_context(ArchiveFile(archive))
            overlay = Overlay(Lenient(file))
            reader = stack.enter_context(ArchiveReader(archive, file=overlay, bases=self.bases))
            indexes, broken = readable_indexes(reader)
            needs = needs_of(reader, indexes)
            donors = stack.enter_context(Donors(self.donors, ctx))
            remaker = Remaker(reader, overlay, donors)
            damaged, left, written = _remake(reader, remaker, needs, overlay, ctx)
            written += write_mended(archive, overlay)
            replaced: set[str] = set()
            found = [one.need for one in left if remaker.content(one.need) is not None]
            if found:
                replaced = Replacement(archive, reader, indexes).write(found, remaker.content, ctx)
            lost = _still_needed(archive, [one for one in left if one.need.name not in replaced], self.bases)
            header, kept = reader.header, [index.generation for index in indexes]
        hurt = {*generations_of(lost), *broken}
        return {
            "archive_uuid": header.archive_uuid,
            "checked_bytes": sum(need.length for need in needs),
            "damaged_chunks": len(damaged),
            "mended_in_place": len(damaged) - len(left),
            "appended_chunks": len(replaced),
            "lost_chunks": len(lost),
            "lost": [_told(one) for one in lost[:_LISTED]],
            "whole_generations": [generation for generation in kept if generation not in hurt],
            "damaged_generations": sorted(hurt),
            "written_bytes": written,
        }


def _remake(
    reader: ArchiveReader, remaker: Remaker, needs: Sequence[Need], overlay: Overlay, ctx: Context
) -> tuple[list[Damaged], list[Damaged], int]:
    """What is damaged, what of that could not be made again, and bytes written meanwhile, to bound memory.

    Patches come after what they are against.
    """
    written, total, done = 0, sum(need.length for need in needs), 0

    def progress(length: int) -> None:
        nonlocal done
        done += length
        ctx.update(done, total)

    damaged: list[Damaged] = []
    left: list[Damaged] = []
    for patched in (False, True):
        some = [need for need in needs if (need.base is not None) == patched]
        for one in find_damage(reader, some, ctx.safe_point, progress):
            ctx.safe_point()
            if remaker.comes_back(one.need):
                continue
            damaged.append(one)
            if not remaker.again(one.need):
                left.append(one)
            if overlay.held > _HELD:
                written += write_mended(reader.path, overlay)
    return damaged, left, written


def _still_needed(archive: Path, lost: Sequence[Damaged], bases: tuple[Path, ...]) -> list[Damaged]:
    """What is lost, with the generations that need it now: a patch that became a whole chunk rests on nothing."""
    if not lost:
        return []
    with ArchiveFile(archive) as file, ArchiveReader(archive, file=Lenient(file), bases=bases) as reader:
        now = {need.name: need for need in needs_of(reader, readable_indexes(reader)[0])}
    return [replace(one, need=now[one.need.name]) for one in lost if one.need.name in now]


def _told(one: Damaged) -> Json:
    need = one.need
    return {
        "member": need.name,
        "offset": need.offsets[0],
        "length": need.length,
        "generations": list(need.generations),
        "problem": one.problem,
    }
