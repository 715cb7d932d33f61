"""Our own commands in a shell in which a disk is activated: nothing of the disk is loaded or run by them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portunix_vdisk.platform.home import leave_disk
from portunix_vdisk.tests.plugin.harness import Portunix, told


@pytest.fixture
def disk(tmp_path: Path, portunix: Portunix) -> Path:
    """An activated disk with a module that would end whoever loads it, and a program beside the host's."""
    root = tmp_path / "a disk"
    modules, programs = root / "env" / "python", root / "bin"
    modules.mkdir(parents=True)
    programs.mkdir()
    for name in ("grpc", "google", "tqdm", "yaml", "doit"):
        (modules / f"{name}.py").write_text("raise SystemExit('a module of the disk')")
    portunix.environment |= {
        "PORTUNIX_VDISK": str(root),
        "PYTHONPATH": f"{modules}:{tmp_path}",
        "PATH": f"{programs}:{modules}/bin:{os.environ['PATH']}",
    }
    return root


def test_modules_of_the_disk_are_not_loaded(portunix: Portunix, disk: Path) -> None:
    answer = portunix.run("vdisk", "list", "--json")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_workers_do_not_look_for_programs_there(portunix: Portunix, disk: Path, tmp_path: Path) -> None:
    texts = told(portunix.sync("environment", "--json").stdout)
    (path,) = [text for text in texts if text.startswith("PATH=")]
    assert path == f"PATH={os.environ['PATH']}"
    assert f"PYTHONPATH={tmp_path}" in texts


def test_without_a_disk_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTUNIX_VDISK", raising=False)
    before = dict(os.environ)
    leave_disk()
    assert dict(os.environ) == before
