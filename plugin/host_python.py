"""Which Python a person would run: packages on a disk that a host's pip installed are for one version only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_ASK = "import sys; print('%d.%d' % sys.version_info[:2])"


def host_python(environment: Mapping[str, str]) -> str:
    """Version, ``3.11``, of the ``python3`` in PATH; empty if there is none.

    The name of the file tells it nearly always, so that mostly no process is started for it.
    """
    found = shutil.which("python3", path=environment.get("PATH", os.defpath))
    if found is None:
        return ""
    if name := re.fullmatch(r"python(\d+\.\d+)", Path(os.path.realpath(found)).name):
        return name[1]
    try:
        done = subprocess.run(
            [found, "-I", "-S", "-c", _ASK],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    version = done.stdout.decode(errors="replace").strip()
    return version if re.fullmatch(r"\d+\.\d+", version) else ""
