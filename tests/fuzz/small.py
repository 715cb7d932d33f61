"""Archives with chunks of 64 KiB instead of 4 MiB, and volumes from 4 KiB, so that thousands are read in a minute.

Import this before anything else of the package: its modules take the sizes when they are imported.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from portunix_vdisk.steps.archive import layout

layout.CHUNK_SIZE = 64 << 10  # type: ignore[misc]
layout.MIN_VOLUME = 4 << 10  # type: ignore[misc]

from portunix_vdisk.platform.base import FileIdentity  # noqa: E402
from portunix_vdisk.steps.source import SourceIdentity  # noqa: E402

CHUNK = layout.CHUNK_SIZE
VOLUME = 12 << 10
UUID = "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e99"
LAST = 2
"""Newest state of the disk."""


def content(state: int) -> bytes:
    """The disk in a state: a few bytes here and there, equal chunks, a hole, a short and random last chunk."""
    made = bytearray(4 * CHUNK + 700)
    for offset, length, seed in ((0, 900, 1), (CHUNK + 5000, 700, 2), (2 * CHUNK, 900, 1), (4 * CHUNK, 700, 3)):
        made[offset : offset + length] = random.Random(seed).randbytes(length)
    if state == 2:
        made[CHUNK + 5100 : CHUNK + 5200] = random.Random(4).randbytes(100)
        made[3 * CHUNK + 9000 : 3 * CHUNK + 9500] = random.Random(5).randbytes(500)
    return bytes(made)


class Disk:
    """A state as the source of an export, with an identity that is the same in every run."""

    path = Path("disk.img")

    def __init__(self, state: int) -> None:
        self._content = content(state)
        self.size = len(self._content)
        self.extents: Sequence[tuple[int, int]] = [(0, self.size)]
        self.identity = SourceIdentity(FileIdentity(1, 2, self.size, state, state))

    def read_into(self, offset: int, buffer: bytearray) -> None:
        buffer[:] = self._content[offset : offset + len(buffer)]

    def announce(self, offset: int, length: int) -> None: ...

    def check(self) -> None: ...

    def close(self) -> None: ...


def house(folder: Path, state: int = LAST) -> Any:
    """The shortcuts of the archive's tests, for a disk in this state."""
    path = Path(__file__).resolve().parents[1] / "steps" / "archive" / "conftest.py"
    spec = importlib.util.spec_from_file_location("archive_conftest", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.House(folder)
    show(made, state)
    return made


def show(made: Any, state: int) -> None:
    """Let the disk of a house be in a state."""
    made.image.write_bytes(content(state))
    made.options["source"] = lambda ctx: Disk(state)
