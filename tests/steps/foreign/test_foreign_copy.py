"""Copying the disk out of somebody else's image: interrupted, continued, and read back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from silent import Silent

from portunix_vdisk.platform.base import ForeignType, ImageType
from portunix_vdisk.platform.errors import Interrupted
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.foreign.copy import CopyForeign
from portunix_vdisk.steps.step import Context

MIB = 1 << 20


def test_an_interrupted_copy_goes_on(tmp_path: Path) -> None:
    raw, image, partial = tmp_path / "raw", tmp_path / "image.vdi", tmp_path / "copy.vhd.partial"
    with raw.open("wb") as file:
        file.write(os.urandom(10 * MIB))
        file.seek(20 * MIB)
        file.write(os.urandom(MIB))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vdi", raw, image], check=True)
    step = CopyForeign(image, ForeignType.VDI, partial, ImageType.VHD)
    platform = LinuxPlatform()
    step.prepare(Context(platform, Silent(), "copy"))
    with pytest.raises(Interrupted):
        step.run(Context(platform, Silent(patience=2, kill=False), "copy"))
    result = step.run(Context(platform, Silent(), "copy"))
    assert result == {"written_bytes": 5 * MIB, "reused_bytes": 8 * MIB}
    subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "vpc", raw, partial], check=True)
