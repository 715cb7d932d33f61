"""Which platform this machine is."""

from __future__ import annotations

import sys
from collections.abc import Callable

from portunix_vdisk.platform.base import Platform
from portunix_vdisk.platform.errors import Missing


def this_platform(ask: Callable[[str], str] | None = None) -> Platform:
    """The platform of this machine.

    Args:
        ask: asks the person for a password (prompt to password) where root's rights need one.

    Raises:
        Missing: virtual disks do not work on this operating system yet.
    """
    if sys.platform == "linux":
        from portunix_vdisk.platform.linux.machine import LinuxPlatform

        return LinuxPlatform(ask)
    raise Missing(f"virtual disks do not work on {sys.platform} yet", hint="use Linux, or WSL2 on Windows")
