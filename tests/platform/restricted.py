"""The attach program, run as sudo runs it for an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.linux import privilege
from portunix_vdisk.tests.platform.disks import PARTITION

USER, OTHER = 54321, 54322
PLACE = (f"--start={PARTITION.start}", f"--length={PARTITION.length}")


@dataclass
class Answer:
    status: int
    out: dict[str, object]
    error: dict[str, object]


def program(*words: str | Path, user: int | None = USER, more: dict[str, str] | None = None) -> Answer:
    """Run the program as sudo would for ``user``; None: as root itself."""
    environment = {"PATH": "/nowhere", **(more or {})}
    if user is not None:
        environment |= {"SUDO_UID": str(user), "SUDO_GID": str(user)}
    done = subprocess.run(
        [os.fsencode(word) for word in (*privilege.attach_command(), *words)],
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    out = json.loads(done.stdout) if done.stdout else {}
    error = json.loads(done.stderr)["error"] if done.stderr else {}
    return Answer(done.returncode, out, error)
