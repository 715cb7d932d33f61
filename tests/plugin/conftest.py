from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from portunix_vdisk.tests.plugin.harness import Portunix, processes_of


@pytest.fixture
def root() -> Iterator[Path]:
    """A state folder with a short path; afterwards no process may work for it."""
    with tempfile.TemporaryDirectory(prefix="pv-") as folder:
        path = Path(folder, "home")
        yield path
        for pid in processes_of(path):
            with suppress(OSError):
                if b".py\0server\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while left := processes_of(path):
            if time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                pytest.fail(f"processes were left: {left}")
            time.sleep(0.02)
        run = path / "vdisk" / "run"
        assert not run.exists() or not list(run.iterdir())


@pytest.fixture
def portunix(root: Path) -> Portunix:
    return Portunix(root)
