"""Folders for the tests of sync."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder in memory where there is one: the tests of every push sync a filesystem many times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="sync-test-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def source(top: Path) -> Path:
    """An empty source."""
    folder = top / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def disk(top: Path) -> Path:
    """An empty folder in the place of a mounted disk."""
    folder = top / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def target(disk: Path) -> Path:
    """A folder on the disk that does not exist yet."""
    return disk / "projects" / "app"
