"""Tools on real disks, from the real registries, run from another place than where they were installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from machine import Machine


@pytest.fixture
def mounted(machine: Machine) -> Machine:
    machine.vdisk("create", "--name", "my-dev", "--size", "4GB", "--type", "img")
    machine.vdisk("mount", "my-dev", "mnt")
    return machine


def elsewhere(machine: Machine, name: str = "other") -> Path:
    """The disk, mounted at another place."""
    machine.vdisk("unmount", "my-dev")
    machine.vdisk("mount", "my-dev", name)
    return machine.folder / name


def said(root: Path, command: str, *words: str, **environment: str) -> str:
    """What a command of the disk prints, with nothing of this machine in its environment."""
    done = subprocess.run(
        [root / command, *words], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_tool_runs_where_the_disk_is_mounted_next(mounted: Machine) -> None:
    answer = mounted.vdisk("install", "nodejs@20", "--target", "mnt", "--json")
    assert answer.result["changed"] and answer.result["missing"] == []
    (tool,) = answer.result["tools"]
    assert tool["name"] == "nodejs" and tool["version"].startswith("20.") and tool["source"] == "pypi"

    again = mounted.vdisk("install", "nodejs@20", "--disk", "my-dev", "--json")
    assert again.result == answer.result | {"changed": False} and again.json["tasks"]["run"] == 0
    assert "up to date" in mounted.vdisk("install", "nodejs").out

    root = elsewhere(mounted)
    assert said(root, "bin/node", "--version").strip() == f"v{tool['version']}"
    assert said(root, "bin/npm", "--version")[:3] in ("10.", "11.")
    link = mounted.folder / "node"
    link.symlink_to("other/bin/node")
    assert said(mounted.folder, "node", "-p", "6*7").strip() == "42"
    assert os.listdir(root / ".vdisk") == ["installed.json"]


def test_what_cannot_be_is_refused(mounted: Machine) -> None:
    away = mounted.vdisk("install", "nodejs", "--target", ".", check=4)
    assert "is not on a mounted disk" in away.err and "mount the disk first" in away.err
    assert "did you mean nodejs?" in mounted.vdisk("install", "nodjs", check=2).err
    assert "npm:react or pip:react" in mounted.vdisk("install", "react", check=4).err
    mounted.vdisk("unmount", "my-dev")
    assert "portunix vdisk mount my-dev" in mounted.vdisk("install", "nodejs", "--disk", "my-dev", check=4).err
