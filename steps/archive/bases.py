"""The archive that a delta was made against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from portunix_vdisk.platform.errors import NotFound, Refused
from portunix_vdisk.steps.archive.documents import BaseArchive
from portunix_vdisk.steps.archive.storage import exists
from portunix_vdisk.steps.archive.unlock import read_header

LONGEST_CHAIN = 16
"""Deltas against deltas that are followed."""


def find_base(wanted: BaseArchive, archive: Path, given: Iterable[Path]) -> Path:
    """Where the base of ``archive`` is: among the files that were given, or beside it under the name that it had.

    Raises ``Refused`` naming what is missing.
    """
    beside = archive.parent / wanted.name
    others: list[str] = []
    for path in [*given, *([beside] if exists(beside) else [])]:
        if read_header(path).archive_uuid == wanted.archive_uuid:
            return path
        others.append(str(path))
    found = f"; {', '.join(others)} is another archive" if others else ""
    raise Refused(
        f"{archive} holds only what changed since {wanted.name} (archive {wanted.archive_uuid}),"
        f" which is missing{found}",
        state="nothing was changed",
        hint=f"name that archive: --base {wanted.name}",
    )


def base_chain(archive: Path, given: Sequence[Path]) -> list[Path]:
    """The archive and its bases, each before what it is based on. Raises ``Refused``, and what reading raises."""
    chain = [archive]
    while (wanted := read_header(chain[-1]).base) is not None:
        if len(chain) > LONGEST_CHAIN:
            raise Refused(f"{archive} is at the end of more than {LONGEST_CHAIN} deltas")
        chain.append(find_base(wanted, chain[-1], given))
    return chain


def missing_state(wanted: BaseArchive, path: Path) -> NotFound:
    """What to say where a base no longer holds the state that is needed."""
    return NotFound(
        f"{path} no longer holds the state that the delta was made against (root {wanted.root[:16]}…)",
        state="nothing was changed",
        hint="name a copy of it from that time with --base",
    )
