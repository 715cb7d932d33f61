"""Plugin, worker and command line of their own for tests: a real server and real worker processes, but operations
that do what the test asks for. Run as ``stand_in.py worker|server|portunix ARGUMENTS``.

What an operation does is the text of its option ``source`` (of ``sync``) or ``name`` (of ``create``): words that are
looked up below. Everything else is production code.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portunix_vdisk.plugin import core, version

ME = str(Path(__file__).resolve())


@dataclass
class Request:
    operation: str
    options: Mapping[str, str]
    folder: Path
    assume_yes: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict)


DISK = {
    "name": "my-dev",
    "path": "/disks/my-dev.vhd",
    "size": "20.0 GB",
    "type": "vhd",
    "mount_point": None,
    "compressed": False,
    "encrypted": False,
    "created_at": "2025-01-01T00:00:00+00:00",
    "uuid": "12345678-1234-1234-1234-123456789abc",
    "size_bytes": 20_000_538_624,
    "used_bytes": 4_400_000,
    "file_system": "ext4",
    "fixed": False,
    "opens_on": ["linux", "wsl2"],
    "state": "ready",
    "partition": {"start": 1 << 20, "length": 19_998_441_472},
    "device": None,
    "read_only": False,
    "rootless": False,
    "owner": {"uid": 1000, "gid": 1000},
    "shown_as_yours": False,
    "problem": "",
}


def sync_result(**changed: Any) -> dict[str, Any]:
    numbers = ("files_copied", "bytes_copied", "deleted", "unchanged", "made_folders", "linked", "metadata_updated")
    result: dict[str, Any] = {"disk": "my-dev", "source": "/s", "target": "/t", **dict.fromkeys(numbers, 0)}
    return result | {"skipped": [], "conflicts": [], "dry_run": False} | changed


def told(*texts: str) -> dict[str, Any]:
    """A result that carries texts to the test: as the plan of a dry run."""
    planned = [{"action": "copy", "path": text} for text in texts]
    return sync_result(dry_run=True, planned=planned, planned_count=len(planned), failed=[])


class Engine:
    Request = Request

    def warm_up(self) -> None:
        print("warming up: must not get into the protocol")

    def run(self, request: Request, home: Any, listener: Any) -> Any:
        from portunix_vdisk.platform.errors import Interrupted, Refused
        from portunix_vdisk.steps.step import Question, QuestionKind

        if request.operation == "list":
            return {"disks": [DISK]}
        if request.operation == "create":
            return {"disk": DISK, "changed": True, "template": None}
        word, _, argument = request.options["source"].partition(" ")
        if word == "events":
            listener.task_skipped("sync:my-dev:scan")
            listener.task_started("sync:my-dev:copy", "copy files")
            for done in range(100_001):
                listener.progress("sync:my-dev:copy", done, 100_000, "B")
            listener.log("warning", "bytes \udcff are not UTF-8")
            listener.task_finished("sync:my-dev:copy", 0.5)
            print("noise on standard output")
            os.write(1, b"noise on descriptor 1")
            subprocess.run(["cat"], check=True)  # must not eat the control pipe
            return sync_result(skipped=["na\udcffme"], files_copied=3)
        if word == "ask":
            kind = QuestionKind(argument)
            choices = ("red", "blue") if kind is QuestionKind.CHOICE else ()
            answer = listener.ask(Question("q", kind, "really?", "--force", choices=choices))
            return told(answer)
        if word == "refuse":
            raise Refused("it is mounted", state="nothing was done", hint="portunix vdisk unmount my-dev")
        if word == "crash":
            raise ValueError("boom")
        if word == "exit":
            sys.exit(3)
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "echo":
            return sync_result(source=request.options["target"], target=str(request.folder))
        if word == "environment":
            return told(*(f"{name}={value}" for name, value in os.environ.items()))
        if word == "identity":
            texts = [str(os.getuid()), str(os.geteuid()), str(os.getsid(0)), str(os.getpgrp()), str(os.getcwd())]
            return told(*texts)
        if word == "log":
            for number in range(int(argument)):
                listener.log("info", f"line {number}")
            return sync_result()
        if word == "wait":  # works until it is told to stop, and leaves marks of that in the folder
            mark = Path(argument or os.devnull)
            if argument:
                whole = mark.with_name(mark.name + ".new")  # a reader that waits for the mark finds it whole
                whole.write_text(f"{os.getpid()}")
                whole.rename(mark)
            listener.task_started("sync:my-dev:copy", "copy files")
            for number in range(6000):
                listener.progress("sync:my-dev:copy", number, 6000, "files")
                if listener.cancelled():
                    if argument:
                        mark.with_name(mark.name + ".stopped").write_text("")
                    raise Interrupted("interrupted", state="kept", hint="run the same command to continue")
                time.sleep(0.01)
        if word == "sleep":
            time.sleep(float(argument))
        return sync_result()


def main() -> int:
    role, *arguments = sys.argv[1:]
    # Somebody who edits the code while tests run must not make plugins look outdated.
    version.build = lambda: os.environ.get("TEST_BUILD", "test")
    core._DEADLINE = float(os.environ.get("TEST_DEADLINE", "30"))
    if role == "worker":
        from portunix_vdisk.plugin import worker

        return worker.main(Engine)
    if role == "server":
        from portunix_vdisk.plugin import server

        return server.main(arguments, worker=(sys.executable, ME, "worker"))
    from portunix_vdisk.plugin import cli

    idle = os.environ.get("TEST_IDLE_SECONDS", "60")
    del sys.argv[1]
    return cli.program((sys.executable, ME, "server", "--idle-seconds", idle))


if __name__ == "__main__":
    sys.exit(main())
