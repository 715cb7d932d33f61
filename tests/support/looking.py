"""Archives that are made to be looked into, and whether anything of that stays behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from machine import Machine
from trees import grow

from portunix_vdisk.platform.linux import loop, mounts, state
from portunix_vdisk.platform.linux.processes import start_time

CHUNK = 4 << 20


def archived(machine: Machine, big: int = 0) -> Path:
    """An archive with a tree in it, and a file of ``big`` random bytes."""
    grow(machine.folder / "src")
    if big:
        with (machine.folder / "src" / "big").open("wb") as file:
            for _ in range(big // CHUNK):
                file.write(os.urandom(CHUNK))
    machine.vdisk("create", "--name", "my-dev", "--size", "512MB")
    machine.vdisk("mount", "my-dev", "mnt")
    machine.vdisk("sync", "--source", "src", "--target", "mnt/app")
    machine.vdisk("unmount", "mnt")
    machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    return machine.folder / "a.zip"


def mounted(machine: Machine, *words: str | Path) -> dict[str, Any]:
    return machine.vdisk("archive", "mount", *words, "--json").result


def assert_nothing_left(machine: Machine, archive: Path, server: int) -> None:
    assert start_time(server) is None, "the server still runs"
    assert not any(str(entry.point).startswith(str(machine.folder)) for entry in mounts.mounted())
    key = state.key_of(archive.stat())
    assert not (state.ROOT / key).exists()
    assert not any(f"/{key}/" in found.backing for found in loop.loops())
    if machine.temporary is not None:
        assert list(machine.temporary.glob("portunix-archive-*")) == []
