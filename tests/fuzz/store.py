"""The committed files from which inputs are bent: ``bases.tar.xz``."""

from __future__ import annotations

import tarfile
from functools import cache
from pathlib import Path

PLACE = Path(__file__).resolve().parent / "bases.tar.xz"


@cache
def bases() -> dict[str, bytes]:
    """Content by path, for example ``next-plain/disk.zip.next``."""
    found: dict[str, bytes] = {}
    with tarfile.open(PLACE) as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is not None:
                found[member.name] = file.read()
    return found


def keep(folder: Path) -> None:
    """Commit these files."""
    with tarfile.open(PLACE, "w:xz", preset=9) as tar:
        for path in sorted(folder.rglob("*")):
            member = tarfile.TarInfo(str(path.relative_to(folder)))
            if path.is_file():
                member.size = path.stat().st_size
                with path.open("rb") as file:
                    tar.addfile(member, file)
