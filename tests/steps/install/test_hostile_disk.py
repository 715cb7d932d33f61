"""Disks that somebody made to have us write elsewhere: nothing of theirs is followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import Corrupt, Refused
from portunix_vdisk.steps.install.made_from import MadeFrom, write_made_from
from portunix_vdisk.steps.install.record import FILE, STATE, Installed, InstalledTool, read_installed
from portunix_vdisk.steps.install.relocate import rewrite_scripts
from portunix_vdisk.steps.install.remember import remember

NODE = InstalledTool("nodejs", "20.1.0", "pypi", "tools/nodejs/20.1.0", {"node": "bin/node"})
INSTALLED = Installed((NODE,))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    for folder in (STATE, "bin", "env/python/bin", NODE.folder):
        (disk / folder).mkdir(parents=True)
    return disk


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "authorized_keys"
    file.write_text("mine")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    "trap",
    [
        f"{STATE}/{FILE}.partial",
        f"{STATE}/{FILE}",
        f"{STATE}/template.json.partial",
        "bin/node.partial",
        "activate.partial",
        "activate",
        "env/python/bin/pip.partial",
        "env/python/bin/.pip.partial",
    ],
)
def test_no_link_in_the_place_of_a_file_is_followed(root: Path, victim: Path, trap: str) -> None:
    (root / "env/python/bin/pip").write_text("#!/usr/bin/python3\nprint()\n")
    (root / trap).symlink_to(victim)
    remember(root, INSTALLED)
    write_made_from(root, MadeFrom("mine"))
    rewrite_scripts(root / "env/python/bin", "../../../", Path("/usr/bin/python3"))
    assert victim.read_text() == "mine"
    assert victim.stat().st_mode & 0o777 == 0o600
    assert read_installed(root) == INSTALLED
    assert not (root / "bin" / "node").is_symlink()


@pytest.mark.parametrize("folder", [STATE, "bin", "tools", "env", "env/node", "env/python/bin", "env/go/modules"])
def test_no_folder_leads_elsewhere(root: Path, tmp_path: Path, folder: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = root / folder
    if place.exists():
        place.rename(tmp_path / "former")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere)
    with pytest.raises(Refused, match="is a link, to"):
        remember(root, INSTALLED)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("folder", ["projects", "tools", "tools/nodejs", "tools/other/1", "tools/nodejs/20.1.0/bin"])
def test_a_record_cannot_call_something_else_a_tool(root: Path, folder: str) -> None:
    text = (
        '{"version": 1, "packages": [], "tools": [{"name": "nodejs", "version": "20.1.0", "source": "pypi", '
        f'"folder": "{folder}"}}]}}'
    )
    (root / STATE / FILE).write_text(text)
    with pytest.raises(Corrupt, match="no place of a tool"):
        read_installed(root)


@pytest.mark.parametrize("link", [False, True])
def test_a_program_of_the_persons_own_is_not_replaced(root: Path, victim: Path, link: bool) -> None:
    own = root / "bin" / "node"
    own.symlink_to(victim) if link else own.write_text("#!/bin/sh\nexec /usr/bin/node\n")
    before = own.read_text()
    with pytest.raises(Refused, match="is a program of yours"):
        remember(root, INSTALLED)
    assert own.read_text() == before
    assert read_installed(root) == Installed(), "nothing is remembered that has no command"
    own.unlink()
    remember(root, INSTALLED)
    assert read_installed(root) == INSTALLED
