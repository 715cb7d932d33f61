"""What counts as reused after a kill."""

from __future__ import annotations

import os
from pathlib import Path

from portunix_vdisk.tests.bench.killing import Killed, _pieces, reused

MIB = 1 << 20


def killed(partial: Path) -> Killed:
    status = partial.stat()
    return Killed(status.st_size, status.st_ino, tuple(_pieces(partial)), 1.0, 1, ())


def test_only_an_unchanged_beginning_of_the_same_file_counts(tmp_path: Path) -> None:
    partial, archive = tmp_path / "a.zip.partial", tmp_path / "a.zip"
    partial.write_bytes(os.urandom(3 * MIB + 1000))
    before = killed(partial)
    with partial.open("ab") as file:
        file.write(os.urandom(2 * MIB))
    partial.rename(archive)
    assert reused(before, archive) == 3 * MIB
    with archive.open("r+b") as file:
        file.seek(2 * MIB + 5)
        file.write(b"other")
    assert reused(before, archive) == 2 * MIB
    content = archive.read_bytes()
    (tmp_path / "copy").write_bytes(content)  # written again: nothing was saved
    assert reused(before, tmp_path / "copy") == 0
