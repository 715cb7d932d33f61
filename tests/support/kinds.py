"""Types of images for tests: two in every run, what differs from them in long ones.

``loop`` and ``dmg`` are ``img`` to everything below the operations.
"""

from __future__ import annotations

import pytest

from portunix_vdisk.platform.base import ImageType

USUAL = (ImageType.VHD, ImageType.IMG)
MORE = (ImageType.VHDX, ImageType.QCOW2, ImageType.VHD_FIXED)
EACH = [*USUAL, *(pytest.param(type, marks=pytest.mark.full) for type in MORE)]
"""For the parameters of tests and fixtures."""
FORMAT = {"vhd": "vpc", "vhdx": "vhdx", "qcow2": "qcow2", "img": "raw", "loop": "raw", "dmg": "raw"}
"""What QEMU calls the extensions."""
