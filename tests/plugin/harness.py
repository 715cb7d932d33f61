"""A state folder of its own, the command line with stand-in operations in it, and a look at what is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from portunix_vdisk.platform.home import Home

STAND_IN = str(Path(__file__).with_name("stand_in.py"))


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def processes_of(root: Path) -> list[int]:
    """Every process whose environment says that it works for this state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"PORTUNIX_HOME={root}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def told(result: str) -> list[str]:
    """The texts in a result object, or in the envelope around it, that ``stand_in.told`` made."""
    value = json.loads(result)
    return [one["path"] for one in value.get("result", value)["planned"]]


class Portunix:
    """The command line with stand-in operations, in a state folder of its own."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.python = sys.executable
        self.script = STAND_IN
        self.environment = {**os.environ, "PORTUNIX_HOME": str(root)}
        self.environment.pop("NO_COLOR", None)

    def start(self, *arguments: str | bytes, **options: object) -> subprocess.Popen[bytes]:
        settings: dict[str, object] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": self.environment,
            "start_new_session": True,
        }
        return subprocess.Popen([self.python, self.script, "portunix", *arguments], **(settings | options))  # type: ignore[call-overload,no-any-return]

    def run(self, *arguments: str | bytes, **options: object) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess([], process.returncode, (out or b"").decode(), (err or b"").decode())

    def sync(self, what: str, *arguments: str | bytes, **options: object) -> subprocess.CompletedProcess[str]:
        return self.run("vdisk", "sync", "--source", what, "--target", "t", *arguments, **options)

    @property
    def socket(self) -> Path:
        return self.home.run / "plugin.sock"

    def server_pid(self) -> int:
        return int(self.home.run.joinpath("plugin.pid").read_text())
