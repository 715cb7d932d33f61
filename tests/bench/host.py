"""The machine that figures were measured on, in words."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def machine(folder: Path) -> str:
    """The machine in one line: cores, memory, kernel, filesystem below ``folder``, versions that matter."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [
        f"{os.cpu_count()} cores",
        f"{memory:.0f} GiB",
        f"Linux {platform.release()}",
        f"{_first_word('findmnt', '-no', 'FSTYPE', '-T', str(folder))} on the host",
        f"Python {platform.python_version()}",
        f"zstd {_first_word('zstd', '-qV')}",
        f"QEMU {_qemu()}",
    ]
    return ", ".join(parts)


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _first_word(*command: str) -> str:
    return next(iter(_said(*command).split()), "unknown")


def _qemu() -> str:
    words = _said("qemu-img", "--version").split()
    return words[2] if len(words) > 2 else "unknown"
