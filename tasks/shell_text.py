"""A disk's environment for a shell or a process, for the surfaces above."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portunix_vdisk.steps.install.environment import Environment
from portunix_vdisk.steps.install.quoting import Shell, export_lines, quote

__all__ = ["Shell", "applied", "export_lines", "quote"]


def applied(disk: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the disk's on top; ``disk`` is what ``env`` tells."""
    found = Environment(Path(disk["root"]), disk["in_front"], disk["variables"])
    return found.applied(environment)
