"""A real PORTUNIX_HOME, the real console scripts, real images and mounts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import BIN, Machine
from tooled import install

from portunix_vdisk.platform.linux.machine import LinuxPlatform


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    home, folder = tmp_path / "home", tmp_path / "work"
    folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SUDO_", "PORTUNIX_"))}
    # Its name is short, since sockets lie in it.
    temporary = Path(tempfile.mkdtemp(prefix="pv-"))
    made = Machine(home, folder, {**environment, "PORTUNIX_HOME": str(home), "TMPDIR": str(temporary)}, temporary)
    yield made
    for disk in made.vdisk("list", "--json", check=None).json["result"]["disks"]:
        if disk["device"] or disk["problem"]:
            made.vdisk("unmount", disk["name"], check=None)
    platform = LinuxPlatform()
    for held in list(platform.attachments()):
        if held.server_pid is not None and held.image.is_relative_to(tmp_path):
            platform.detach(held.image)
    made.run(BIN / "portunix", "plugin", "stop", "vdisk")
    leftovers = sorted((home / "vdisk" / "run").rglob("*")) if home.exists() else []
    assert [path for path in leftovers if not path.is_dir()] == []
    shutil.rmtree(temporary)


@pytest.fixture
def prepared(machine: Machine) -> Machine:
    """A disk with the tool, not mounted."""
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB", "--type", "img")
    machine.vdisk("mount", "my-dev", "first")
    install(machine.folder / "first")
    machine.vdisk("unmount", "my-dev")
    return machine
