"""The server of an image that others made: what it cannot read it says, and it never outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import ForeignType
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import ToolFailed
from portunix_vdisk.platform.linux.foreign import server_of
from portunix_vdisk.platform.linux.processes import arguments_of, running
from portunix_vdisk.platform.linux.serving import started


def servers_of(image: Path) -> list[int]:
    wanted = os.fsencode(image)
    return [pid for pid in running() if any(wanted in word for word in arguments_of(pid)[1:])]


def test_what_it_cannot_read_it_says(tmp_path: Path) -> None:
    image = tmp_path / "image.dmg"
    image.write_bytes(bytes(4096))
    with pytest.raises(ToolFailed, match="qemu-nbd"), started(Commands(), server_of(image, ForeignType.UDIF)):
        pass
    assert servers_of(image) == []


def test_ended_before_it_is_ready_it_takes_the_server_along(tmp_path: Path) -> None:
    """A pipe without a writer is opened for ever."""
    image = tmp_path / "image.vmdk"
    os.mkfifo(image)
    process = subprocess.Popen([*server_of(image, ForeignType.VMDK), tmp_path / "nbd"], start_new_session=True)
    while not any(b"qemu-nbd" in arguments_of(pid)[0] for pid in servers_of(image)):
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 1
    deadline = time.monotonic() + 10
    while servers_of(image) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers_of(image) == []
