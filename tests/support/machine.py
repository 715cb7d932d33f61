"""A real PORTUNIX_HOME, the real console scripts, real images and mounts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


@dataclass
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def result(self) -> dict[str, Any]:
        return self.json["result"]


@dataclass
class Machine:
    """One person's machine: a state folder, a working folder, and the commands."""

    home: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    temporary: Path | None = None
    """The folder for temporary files, where it is this machine's own."""

    def run(
        self, *command: str | Path, check: int | None = None, folder: Path | None = None, timeout: float = 240
    ) -> Answer:
        done = subprocess.run(
            [os.fsencode(word) for word in command],
            cwd=folder or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        answer = Answer(
            done.returncode,
            done.stdout.decode(errors="backslashreplace"),
            done.stderr.decode(errors="backslashreplace"),
        )
        if check is not None:
            assert answer.code == check, f"{command} ended with {answer.code}\n{answer.out}\n{answer.err}"
        return answer

    def vdisk(self, *words: str | Path, check: int | None = 0, **more: Any) -> Answer:
        """``portunix vdisk WORDS``; must end with exit code ``check``."""
        return self.run(BIN / "portunix", "vdisk", *words, check=check, **more)

    def doit(self, *words: str | Path, check: int | None = 0, **more: Any) -> Answer:
        """``portunix vdisk doit WORDS``."""
        return self.vdisk("doit", *words, check=check, **more)

    def start(self, *words: str | Path) -> subprocess.Popen[bytes]:
        """The same in the background."""
        return subprocess.Popen(
            [os.fsencode(word) for word in (BIN / "portunix", "vdisk", *words)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def plugin_pid(self) -> int | None:
        answer = self.run(BIN / "portunix", "plugin", "status", "vdisk", "--json")
        return answer.json["result"].get("pid") if answer.code == 0 else None

    def kill_plugin(self) -> None:
        """SIGKILL to the plugin, its workers and their children: one process group."""
        pid = self.plugin_pid()
        if pid is not None:
            os.killpg(os.getpgid(pid), signal.SIGKILL)

    def disk(self, name: str) -> Path:
        """The image of a disk."""
        return Path(self.vdisk("info", name, "--json").result["disk"]["path"])
