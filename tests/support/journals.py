"""A journal as doit would use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doit.dependency import JSONCodec

from portunix_vdisk.tasks.journal import Journal


def journal(path: Path) -> Journal:
    return Journal(str(path), JSONCodec())


def succeed(journal: Journal, task: str, values: dict[str, Any] | None = None) -> None:
    """What ``Dependency.save_success`` does."""
    journal.set(task, "_values_:", values or {})
    journal.set(task, "result:", "d41d8cd9")
    journal.set(task, "checker:", "MD5Checker")
    journal.set(task, "deps:", ())
