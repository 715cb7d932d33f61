from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB, FileSystemType, Owner
from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.platform.linux.machine import LinuxPlatform


def test_filesystem_parameters(platform: LinuxPlatform, tmp_path: Path) -> None:
    for size, label in ((16 * MIB, "x"), (100 * MIB, "ä" * 20), (1 << 30, "-q")):
        file = tmp_path / "-filesystem"
        file.write_bytes(b"")
        os.truncate(file, size)
        uuid = "0b2f3d52-7d3c-4d19-8f0e-3c6f1a0d7c11"
        platform.make_filesystem(file, FileSystemType.EXT4, label=label, uuid=uuid, owner=Owner(1234, 567))
        shown = subprocess.run(["dumpe2fs", "-h", file], capture_output=True, text=True, check=True).stdout
        assert uuid in shown
        assert f"volume name:   {label[:8]}" in shown
        assert "has_journal" in shown
        root = subprocess.run(["debugfs", "-R", "stat /", file], capture_output=True, text=True, check=True).stdout
        assert "User:  1234   Group:   567" in root
        assert file.stat().st_size == size
    with pytest.raises(BadUsage):
        os.truncate(file, 13 * MIB)
        platform.make_filesystem(file, FileSystemType.EXT4, label="", uuid=uuid, owner=Owner(0, 0))
