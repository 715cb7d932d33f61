"""A disk with a small tool on it, and a terminal at which somebody uses it."""

from __future__ import annotations

import os
import pty
import select
import termios
import time
from pathlib import Path

from machine import BIN, Machine

from portunix_vdisk.steps.install.activation import write_activation
from portunix_vdisk.steps.install.record import Installed, InstalledTool, write_installed

TOOL = """#!/bin/sh
# hello: tells where it is and what it was given; what it says at once after Ctrl-C, a terminal may drop
here=$(dirname "$0")
printf '%s|' "$HELLO" "$PORTUNIX_VDISK" "$PWD" "$@"
echo
case "${1-}" in
exit) exit "$2" ;;
read) cat ;;
kill) kill -"$2" $$ ;;
wait)
    trap 'sleep 0.2; echo stopped; exit 9' INT TERM
    echo waiting
    i=0
    while [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done ;;
esac
"""


def mount_point(machine: Machine, name: str = "my-dev") -> str | None:
    disks = machine.vdisk("list", "--json").result["disks"]
    (found,) = [disk["mount_point"] for disk in disks if disk["name"] == name]
    return found


def install(root: Path) -> None:
    """A tool as an install leaves it: below /tools, a shim in /bin, the record, the activation files."""
    tool = InstalledTool(
        "hello", "1.0", "archive", "tools/hello/1.0", {"hello": "run"}, {"HELLO": "{folder}", "LD_PRELOAD": "x"}
    )
    (root / tool.folder).mkdir(parents=True)
    file = root / tool.folder / "run"
    file.write_text(TOOL)
    file.chmod(0o755)
    (root / "bin").mkdir()
    (root / "bin" / "hello").symlink_to("../tools/hello/1.0/run")
    (root / "projects" / "my app").mkdir(parents=True)
    node = InstalledTool("nodejs", "20.1.0", "pypi", "tools/nodejs/20.1.0", {"node": "node"})
    installed = Installed((tool, node)).with_tool(InstalledTool("nodejs", "18.1.0", "npm", "tools/nodejs/18.1.0"))
    write_installed(root, installed)
    write_activation(root, installed)


def own_place(machine: Machine) -> Path:
    return machine.home / "vdisk" / "mnt" / "my-dev"


terminals: list[Terminal] = []


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, machine: Machine, *words: str, **variables: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            termios.tcsetwinsize(0, (50, 500))  # shells shorten long prompts
            os.chdir(machine.folder)
            os.execve(
                BIN / "portunix", ["portunix", "vdisk", *words], {**machine.environment, "TERM": "dumb", **variables}
            )
        self.seen = b""
        terminals.append(self)

    def expect(self, text: bytes, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))[0], self.seen
            try:
                self.seen += os.read(self.terminal, 4096)
            except OSError:  # nobody has it open any more
                assert text in self.seen, self.seen
        self.seen = self.seen.partition(text)[2]

    def type(self, text: bytes) -> None:
        os.write(self.terminal, text)

    def end(self) -> int:
        while True:
            assert select.select([self.terminal], [], [], 30)[0], self.seen
            try:
                if not (more := os.read(self.terminal, 4096)):
                    break
                self.seen += more
            except OSError:
                break
        _, status = os.waitpid(self.pid, 0)
        os.close(self.terminal)
        terminals.remove(self)
        return os.waitstatus_to_exitcode(status)
